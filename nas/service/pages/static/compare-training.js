// The training curves of several runs in one chart: scores or losses, as selected.

import * as charts from "./charts.js";
import { downloadable } from "./download.js";

const at = (id) => document.getElementById(id);
const figures = JSON.parse(at("training-data").textContent);
const what = at("training-what");

if (window.Plotly) start();
else document.addEventListener("DOMContentLoaded", start, { once: true });

function start() {
  what.replaceChildren(...figures.map(({ title }, i) => new Option(title, i)));
  what.addEventListener("change", show);
  charts.drawn(at("training-curves"), show);
  downloadable(at("training-legend"), { name: "compared-training", title: "Training", figure: () => at("training-curves") });
}

function show() {
  charts.show(at("training-curves"), figures[Number(what.value)].figure, at("training-legend"));
}
