import {
  $, ask, bind, el, excuse, fill, fixed, heading, isPending, newest, wordButton,
} from "./common.js";

const NAMES = { L: "word vectors L", W: "classifier W" };

export function start(page) {
  const word = bind("word", "word", () => update(), page.first()?.example ?? "");

  const update = newest(async () => {
    const answer = await (await ask("neighbours", { runs: page.runs(), word: word.value })).json();
    if (answer.superseded) return;
    fill($("blocks"), answer.runs.map(block));
    if (isPending(answer.runs)) setTimeout(update, 300);
  });

  function choose(chosen) {
    word.value = chosen;
    word.dispatchEvent(new Event("input"));
  }

  function block(run) {
    const why = excuse(run, choose);
    if (why) return el("section", { class: "block" }, heading(page, run.name), why);
    const both = new Set(run.shared ?? []);
    const note = run.tied ? "tied: one matrix"
      : `${both.size} of ${run.lists.L.length} words are in both lists`;
    return el("section", { class: "block" }, heading(page, run.name, note),
      el("div", { class: "lists" }, Object.entries(run.lists).map(([space, near]) =>
        el("div", {}, el("h3", {}, run.tied ? "L = W" : NAMES[space]),
          el("ol", { class: "near" }, near.map((one) => el("li", {},
            el("span", { class: both.has(one.word) ? "both" : null },
              wordButton(one.word, choose)), fixed(one.cosine, 3))))))));
  }

  return update;
}
