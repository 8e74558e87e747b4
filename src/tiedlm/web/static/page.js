// Begins every view: the runs, their colours, and the view's own script.

import {
  $, ask, el, noProblem, problem, remember, state, writeAddress, writeRest,
} from "./common.js";

const COLOURS = 8;
const known = [];
let chosen = new Set(state.getAll("run"));

/** What a view is given. */
const page = {
  colour: (name) => `var(--run${Math.max(0, known.findIndex((run) => run.name === name)) % COLOURS})`,
  runs: () => known.map((run) => run.name).filter((name) => chosen.has(name)),
  isOfPieces: (name) => known.find((run) => run.name === name)?.pieces,
  first: () => known.find((run) => chosen.has(run.name)) ?? known[0],
};

let update = () => {};

function showRuns() {
  const rows = known.map((run, place) => {
    const id = `run-${place}`;
    const about = run.error ?? (run.pending ? `… ${run.pending}` : run.about);
    return el("div", { class: "run", title: run.folder },
      el("input", { type: "checkbox", id, checked: chosen.has(run.name), onchange: choose,
        "aria-describedby": `${id}-about` }),
      el("span", { class: "dot", "--c": page.colour(run.name) }),
      el("label", { class: "name", for: id }, el("bdi", {}, run.name)),
      el("span", { class: run.error ? "about error" : "about", id: `${id}-about` }, about ?? "",
        run.note ? el("em", {}, run.note) : null));
  });
  const active = document.activeElement?.id;
  $("runs").replaceChildren(...rows);
  if (active?.startsWith("run-")) $(active)?.focus();
}

function choose() {
  chosen = new Set(known.filter((_, place) => $(`run-${place}`).checked).map((run) => run.name));
  remember({ run: chosen.size === known.length ? [] : [...chosen] });
  followLinks();
  update();
}

/** The other views show the same runs. */
function followLinks() {
  const kept = new URLSearchParams(state.getAll("run").map((name) => ["run", name])).toString();
  for (const link of document.querySelectorAll("nav a")) {
    link.href = link.pathname + (kept ? `#${kept}` : "");
  }
}

let shown = "";
async function follow() {
  const runs = await (await ask("runs", {})).json();
  if (runs.superseded) return false;
  noProblem();
  const text = JSON.stringify(runs);
  if (text !== shown) {
    shown = text;
    known.splice(0, known.length, ...runs);
    const names = known.map((run) => run.name);
    if (!names.some((name) => chosen.has(name))) chosen = new Set(names);
    showRuns();
    return true;
  }
  return false;
}

/** Ask what is new, again and again, also after a question without an answer. */
async function keepFollowing() {
  let answered = true;
  for (;;) {
    const soon = answered && known.some((run) => run.pending);
    await new Promise((done) => setTimeout(done, soon ? 250 : 4000));
    try {
      if (!document.hidden && (await follow())) update();
      answered = true;
    } catch (error) {
      answered = false;
      problem(error);
    }
  }
}

window.addEventListener("hashchange", () => location.reload());
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address keeps its state
  $("main").focus();
});
writeAddress(); // without the token
try {
  await follow();
  followLinks();
  const view = await import(`./${document.body.dataset.view}.js`);
  update = view.start(page);
  update();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => update());
  window.addEventListener("pagehide", writeRest);
  document.body.dataset.ready = "yes";
  keepFollowing();
} catch (error) {
  problem(error);
}
