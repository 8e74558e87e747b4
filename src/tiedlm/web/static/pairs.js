import {
  $, ask, el, excuse, fill, fixed, isPending, newest, percent, remember, runHead, state,
} from "./common.js";

const MOST = 100;

export function start(page) {
  const good = state.getAll("good");
  const bad = state.getAll("bad");
  const count = Math.min(MOST, Math.max(1, good.length, bad.length));
  const rows = [];

  const update = newest(async () => {
    const kept = rows.map((row) => row.map((field) => field.value));
    remember({ good: kept.map(([one]) => one || " "), bad: kept.map(([, two]) => two || " ") });
    const typed = kept.filter(([one, two]) => one.trim() && two.trim());
    $("reading").textContent = typed.length ? "" : "Type both sentences of a pair.";
    if (!typed.length) {
      fill($("table"));
      return;
    }
    const question = { runs: page.runs(), good: typed.map(([one]) => one),
      bad: typed.map(([, two]) => two) };
    const answer = await (await ask("pairs", question)).json();
    if (answer.superseded) return;
    show(answer.runs, typed);
    if (isPending(answer.runs)) setTimeout(update, 300);
  });

  function add(one = "", two = "") {
    const fields = [one, two].map((value, place) => {
      const field = el("input", { type: "text", autocomplete: "off", autocapitalize: "off",
        spellcheck: "false", oninput: update,
        placeholder: place ? "the laws is old" : "the laws are old" });
      field.value = value.trim();
      return field;
    });
    const row = el("div", { class: "pair" },
      el("label", {}, "Good sentence", fields[0]), el("label", {}, "Bad sentence", fields[1]),
      el("button", { type: "button", "aria-label": "Remove this pair", onclick: () => remove(row) },
        "Remove"));
    rows.push(fields);
    $("pairs").append(row);
    $("add").disabled = rows.length >= MOST;
    return fields[0];
  }

  function remove(row) {
    const place = [...$("pairs").children].indexOf(row);
    rows.splice(place, 1);
    row.remove();
    if (!rows.length) add();
    $("add").focus();
    update();
  }

  function show(runs, typed) {
    const body = typed.map(([one, two], place) => el("tr", {},
      el("th", { scope: "row" }, el("bdi", {}, one), el("small", {}, "rather than: ", el("bdi", {}, two))),
      runs.map((run) => cell(run, run.pairs?.[place]))));
    fill($("table"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Pair"),
        runs.map((run) => runHead(page, run.name)))),
      el("tbody", {}, body),
      typed.length < 2 ? null : el("tfoot", {}, el("tr", {}, el("th", { scope: "row" }, "Right"),
        runs.map((run) => el("td", {}, run.interval
          ? [`${run.correct} of ${run.judged}`, el("br"), el("small", {},
            `95%: ${percent(run.interval[0])} to ${percent(run.interval[1])}`)] : "–")))));
  }

  for (let place = 0; place < count; place += 1) add(good[place], bad[place]);
  $("add").addEventListener("click", () => add().focus());
  return update;
}

function cell(run, pair) {
  if (!pair) return el("td", { class: "left" }, excuse(run));
  if (pair.error) return el("td", { class: "left" }, excuse(pair));
  const verdict = pair.tie ? el("span", { class: "no" }, "= tie")
    : pair.correct ? el("span", { class: "yes" }, "✓ right") : el("span", { class: "no" }, "✗ wrong");
  const why = pair.unknown_only ? "; they differ in unknown words only"
    : pair.unknown ? `; ${pair.unknown} unknown` : "";
  return el("td", { class: "verdict" }, verdict, ` by ${fixed(Math.abs(pair.difference), 2)} bits`,
    el("br"), el("small", {}, `good ${fixed(pair.good, 1)}, bad ${fixed(pair.bad, 1)}${why}`));
}
