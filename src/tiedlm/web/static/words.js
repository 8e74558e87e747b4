import {
  $, ask, bind, bindChoice, el, excuse, fill, fixed, isPending, newest, percent, reading, runHead,
  times, whole, wordButton, wordNode,
} from "./common.js";

const FAR = 4; // a ratio that is shown in bold
// Pieces that cannot be typed: blanks, parts of characters, and what has no text.
const NO_TEXT = /^▁+$|<0x|^<(unk|(unused|piece)-\d+)>$/;

export function start(page) {
  const text = bind("text", "text", () => update());
  const word = bind("word", "word", () => update());
  const order = bindChoice("order", () => update());

  const update = newest(async () => {
    const question = { runs: page.runs(), text: text.value, word: word.value, order: order() };
    const answer = await (await ask("words", question)).json();
    if (answer.superseded) return;
    show(answer);
    if (isPending(answer.runs)) setTimeout(update, 300);
  });

  function add(chosen) {
    const line = chosen === "<eos>" ? "" : chosen;
    text.value = `${text.value}${text.value && !/\s$/.test(text.value) ? " " : ""}${line} `;
    text.dispatchEvent(new Event("input"));
  }

  /** Add a piece as it stands in a text: with a blank before it only if it begins a word. */
  function addPiece(chosen) {
    text.value = `${text.value.trimEnd()}${chosen.replaceAll("▁", " ")}`.trimStart();
    text.dispatchEvent(new Event("input"));
  }

  function show(answer) {
    $("reading").textContent = reading(answer.runs);
    const several = answer.runs.length > 1;
    const joined = answer.runs.some((run) => run.joined);
    const choice = ({ word, piece }) => (piece && joined && NO_TEXT.test(word) ? wordNode(word)
      : wordButton(word, piece && joined && word !== "<eos>" ? addPiece : add));
    const heads = answer.runs.map((run) => runHead(page, run.name,
      run.entropy === undefined ? excuse(run) : el("small", {
        title: "Entropy, and the number of equally likely words with the same entropy",
      }, `${fixed(run.entropy, 2)} bits, as ${whole(run.choices)} words`)));
    const tops = answer.runs.map((_, place) =>
      Math.max(1e-9, ...answer.rows.map((row) => row.cells[place]?.p ?? 0)));
    const top = Math.max(1e-9, ...tops);
    const rows = answer.rows.map((row) => el("tr",
      { class: [row.looked ? "looked" : "", row.ratio >= FAR ? "far" : ""]
        .join(" ").trim() || null },
      el("th", { scope: "row" }, choice(row)),
      row.cells.map((cell, place) => cellNode(cell, page.colour(answer.runs[place].name), top)),
      several ? el("td", { class: "ratio" }, row.ratio === null ? "" : times(row.ratio)) : null));
    fill($("table"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Word"), heads,
        several ? el("th", { scope: "col" }, "Ratio") : null)),
      el("tbody", {}, rows));
    $("pieces").hidden = !answer.runs.some((run) => run.pieces);
    const apart = answer.apart;
    fill($("apart"), apart === null ? null : el("span", {}, "Furthest apart: ",
      el("bdi", {}, apart.runs[0]), " and ", el("bdi", {}, apart.runs[1]),
      `, ${fixed(apart.bits, 3)} bits (Jensen–Shannon: 0 is the same distribution, 1 has no word ` +
      "in common)."));
  }

  return update;
}

function cellNode(cell, colour, top) {
  if (!cell) return el("td", { class: "faint", title: "not in this model's vocabulary" }, "–");
  return el("td", { class: "bar", "--c": colour, "--p": (cell.p / top).toFixed(4) },
    el("small", {}, `#${whole(cell.rank)}`), ` ${percent(cell.p)}`);
}
