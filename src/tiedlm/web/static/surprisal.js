import { $, askLong, bind, el, excuse, fixed, heading, newest, noProblem, problem, spoken, whole } from "./common.js";

const BITS = 2; // of a step of the colours
const STEPS = 8;
const PAUSE = 200; // milliseconds without a keystroke before a text is read

export function start(page) {
  const text = bind("text", "text", () => later());
  let timer = 0;
  let stop = new AbortController();

  function later() {
    stop.abort();
    clearTimeout(timer);
    timer = setTimeout(update, PAUSE);
  }

  async function update() {
    stop.abort();
    clearTimeout(timer);
    const own = (stop = new AbortController());
    const blocks = new Map();
    $("scale").hidden = !text.value.trim();
    $("blocks").replaceChildren();
    $("reading").textContent = "";
    if (!text.value.trim()) return;
    if (text.value.length > 200000) {
      $("reading").textContent = "The text is longer than 200,000 characters; " +
        "`tiedlm score` reads texts of any length.";
      return;
    }
    for (const name of page.runs()) {
      const block = new Block(page, name);
      blocks.set(name, block);
      $("blocks").append(block.node);
    }
    let waits = false;
    try {
      await askLong("surprisal", { runs: page.runs(), text: text.value }, own.signal, (found) => {
        if (own.signal.aborted) return;
        blocks.get(found.name)?.add(found);
        waits ||= Boolean(found.pending);
      });
      noProblem();
      if (waits) timer = setTimeout(update, 300);
    } catch (error) {
      if (error.name !== "AbortError") problem(error);
    }
  }

  return update;
}

/** The coloured words of one run. */
class Block {
  constructor(page, name) {
    this.words = [];
    this.at = -1;
    this.name = name;
    this.numbers = el("p", { class: "sum numbers", role: "status" }, "…");
    this.text = el("div", { class: "colour", tabindex: "0", role: "group",
      "aria-label": `Words by surprisal, ${name}; arrow keys move`,
      onkeydown: (event) => this.key(event),
      onpointerover: (event) => this.show(Number(event.target.dataset.place ?? -1)) });
    this.links = el("p", { class: "buttons" });
    this.node = el("section", { class: "block" }, heading(page, name), this.numbers, this.text,
      this.links);
  }

  add(found) {
    const why = excuse(found);
    if (why) {
      this.node.replaceChildren(this.node.firstChild, why);
      return;
    }
    const made = document.createDocumentFragment();
    for (const word of found.words) {
      const [text, bits, , , known] = word;
      const step = bits === null ? 0 : Math.min(STEPS - 1, Math.floor(bits / BITS));
      const classes = [`s${step}`, known ? "" : "unknown", text === "<eos>" ? "special" : ""];
      made.append(el("span", { class: classes.join(" ").trim(), "data-place": this.words.length },
        text === "<eos>" ? "¶" : text), text === "<eos>" ? el("br") : " ");
      this.words.push(word);
    }
    this.text.append(made);
    if (found.table === undefined) {
      this.numbers.textContent = `… ${whole(this.words.length)} words`;
      return;
    }
    const unknown = found.unknown && el("span", { class: "note" },
      ` ${found.unknown[0].toUpperCase()}${found.unknown.slice(1)}.`);
    this.numbers.replaceChildren(`${found.summary.replace("<eos>", "ends of lines")}.`, unknown);
    const url = URL.createObjectURL(new Blob([found.table], { type: "text/tab-separated-values" }));
    this.links.replaceChildren(el("a", { href: url, download: fileName(this.name) },
      "Download the table (TSV)"));
  }

  show(place) {
    if (place < 0 || place >= this.words.length) return;
    this.text.querySelector(".at")?.classList.remove("at");
    const node = this.text.querySelector(`[data-place="${place}"]`);
    node.classList.add("at");
    this.at = place;
    const [word, bits, entropy, rank, known] = this.words[place];
    this.numbers.replaceChildren(el("b", {}, el("bdi", {}, spoken(word))),
      `: ${fixed(bits, 2)} bits, rank ${rank ? whole(rank) : "–"}; the entropy before it was ` +
      `${fixed(entropy, 2)} bits${known ? "" : "; the model reads it as the unknown word"}.`);
    return node;
  }

  key(event) {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const place = Math.max(0, Math.min(this.words.length - 1, this.at + steps[event.key]));
    this.show(place)?.scrollIntoView({ block: "nearest" });
  }
}

const fileName = (name) => `surprisal-${name.replace(/[^\p{L}\p{N}._-]+/gu, "-").slice(0, 60)}.tsv`;
