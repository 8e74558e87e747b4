import {
  $, ask, bind, bindChoice, el, excuse, fill, fixed, heading, isPending, newest, percent, remember,
  state, spoken, whole,
} from "./common.js";
import { Scatter } from "./scatter.js";

const LABEL = "Map of the words. Arrow keys go to the next word that is named, plus and minus zoom, " +
  "0 shows everything, Enter searches the word";

export function start(page) {
  const word = bind("word", "word", () => update());
  const space = bindChoice("space", () => update());
  const count = $("count");
  count.value = state.get("count") ?? "1000";
  if (!count.value) count.value = "1000";
  count.addEventListener("change", () => {
    remember({ count: count.value });
    update();
  });

  const maps = new Map(); // run -> its map, and the points that it has

  const update = newest(async () => {
    const names = page.runs();
    const wanted = `${space()} ${count.value}`;
    const known = names.every((name) => maps.get(name)?.wanted === wanted);
    const question = { runs: names, word: word.value, space: space(),
      count: known ? 0 : Number(count.value) }; // points are sent once, not at every keystroke
    const answer = await (await ask("map", question)).json();
    if (answer.superseded) return;
    const stale = known && answer.runs.some((run) => run.model &&
      run.model !== maps.get(run.name).model);
    if (stale) {
      for (const name of names) maps.get(name).wanted = null;
      update();
      return;
    }
    fill($("blocks"), answer.runs.map((run) => block(run, known ? null : wanted)));
    for (const run of answer.runs) if (run.model) draw(run);
    if (isPending(answer.runs)) setTimeout(update, 300);
  });

  function choose(chosen) {
    word.value = chosen;
    word.dispatchEvent(new Event("input"));
  }

  function mapOf(run) {
    if (!maps.has(run.name)) {
      const said = el("p", { class: "sum at", role: "status" },
        "Point at a word, or move with the arrow keys.");
      const tell = (point, near) => said.replaceChildren(el("b", {}, el("bdi", {}, spoken(point.word))),
        ` is word ${whole(point.number)} of the vocabulary. Beside it on the map: `,
        ...listed(near.map((one) => spoken(one.word))), ".");
      const scatter = new Scatter(`${LABEL}; ${run.name}`, tell, (point) => choose(point.word));
      maps.set(run.name, { scatter, said });
    }
    return maps.get(run.name);
  }

  function block(run, wanted) {
    const why = run.model ? null : excuse(run, choose);
    if (why) return el("section", { class: "block" }, heading(page, run.name), why);
    const own = mapOf(run);
    if (wanted) Object.assign(own, { wanted, model: run.model, points: pointsOf(run) });
    const share = run.shares.reduce((sum, one) => sum + one, 0);
    const more = `${whole(own.points.length)} of ${whole(run.vocabulary)} words; the two directions ` +
      `hold ${percent(share)} of the variance${run.tied ? "; tied: L = W" : ""}`;
    return el("section", { class: "block" }, heading(page, run.name, more),
      excuse({ missing: run.missing, suggestions: run.suggestions }, choose),
      run.found ? el("p", { class: "sum" }, "Nearest to ", el("b", {}, el("bdi", {}, run.found[0])),
        ": ", run.found.slice(1).flatMap((near, place) => [place ? ", " : "", el("bdi", {}, near),
          ` ${fixed(run.cosines[place + 1], 2)}`]), ".") : null,
      own.scatter.node, own.said);
  }

  function draw(run) {
    const { scatter, points } = maps.get(run.name);
    const found = (run.found ?? []).map((name, place) => points[run.found_ids[place]] ?? {
      x: run.found_places[0][place], y: run.found_places[1][place], word: name,
      number: run.found_ids[place] + 1,
    });
    const others = found.filter((point) => point.number > points.length);
    scatter.show([...points, ...others], found, run.vocabulary);
    legend(run.vocabulary);
  }

  return update;
}

function pointsOf(run) {
  const [xs, ys] = run.places;
  return run.words.map((word, place) => ({ x: xs[place], y: ys[place], word, number: place + 1 }));
}

const listed = (words) => words.flatMap((word, place) => [
  place ? (place === words.length - 1 ? " and " : ", ") : "", el("bdi", {}, word)]);

/** Say what the colours are: the scale is logarithmic. */
function legend(most) {
  const last = Math.log10(Math.max(2, most));
  const ticks = [0, 1, 2, 3, 4, 5].filter((power) => power < 0.875 * last);
  fill($("scale"), el("span", {}, "Place in the vocabulary"),
    el("span", { class: "frequency" }, [...ticks.map((power) => [power / last, whole(10 ** power)]),
      [1, whole(most)]].map(([at, text]) => el("span", { "--at": at.toFixed(3) }, text))));
  $("scale").hidden = false;
}
