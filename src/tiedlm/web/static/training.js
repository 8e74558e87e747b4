import { $, ask, el, excuse, fill, fixed, newest, remember, state, whole } from "./common.js";
import { chart, clean, ink, numbers } from "./charts.js";

const HEADS = ["Run", "Epochs", "Best validation", "Test", "Learning rate", "Words a second", "State"];
const EVERY = 2000; // milliseconds between two looks at a run that is being trained
const ABOVE = 1.6; // times the best perplexity: what is higher is cut off

/** Return a row for each epoch, with what the chart shows of each run. */
function table(runs, keys) {
  const epochs = [...new Set(runs.flatMap((run) => run.curve.map((line) => line.epoch)))]
    .filter((epoch) => epoch !== null).sort((a, b) => a - b);
  const columns = runs.flatMap((run) => keys.map((key) => ({ run, key })));
  return {
    heads: ["Epoch", ...columns.map(({ run, key }) => [el("bdi", {}, run.name),
      el("small", {}, key === "valid_ppl" ? "validation" : "training")]).map((parts) =>
      el("span", {}, ...parts))],
    rows: epochs.map((epoch) => [epoch, ...columns.map(({ run, key }) =>
      fixed(run.curve.find((line) => line.epoch === epoch)?.[key], 1) +
      (key === "valid_ppl" && epoch === run.best_epoch ? " (best)" : ""))]),
  };
}

/** Say which perplexities cannot be compared, and which are per word or per piece. */
function comparable(runs, perPiece) {
  const groups = new Map();
  for (const { name, text } of runs.filter((run) => run.curve?.length)) {
    groups.set(text, [...(groups.get(text) ?? []), name]);
  }
  const names = (some) => some.map((run) => run.name).join(" and ");
  const perWord = runs.filter((run) => run.per_word);
  return [
    groups.size > 1 ? "Perplexities can be compared only within a group, because the text or the " +
      `vocabulary differs between groups: ${[...groups.values()].map((one) =>
        one.join(", ")).join("; ")}.` : "",
    perWord.length ? `${names(perWord)}: of pieces, but the perplexity is per word.` : "",
    perPiece.length ? `${names(perPiece)}: the perplexity is per piece.` : "",
  ].filter(Boolean).join(" ");
}

export function start(page) {
  const boxes = ["valid", "train"].map((id) => {
    const box = $(id);
    if (state.has(id)) box.checked = state.get(id) === "1";
    box.addEventListener("change", () => {
      remember({ [id]: box.checked ? "1" : "0" });
      update();
    });
    return box;
  });
  let timer = 0;

  const update = newest(async () => {
    const answer = await (await ask("training", { runs: page.runs() })).json();
    if (answer.superseded) return;
    show(answer.runs);
    clearTimeout(timer);
    timer = setTimeout(update, EVERY);
  });

  let shown = "";
  function show(runs) {
    const perPiece = runs.filter((run) => page.isOfPieces(run.name) && run.per_word === false);
    const text = JSON.stringify([runs, perPiece, boxes.map((box) => box.checked),
      matchMedia("(prefers-color-scheme: dark)").matches]);
    if (text === shown) return;
    shown = text;
    $("reading").textContent = comparable(runs, perPiece);
    fill($("table"), el("thead", {}, el("tr", {}, HEADS.map((head) =>
      el("th", { scope: "col", class: head === "State" ? "left" : null }, head)))), el("tbody", {}, runs.map(row)));
    draw(runs.filter((run) => run.curve?.length));
  }

  function row(run) {
    const head = el("th", { scope: "row" }, el("span", { class: "dot", "--c": page.colour(run.name) }),
      " ", el("bdi", {}, run.name));
    const why = excuse(run);
    if (why) return el("tr", {}, head, el("td", { colspan: HEADS.length - 1, class: "left" }, why));
    const last = run.curve.at(-1) ?? {};
    const speeds = run.curve.map((line) => line.tokens_per_second).filter(Boolean);
    return el("tr", {}, head,
      el("td", {}, `${last.epoch ?? 0} of ${run.epochs ?? "?"}`),
      el("td", {}, run.best === null ? "–" : `${fixed(run.best, 1)} `,
        run.best === null ? null : el("small", {}, `epoch ${run.best_epoch}`)),
      el("td", {}, fixed(run.test, 1)),
      el("td", {}, last.lr === undefined || last.lr === null ? "–" : Number(last.lr.toPrecision(3))),
      el("td", {}, speeds.length ? whole(speeds.at(-1)) : "–"),
      el("td", { class: "left" }, run.state));
  }

  function draw(runs) {
    const kinds = [["valid_ppl", "solid", boxes[0]], ["train_ppl", "dot", boxes[1]]]
      .filter(([, , box]) => box.checked);
    const values = runs.flatMap((run) => kinds.flatMap(([key]) =>
      run.curve.map((line) => line[key]).filter((value) => value !== null)));
    $("chart").hidden = !values.length;
    numbers($("chart"), "Perplexity by epoch", () => table(runs, kinds.map(([key]) => key)));
    if (!values.length) return;
    const traces = runs.flatMap((run) => kinds.map(([key, dash]) => ({
      x: run.curve.map((line) => line.epoch), y: run.curve.map((line) => line[key]),
      mode: run.curve.length < 2 ? "markers" : "lines",
      name: clean(run.name) + (key === "train_ppl" ? " (training)" : ""),
      showlegend: key === "valid_ppl" || !boxes[0].checked,
      line: { color: ink(page.colour(run.name)), dash, width: 2.25 },
      hovertemplate: "%{y:.1f}<extra>%{fullData.name}, epoch %{x}</extra>",
    })));
    if (boxes[0].checked) {
      traces.push(...runs.map((run) => ({ x: [run.best_epoch], y: [run.best], mode: "markers",
        showlegend: false, hoverinfo: "skip",
        marker: { size: 9, color: ink("--page"), line: { color: ink(page.colour(run.name)), width: 2.25 } } })));
    }
    const low = Math.min(...values);
    const ends = runs.flatMap((run) => kinds.map(([key]) => run.curve.at(-1)[key] ?? low));
    const best = Math.min(...runs.map((run) => (boxes[0].checked ? run.best : low)));
    const high = Math.min(Math.max(...values), Math.max(ABOVE * best, ...ends));
    const margin = 0.06 * (high - low) || 0.05 * low;
    const last = Math.max(...runs.map((run) => run.curve.at(-1).epoch));
    chart($("chart"), traces, {
      xaxis: { title: { text: "epoch" }, range: [0.5, last + 0.5], tickformat: "d" },
      yaxis: { title: { text: "perplexity" }, range: [low - margin, high + margin] },
      margin: { l: 55, r: 10, t: 10, b: 45 }, showlegend: true,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, hovermode: "closest",
    });
  }

  return update;
}
