// Charts by plotly, in the page's colours.

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
