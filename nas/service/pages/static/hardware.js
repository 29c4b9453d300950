// The sentinel's latency and the noise of a hardware profile by run.

import { localTimes, zoneText } from "./api.js";
import * as charts from "./charts.js";
import { downloadable } from "./download.js";
import { sortable } from "./table.js";

localTimes();
sortable();
const place = document.getElementById("drift");
if (place) {
  const drift = JSON.parse(document.getElementById("data").textContent);
  const draw = () => charts.drawn(place, () => show(drift));
  downloadable(place, { name: `${document.querySelector("h1").textContent}-drift`, title: "Noise and drift", figure: () => place });
  if (window.Plotly) draw();
  else document.addEventListener("DOMContentLoaded", draw, { once: true });
}

function show(drift) {
  const times = drift.map((d) => localText(d.time));
  const runs = drift.map((d) => charts.escapeText(d.run));
  // The difference is relative to the level.
  const floor = drift.map((d) => (d.level_ms === null || d.noise === null ? 0 : d.level_ms * d.noise));
  const level = {
    type: "scatter", mode: "lines+markers", name: "sentinel (ms)", x: times, y: drift.map((d) => d.level_ms), customdata: runs,
    line: { color: charts.colour("--front"), width: 2 }, marker: { size: 8 },
    error_y: { type: "data", array: floor, color: charts.colour("--front"), thickness: 1.2, width: 3 },
    hovertemplate: "%{customdata}<br>%{y:.4g} ms ± %{error_y.array:.2g}<extra></extra>",
  };
  const noise = {
    type: "scatter", mode: "lines+markers", name: "A/A difference (%)", x: times, y: drift.map((d) => (d.noise === null ? null : 100 * d.noise)),
    customdata: runs, xaxis: "x", yaxis: "y2", line: { color: charts.colour("--predicted"), width: 2, dash: "dot" },
    marker: { size: 8, symbol: "diamond-open" }, hovertemplate: "%{customdata}<br>%{y:.3g} %<extra></extra>",
  };
  Plotly.react(place, [level, noise], charts.layout(place, {
    xaxis: charts.axis("", { anchor: "y2", tickformat: "%H:%M\n%Y-%m-%d", title: { text: `Time (${zoneText(new Date())})`, standoff: 24, font: { size: 12 } } }), yaxis: charts.axis("Sentinel (ms)", { domain: [0.42, 1] }),
    margin: { ...charts.margins(place), b: 66 }, yaxis2: charts.axis("A/A difference (%)", { domain: [0, 0.32], rangemode: "tozero" }),
  }), charts.CONFIG);
}

/** A time in the user's time zone, without its offset, as plotly expects it. */
function localText(time) {
  const at = new Date(time);
  return new Date(at.getTime() - 60000 * at.getTimezoneOffset()).toISOString().replace("Z", "");
}
