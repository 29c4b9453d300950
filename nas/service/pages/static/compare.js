// Several searches side by side: their Pareto fronts and the growth of their hypervolumes.

import * as charts from "./charts.js";
import { downloadable } from "./download.js";
import { valueText } from "./metrics.js";
import { sortable } from "./table.js";

const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const quality = data.metrics.find((f) => f.of_task) ?? data.metrics[0];
const costs = data.metrics.filter((f) => f !== quality);
const axis = at("axis");

sortable();
if (window.Plotly) start();
else document.addEventListener("DOMContentLoaded", start, { once: true });

function start() {
  axis.replaceChildren(...costs.map((cost, i) => new Option(cost.title, i)));
  at("controls").hidden = costs.length < 2;
  axis.addEventListener("change", showFronts);
  if (costs.length) charts.drawn(at("fronts"), showFronts);
  else at("fronts").hidden = true;
  charts.drawn(at("curves"), showCurves);
  if (costs.length) downloadable(at("legend"), { name: "compared-fronts", title: "Pareto fronts", figure: () => at("fronts") });
  downloadable(at("curves"), { name: "compared-convergence", title: "Hypervolume", figure: () => at("curves") });
}

function look(i) {
  return { colour: charts.palette()[i % charts.N_COLOURS], symbol: charts.SYMBOLS[i % charts.SYMBOLS.length] };
}

function showFronts() {
  const cost = costs[Number(axis.value)];
  const joined = data.metrics.length === 2;
  const value = (network, metric) => network.figures[metric.name].value * metric.scale;
  const traces = data.runs.map((run, i) => {
    const bars = (metric) => ({
      type: "data", array: run.front.map((n) => n.figures[metric.name].error * metric.scale), color: look(i).colour, thickness: 1.1, width: 0,
    });
    return {
      type: "scatter", mode: joined ? "lines+markers" : "markers", name: run.run,
      x: run.front.map((n) => value(n, cost)), y: run.front.map((n) => value(n, quality)),
      line: { color: look(i).colour, width: 1.6, shape: "hv" }, marker: { color: look(i).colour, symbol: look(i).symbol, size: 8 },
      error_x: bars(cost), error_y: bars(quality),
      customdata: run.front.map((n) => [
        charts.escapeText(run.run), ...data.metrics.map((f) => {
          const { value: v, error } = n.figures[f.name];
          return `${charts.escapeText(f.title)}: <b>${charts.escapeText(valueText(f, v, error))}</b>`;
        }), charts.escapeText(n.key),
      ].join("<br>")),
      hovertemplate: "%{customdata}<extra></extra>",
    };
  });
  const shared = joined && data.common_front.length ? [commonFront(cost, value)] : [];
  charts.legend(at("legend"), [
    ...data.runs.map((run, i) => ({ name: run.run, ...look(i) })),
    ...shared.map(({ name, line }) => ({ name, colour: line.color, symbol: "", opacity: 0.45 })),
  ]);
  Plotly.react(at("fronts"), [...shared, ...traces], charts.layout(at("fronts"), {
    xaxis: charts.metricAxis(cost, traces.flatMap((t) => t.x)), yaxis: charts.metricAxis(quality, traces.flatMap((t) => t.y)),
  }), charts.CONFIG);
}

/** A broad line below the others, as a staircase through the networks that no network of another run dominates. */
function commonFront(cost, value) {
  const fronts = new Map(data.runs.map((run) => [run.run, new Map(run.front.map((n) => [n.key, n]))]));
  const members = data.common_front.map(({ run, key }) => fronts.get(run).get(key));
  return {
    type: "scatter", mode: "lines", name: "common front", hoverinfo: "skip",
    x: members.map((n) => value(n, cost)), y: members.map((n) => value(n, quality)),
    line: { color: charts.colour("--measured"), width: 7, shape: "hv" }, opacity: 0.45,
  };
}

function showCurves() {
  const traces = data.runs.map((run, i) => charts.steps(
    charts.escapeText(run.run), run.curve.map(([n]) => n), run.curve.map(([, v]) => v), look(i).colour,
    { line: { shape: "hv", width: 2.2, color: look(i).colour, dash: i < charts.N_COLOURS ? "solid" : "dash" } },
  ));
  Plotly.react(at("curves"), traces, charts.layout(at("curves"), {
    xaxis: charts.axis("Evaluations"), yaxis: charts.axis("Hypervolume", { rangemode: "tozero" }), hovermode: "x unified",
    hoverlabel: { bgcolor: charts.colour("--paper"), font: { color: charts.colour("--ink"), size: 12 } },
  }), charts.CONFIG);
}
