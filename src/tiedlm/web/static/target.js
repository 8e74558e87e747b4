import {
  $, ask, bind, el, excuse, fill, fixed, heading, isPending, newest, percent, reading, remember,
  spoken, state, whole, wordButton, wordNode,
} from "./common.js";
import { chart, clean, ink, numbers } from "./charts.js";

export function start(page) {
  const first = page.first();
  const word = bind("word", "word", () => update(), first?.example ?? "");
  const text = bind("text", "text", () => update());
  const tau = slider("tau", "tau", first?.temperature ?? 20, Math.log10, (x) => 10 ** x, tidy);
  const gamma = slider("gamma", "gamma", first?.gamma || 0.65, (x) => x, (x) => x,
    (x) => String(Math.round(x * 100) / 100));

  const update = newest(async () => {
    const question = { runs: page.runs(), word: word.value, text: text.value,
      temperature: tau(), gamma: gamma() };
    const answer = await (await ask("target", question)).json();
    if (answer.superseded) return;
    show(answer, question);
    if (isPending(answer.runs)) setTimeout(update, 300);
  });

  function slider(id, name, fallback, toPlace, toValue, shown) {
    const field = $(id);
    const value = () => Number(shown(toValue(Number(field.value))));
    field.value = toPlace(Number(state.get(name) ?? fallback));
    const tell = () => {
      $(`${id}-shown`).textContent = shown(toValue(Number(field.value)));
      field.setAttribute("aria-valuetext", shown(toValue(Number(field.value))));
    };
    field.addEventListener("input", () => {
      remember({ [name]: value() });
      tell();
      update();
    });
    tell();
    return value;
  }

  function choose(chosen) {
    word.value = chosen;
    word.dispatchEvent(new Event("input"));
    word.focus();
  }

  const charts = new Map();

  function show(answer, question) {
    $("reading").textContent = reading(answer.runs);
    const blocks = answer.runs.map((run) => {
      const why = excuse(run, choose);
      if (why) return el("section", { class: "block" }, heading(page, run.name), why);
      return block(run, question);
    });
    fill($("blocks"), blocks);
    for (const run of answer.runs) if (run.curves) draw(run, question);
  }

  function block(run, question) {
    const uniform = 1 / run.words;
    const largest = Math.max(...run.rows.map((row) => row.soft));
    const predicted = Math.max(...run.rows.map((row) => row.prediction));
    const likely = Math.max(...run.rows.map((row) => row.p));
    const pushed = Math.max(...run.rows.map((row) => Math.abs(row.push)));
    const own = run.rows.find((row) => row.is_target);
    const rows = run.rows.map((row, place) => el("tr",
      { class: row.is_target ? "is-target" : place === run.soft_rows ? "divider" : null },
      el("th", { scope: "row" }, wordButton(row.word, choose)),
      bar(row.soft, largest, "var(--run3)"), bar(row.prediction, predicted, "var(--run2)"),
      bar(row.p, likely, "var(--run0)"), push(row.push, pushed)));
    if (!charts.has(run.name)) {
      charts.set(run.name, el("div", {}, el("div", { class: "chart small", role: "img",
        "aria-label": "Soft target of the nearest words against the temperature; " +
          "the table below has its numbers" })));
    }
    return el("section", { class: "block" }, heading(page, run.name),
      el("p", { class: "sum" }, "At ", el("i", {}, "τ"), ` = ${tidy(question.temperature)}, the soft target gives `,
        el("b", {}, el("bdi", {}, run.word)), ` ${percent(own?.soft ?? 0)}, `,
        `${ratio((own?.soft ?? 0) / uniform)} an equal share. Its entropy is ${fixed(run.entropy, 2)} of at most `,
        `${fixed(Math.log2(run.words), 2)} bits.`),
      el("p", { class: "sum" }, el("i", {}, "J"), ` = ${fixed(run.ce, 3)} nats, `,
        el("i", {}, "J"), el("sub", {}, "aug"), ` = ${small(run.aug)}; `, el("i", {}, "J + α J"),
        el("sub", {}, "aug"), ` = ${fixed(run.total, 3)} with `,
        el("span", { class: "nowrap" }, el("i", {}, "α = γτ"), ` = ${tidy(run.alpha)}.`)),
      el("div", { class: "scroll", role: "region", tabindex: "0",
        "aria-label": `Soft target and prediction, ${run.name}` },
      el("table", { class: "narrow" }, el("thead", {}, el("tr", {},
        el("th", { scope: "col" }, "Word"),
        [["soft target", "ỹ"], ["prediction", "ŷ"], ["probability", "p"], ["push", ""]].map(
          ([name, sign]) => el("th", { scope: "col" }, name, el("br"), el("i", {}, sign || "\u00a0"))))), el("tbody", {}, rows))),
      charts.get(run.name));
  }

  function draw(run, question) {
    const traces = run.curves.map((curve, place) => ({
      x: run.temperatures, y: curve.values, mode: "lines", name: clean(spoken(curve.word)),
      line: { width: place === 0 ? 3 : 1.75, color: ink(`--run${(3 + place) % 8}`) },
      hovertemplate: `${clean(spoken(curve.word))} %{y:.3~p}<extra>τ %{x:.3~g}</extra>`,
    }));
    const least = 1 / run.words / 3;
    const place = charts.get(run.name).firstChild;
    numbers(place, `Soft target against the temperature, ${run.name}`, () => ({
      heads: [el("i", {}, "τ"), ...run.curves.map((curve) => wordNode(curve.word))],
      rows: run.temperatures.map((tau, row) => [tidy(tau),
        ...run.curves.map((curve) => percent(curve.values[row]))]),
    }));
    chart(place, traces, {
      xaxis: { type: "log", title: { text: "temperature τ" }, dtick: 1 },
      yaxis: { type: "log", title: { text: "soft target ỹ" }, range: [Math.log10(least), 0.1],
        tickformat: "~p" },
      shapes: [
        { type: "line", x0: question.temperature, x1: question.temperature, y0: 0, y1: 1,
          yref: "paper", line: { color: ink("--accent"), width: 1.5, dash: "dot" } },
        { type: "line", x0: 0, x1: 1, xref: "paper", y0: 1 / run.words, y1: 1 / run.words,
          line: { color: ink("--soft"), width: 1, dash: "dash" } },
      ],
      annotations: [{ xref: "paper", x: 0, xanchor: "left", y: Math.log10(1 / run.words),
        yanchor: "bottom", text: "equal shares", showarrow: false,
        font: { color: ink("--soft"), size: 12 } }],
      margin: { l: 62, r: 8, t: 8, b: 44 }, legend: { x: 1, xanchor: "right", y: 1 },
    });
  }

  return update;
}

function bar(value, largest, colour) {
  return el("td", { class: "bar", "--c": colour, "--p": (value / largest).toFixed(4) },
    percent(value));
}

function push(value, largest) {
  return el("td", { class: value < 0 ? "push down" : "push",
    "--p": (Math.abs(value) / largest).toFixed(4) },
  `${value < 0 ? "\u2212" : "+"}${percent(Math.abs(value))}`);
}

const tidy = (x) => String(Number(x.toPrecision(x < 10 ? 2 : 3)));
const small = (x) => (x >= 0.01 ? fixed(x, 3) : Math.abs(x) < 1e-6 ? "0.000000" : x.toPrecision(2));
const ratio = (x) => `${x < 10 ? x.toFixed(2) : whole(x)} times`;
