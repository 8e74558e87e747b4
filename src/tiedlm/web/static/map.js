import {
  $, ask, bind, bindChoice, el, excuse, fill, fixed, heading, isPending, newest, percent, remember,
  state, spoken, whole,
} from "./common.js";
import { chart, clean, ink } from "./charts.js";

const LABELS = 70; // at most, where they do not overlap
const LETTER = 6.6; // pixels, roughly
const HEIGHT = 15;
const BARE = { showticklabels: false, showgrid: false, showline: false };

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

  const places = new Map();

  const update = newest(async () => {
    const question = { runs: page.runs(), word: word.value, space: space(),
      count: Number(count.value) };
    const answer = await (await ask("map", question)).json();
    if (answer.superseded) return;
    fill($("blocks"), answer.runs.map(block));
    for (const run of answer.runs) if (run.places) draw(places.get(run.name), run);
    if (isPending(answer.runs)) setTimeout(update, 300);
  });

  function choose(chosen) {
    word.value = chosen;
    word.dispatchEvent(new Event("input"));
  }

  function block(run) {
    const why = run.places ? null : excuse(run, choose);
    if (why) return el("section", { class: "block" }, heading(page, run.name), why);
    if (!places.has(run.name)) {
      const place = el("div", { class: "chart map", role: "img",
        "aria-label": "Words by their place in two principal components" });
      places.set(run.name, place);
    }
    const share = run.shares.reduce((sum, one) => sum + one, 0);
    const more = `${whole(run.words.length)} of ${whole(run.vocabulary)} words; the two directions ` +
      `hold ${percent(share)} of the variance${run.tied ? "; tied: L = W" : ""}`;
    return el("section", { class: "block" }, heading(page, run.name, more),
      excuse({ missing: run.missing, suggestions: run.suggestions }, choose),
      run.found ? el("p", { class: "sum" }, "Nearest to ", el("b", {}, el("bdi", {}, run.found[0])),
        ": ", run.found.slice(1).flatMap((near, place) => [place ? ", " : "", el("bdi", {}, near),
          ` ${fixed(run.cosines[place + 1], 2)}`]), ".") : null,
      places.get(run.name));
  }

  return update;
}

function draw(place, run) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const x = run.places.map((one) => one[0]);
  const y = run.places.map((one) => one[1]);
  const rank = run.words.map((_, index) => Math.log10(index + 1));
  const most = Math.log10(run.words.length);
  const ticks = [0, 1, 2, 3, 4].filter((power) => power <= most);
  const points = {
    x, y, mode: "markers", type: "scatter", name: "", showlegend: false,
    text: run.words.map((word, index) => `${clean(spoken(word))}<br>word ${whole(index + 1)}`),
    hovertemplate: "%{text}<extra></extra>",
    marker: {
      size: run.words.length > 1500 ? 5 : 7, color: rank, opacity: 0.85, cmin: 0, cmax: most,
      colorscale: dark ? [[0, "#ffd98a"], [0.5, "#f0805a"], [1, "#7a6fb8"]]
        : [[0, "#7a1c00"], [0.5, "#e07b39"], [1, "#8db4d8"]],
      colorbar: { thickness: 10, len: 0.6, outlinewidth: 0, x: 1.01, title: { text: "word no.", font: { size: 12 } },
        tickvals: ticks, ticktext: ticks.map((power) => whole(10 ** power)) },
    },
  };
  const labels = { x: [], y: [], text: [], mode: "text", hoverinfo: "skip", showlegend: false,
    textposition: "top center", textfont: { size: 12, color: ink("--ink") } };
  const traces = [points, labels];
  if (run.found) {
    const [xs, ys] = [0, 1].map((axis) => run.found_places.map((one) => one[axis]));
    traces.push({
      x: xs, y: ys, mode: "markers", showlegend: false,
      customdata: run.found.map((word) => clean(spoken(word))),
      hovertemplate: "%{customdata}<extra></extra>",
      marker: { size: run.found.map((_, index) => (index ? 9 : 14)), color: ink("--accent"),
        symbol: run.found.map((_, index) => (index ? "circle" : "diamond")),
        line: { width: 2, color: ink("--page") } },
    }, { ...labels, x: xs, y: ys, text: run.found.map((word) => clean(word)), textposition: "bottom center",
      textfont: { size: 13, color: ink("--accent"), weight: 700 } });
  }
  const [left, right] = span(x);
  const [bottom, top] = span(y);
  const tall = ((place.clientWidth - 70) * (top - bottom)) / (right - left) / 16;
  place.style.setProperty("--tall", Math.min(38, Math.max(16, tall)).toFixed(2));
  const narrow = place.clientWidth < 500;
  if (narrow) points.marker.colorbar.thickness = 6;
  const layout = {
    xaxis: { ...BARE, range: span(x) },
    yaxis: { ...BARE, range: span(y), scaleanchor: "x" },
    margin: { l: 4, r: 8, t: 4, b: 4 }, dragmode: "pan", hovermode: "closest",
    uirevision: run.words.length,
  };
  const label = () => {
    const { xaxis, yaxis } = place._fullLayout;
    const { found, ...named } = choose(run, xaxis, yaxis);
    const next = [points, { ...labels, ...named }];
    if (run.found) next.push(traces[2], { ...traces[3], text: found });
    window.Plotly.react(place, next, place.layout);
  };
  chart(place, traces, layout, { scrollZoom: true, doubleClick: "reset" });
  label();
  place.removeAllListeners?.("plotly_relayout");
  place.on("plotly_relayout", label);
}

function span(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = 0.06 * (high - low || 1);
  return [low - margin, high + margin];
}

/** Choose whose names are shown: the found words first, then the most frequent that have room. */
function choose(run, xaxis, yaxis) {
  const boxes = [];
  const named = { x: [], y: [], text: [], found: [] };
  const found = new Set(run.found ?? []);
  const take = ([x, y], length, below) => {
    const [px, py] = [xaxis.d2p(x), yaxis.d2p(y) + (below ? HEIGHT : -HEIGHT)];
    if (px < 0 || px > xaxis._length || py < 0 || py > yaxis._length) return false;
    const half = (length * LETTER) / 2 + 3;
    const clash = boxes.some((box) => Math.abs(box.px - px) < box.half + half &&
      Math.abs(box.py - py) < HEIGHT);
    if (!clash) boxes.push({ px, py, half });
    return !clash;
  };
  (run.found_places ?? []).forEach((place, index) => {
    const text = spoken(run.found[index]);
    named.found.push(take(place, 1.1 * text.length, true) || !index ? clean(text) : "");
  });
  for (let index = 0; index < run.words.length && named.x.length < LABELS; index += 1) {
    const text = spoken(run.words[index]);
    if (found.has(run.words[index]) || text.length > 24) continue;
    if (!take(run.places[index], text.length, false)) continue;
    named.x.push(run.places[index][0]);
    named.y.push(run.places[index][1]);
    named.text.push(clean(text));
  }
  return named;
}
