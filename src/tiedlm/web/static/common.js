// What all views share: elements, numbers, the state in the address, questions to the server.
// Texts of runs and words are only ever set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** Return an element. Attributes that begin with "on" are listeners; "--x" are CSS variables. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) made.style.setProperty(name, value);
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// A Map, because every object has a "constructor" and "__proto__", which are words, too.
const SPOKEN = new Map([["<unk>", "unknown word"], ["<eos>", "end of line"]]);
export const spoken = (word) => SPOKEN.get(word) ?? word;

/** Return a word as an element, apart from the direction of the text around it. */
export function wordNode(word) {
  return el("bdi", { class: SPOKEN.has(word) ? "special" : null }, spoken(word));
}

export function wordButton(word, action) {
  return el("button", { type: "button", class: "word", onclick: () => action(word) },
    wordNode(word));
}

// Numbers

export function percent(p) {
  if (p === null) return "–";
  const value = 100 * p;
  if (value >= 9.95) return `${value.toFixed(1)}%`;
  if (value >= 0.1) return `${value.toFixed(2)}%`;
  if (value >= 0.001) return `${value.toPrecision(2)}%`;
  return value > 0 ? "<0.001%" : "0%";
}

export const fixed = (value, digits) =>
  value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "\u2212");

export function whole(value) {
  return Math.round(value).toLocaleString("en");
}

export function times(ratio) {
  return ratio >= 1000 ? ">1,000" : `×${ratio.toFixed(ratio < 9.95 ? 1 : 0)}`;
}

// The address: what a view shows is behind "#", so it can be kept and is not sent anywhere.

let timer = 0;
export const state = new URLSearchParams(location.hash.slice(1));

/** Remember values in the address; empty ones are left out. */
export function remember(values) {
  for (const [name, value] of Object.entries(values)) {
    state.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null) state.append(name, one);
    }
  }
  clearTimeout(timer); // a browser allows few changes a second
  timer = setTimeout(writeAddress, 400);
}

/** Write what is to be remembered now, if anything is. */
export function writeRest() {
  if (timer) writeAddress();
}

export function writeAddress() {
  clearTimeout(timer);
  timer = 0;
  const text = state.toString();
  const path = location.pathname === "/" ? `/${document.body.dataset.view}` : location.pathname;
  history.replaceState(null, "", path + (text ? `#${text}` : ""));
}

// Questions

const AGAIN = 2000; // milliseconds until a question that did not reach the server is asked again
const asker = crypto.randomUUID();
const json = { "Content-Type": "application/json", "X-Tiedlm-Page": asker };

export class Gone extends Error {}
class Unreachable extends Gone {}

export async function ask(name, question, signal) {
  let response;
  try {
    response = await fetch(`/api/${name}`,
      { method: "POST", headers: json, body: JSON.stringify(question), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable(
      "The server has stopped. Start `tiedlm explore` again, then open its new address.");
  }
  if (!response.ok) throw new Gone((await response.text()).trim());
  return response;
}

/** Ask for a text that grows; call `each` for every line of JSON. */
export async function askLong(name, question, signal, each) {
  const reader = (await ask(name, question, signal)).body
    .pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) each(JSON.parse(line));
  }
}

/**
 * Return a function that runs `work` once at a time. Calls that come meanwhile lead to one more
 * run after it, whatever their number: answers never queue up. Work that did not reach the server,
 * as after a pause of the connection to another machine, is done again later.
 */
export function newest(work) {
  let running = false;
  let again = false;
  let timer = 0;
  return async function run() {
    again = true;
    if (running) return;
    running = true;
    try {
      while (again) {
        again = false;
        await work();
      }
    } catch (error) {
      clearTimeout(timer);
      if (error instanceof Unreachable) timer = setTimeout(run, AGAIN);
      if (error.name !== "AbortError") problem(error);
    } finally {
      running = false;
    }
  };
}

export function problem(error) {
  if (!(error instanceof Gone)) throw error;
  const place = $("problem"); // a text that is set again would be read aloud again
  if (place.textContent !== error.message) place.textContent = error.message;
  place.hidden = false;
}

export function noProblem() {
  $("problem").hidden = true;
}

// What a run says instead of an answer

/** Return an element for a run that has no answer, or null if it has one. */
export function excuse(answer, choose) {
  if (answer.error) return el("p", { class: "problem small" }, answer.error);
  if (answer.pending) return el("p", { class: "waiting" }, `… ${answer.pending}`);
  if (answer.missing === undefined) return null;
  const what = answer.missing === ""
    ? "Type a word."
    : ["The model does not know ", el("b", {}, el("bdi", {}, answer.missing)), "."];
  const offers = (answer.missing === "" ? [] : answer.suggestions ?? []).map((word) =>
    el("button", { type: "button", class: "chip", onclick: () => choose(word) }, wordNode(word)));
  return el("div", {}, el("p", { class: "waiting" }, what),
    offers.length ? el("div", { class: "suggest" }, offers) : null);
}

/** Say how a text was read, if there is something to say. */
export function reading(answers) {
  const notes = [];
  const unknown = [...new Set(answers.flatMap((answer) => answer.unknown ?? []))];
  const unfinished = answers.map((answer) => answer.unfinished).find(Boolean);
  const left = Math.max(0, ...answers.map((answer) => answer.left_out ?? 0));
  if (unknown.length) {
    const more = unknown.length > 8 ? ` and ${unknown.length - 8} more` : "";
    notes.push(`Read as the unknown word: ${unknown.slice(0, 8).join(", ")}${more}.`);
  }
  if (unfinished) notes.push(`Not read yet: ${unfinished}. A space ends a word.`);
  if (left) notes.push(`Only the last 200 words are read; ${whole(left)} before them are not.`);
  return notes.join(" ");
}

export const isPending = (answers) => answers.some((answer) => answer.pending);

/** Return the heading of a run's block. */
export function heading(page, name, more = "") {
  return el("h2", {}, el("span", { class: "dot", "--c": page.colour(name) }), el("bdi", {}, name),
    more ? el("small", {}, more) : null);
}

/** Return a table's header cell for a run. */
export function runHead(page, name, ...more) {
  return el("th", { scope: "col" }, el("span", { class: "dot", "--c": page.colour(name) }), " ",
    el("bdi", {}, name), more);
}

/** Let a field follow the state and the state follow the field. */
export function bind(id, name, update, fallback = "") {
  const field = $(id);
  field.value = state.get(name) ?? fallback;
  field.addEventListener("input", () => {
    remember({ [name]: field.value });
    update();
  });
  return field;
}

/** Let radio buttons follow the state and the state follow them. */
export function bindChoice(name, update) {
  const buttons = [...document.getElementsByName(name)];
  const kept = buttons.find((button) => button.value === state.get(name));
  if (kept) kept.checked = true;
  for (const button of buttons) {
    button.addEventListener("change", () => {
      remember({ [name]: button.value });
      update();
    });
  }
  return () => buttons.find((button) => button.checked).value;
}

/** Put children into an element, and the focus back on what had it, by its place and text. */
export function fill(place, ...children) {
  const before = place.contains(document.activeElement) ? document.activeElement : null;
  const label = before?.textContent;
  place.replaceChildren(...children.flat().filter(Boolean));
  if (before) {
    const same = [...place.querySelectorAll("button")].find((one) => one.textContent === label);
    same?.focus({ preventScroll: true });
  }
}
