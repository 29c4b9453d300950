// Several searches side by side: their Pareto fronts and the growth of their hypervolumes.

import * as charts from "./charts.js";
import { downloadable } from "./download.js";
import { sortable } from "./table.js";

const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const axis = at("axis");

sortable();
if (window.Plotly) start();
else document.addEventListener("DOMContentLoaded", start, { once: true });

function start() {
  axis.replaceChildren(...data.fronts.map(({ title }, i) => new Option(title, i)));
  at("controls").hidden = data.fronts.length < 2;
  axis.addEventListener("change", showFronts);
  if (data.fronts.length) charts.drawn(at("fronts"), showFronts);
  else at("fronts").hidden = true;
  charts.drawn(at("curves"), showCurves);
  if (data.fronts.length) downloadable(at("legend"), { name: "compared-fronts", title: "Pareto fronts", figure: () => at("fronts") });
  downloadable(at("curves-legend"), { name: "compared-convergence", title: "Hypervolume", figure: () => at("curves") });
}

function showFronts() {
  charts.show(at("fronts"), data.fronts[Number(axis.value)].figure, at("legend"));
}

function showCurves() {
  charts.show(at("curves"), data.curves, at("curves-legend"), {
    hovermode: "x unified", hoverlabel: { bgcolor: charts.colour("--paper"), font: { color: charts.colour("--ink"), size: 12 } },
  });
}
