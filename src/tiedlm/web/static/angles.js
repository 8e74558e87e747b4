import { $, ask, el, excuse, fill, fixed, isPending, newest } from "./common.js";
import { chart, clean, ink, numbers } from "./charts.js";

const HEADS = ["Run", "Distance", "Smallest angle", "Median", "Largest", "Mean norm of L",
  "Mean norm of W"];

const count = (run) => run.principal_angles_degrees.length;

export function start(page) {
  const update = newest(async () => {
    const answer = await (await ask("angles", { runs: page.runs() })).json();
    if (answer.superseded) return;
    show(answer.runs);
    if (isPending(answer.runs)) setTimeout(update, 300);
  });

  function show(runs) {
    const rows = runs.map((run) => {
      const head = el("th", { scope: "row" }, el("span", { class: "dot", "--c": page.colour(run.name) }),
        " ", el("bdi", {}, run.name));
      const why = excuse(run);
      if (why) return el("tr", {}, head, el("td", { colspan: HEADS.length - 1, class: "left" }, why));
      const angles = run.principal_angles_degrees;
      const middle = angles[Math.floor(angles.length / 2)];
      return el("tr", {}, head, el("td", {}, fixed(run.subspace_distance, 3)),
        [angles[0], middle, angles.at(-1)].map((angle) => el("td", {}, `${fixed(angle, 1)}°`)),
        [run.mean_norm_embedding, run.mean_norm_classifier].map((norm) =>
          el("td", {}, fixed(norm, 2))));
    });
    fill($("table"), el("thead", {}, el("tr", {}, HEADS.map((text) =>
      el("th", { scope: "col" }, text)))), el("tbody", {}, rows));
    const shown = runs.filter((run) => run.principal_angles_degrees);
    $("chart").hidden = !shown.length;
    numbers($("chart"), "Principal angles in degrees", () => ({
      heads: ["Angle", ...shown.map((run) => el("bdi", {}, run.name))],
      rows: Array.from({ length: Math.max(...shown.map(count)) }, (_, place) => [place + 1,
        ...shown.map((run) => `${fixed(run.principal_angles_degrees[place], 1)}°`)]),
    }));
    if (!shown.length) return;
    chart($("chart"), shown.map((run) => ({
      x: run.principal_angles_degrees.map((_, index) => index + 1), y: run.principal_angles_degrees,
      mode: "lines", name: clean(run.name), line: { color: ink(page.colour(run.name)), width: 2.5 },
      hovertemplate: "%{y:.1f}°<extra>%{fullData.name}</extra>",
    })), {
      xaxis: { title: { text: "angle, in order" }, rangemode: "tozero" },
      yaxis: { title: { text: "degrees" }, range: [-3, 93], tickvals: [0, 30, 60, 90] },
      margin: { l: 50, r: 10, t: 10, b: 45 }, showlegend: true,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    });
  }

  return update;
}
