// Charts by plotly, in the page's colours, each with its numbers in a table.

import { el } from "./common.js";

const OPTIONS = { displayModeBar: false, responsive: true, displaylogo: false, scrollZoom: false };

/** Return the value of a CSS variable such as "--ink", or of "var(--ink)". */
export function ink(name) {
  const bare = name.replace(/^var\((.*)\)$/, "$1");
  return getComputedStyle(document.documentElement).getPropertyValue(bare).trim();
}

/** Return a text that plotly shows as it is: it reads tags, "%{...}" and "$...$" otherwise. */
export function clean(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll("%", "&#37;").replaceAll("$", () => "&#36;");
}

/** Draw a chart, or draw it again. */
export function chart(place, traces, layout, options = {}) {
  const axis = { gridcolor: ink("--line"), linecolor: ink("--edge"), zeroline: false,
    ticks: "", automargin: true, fixedrange: !options.scrollZoom, exponentformat: "none" };
  const { xaxis, yaxis, ...rest } = layout;
  return window.Plotly.react(place, traces, {
    font: { family: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", size: 13,
      color: ink("--ink") },
    paper_bgcolor: ink("--page"), plot_bgcolor: ink("--page"),
    hoverlabel: { bgcolor: ink("--card"), bordercolor: ink("--edge"), font: { color: ink("--ink") } },
    legend: { bgcolor: "rgba(0,0,0,0)" }, dragmode: false, ...rest,
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis },
  }, { ...OPTIONS, ...options });
}

const fillers = new WeakMap();

/**
 * Put a table of a chart's numbers below it, closed: who cannot point at the chart reads it.
 * `make` returns the heads and the rows; it is called when the table is to be seen.
 */
export function numbers(place, label, make) {
  let box = place.nextElementSibling;
  if (!box?.classList.contains("figures")) {
    const table = el("table", { class: "narrow" });
    box = el("details", { class: "figures", ontoggle: () => fillers.get(box)() },
      el("summary", {}, "Numbers of this chart"),
      el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, table));
    place.after(box);
  }
  box.hidden = place.hidden;
  fillers.set(box, () => {
    if (!box.open) return;
    const { heads, rows } = make();
    box.querySelector("table").replaceChildren(
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map(([first, ...cells]) => el("tr", {},
        el("th", { scope: "row" }, first), cells.map((cell) => el("td", {}, cell))))));
  });
  fillers.get(box)();
}
