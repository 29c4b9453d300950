// The curves of a training: loss and score of the largest and the smallest network, by epoch.

import { call, runPath } from "./api.js";
import * as charts from "./charts.js";
import { downloadable } from "./download.js";

/** Draws the curves into the page; returns a function that fetches and draws them anew. */
export async function showTraining(run) {
  const at = (id) => document.getElementById(id);
  let training = await call(runPath(run, "training"));
  function draw() {
    const isKnown = training.history.length > 0; // that of an early version's run is gone with its checkpoint
    at("training-title").closest("section").hidden = !isKnown;
    if (!isKnown) return;
    const factor = training.metric.unit === "share" ? 100 : 1;
    at("training-accuracy-title").textContent = training.title.replace(/ \([^)]*\)$/, "");
    drawCurves(at("training-loss"), at("training-loss-legend"), training, "Loss", [
      ["largest network, validation", "largest_loss", "--largest", 1], ["smallest network, validation", "smallest_loss", "--smallest", 1],
      ["training", "loss", "--measured", 1],
    ]);
    drawCurves(at("training-accuracy"), at("training-accuracy-legend"), training, training.title, [
      ["largest network", "largest", "--largest", factor], ["smallest network", "smallest", "--smallest", factor],
    ]);
  }
  charts.drawn(at("training-accuracy"), draw);
  for (const [part, name] of [["loss", "loss"], ["accuracy", training.metric.name]]) {
    const id = `training-${part}`;
    downloadable(at(`${id}-legend`), { name: `${run}-training-${name}`, title: `${run}: ${name} in training`, figure: () => at(id) });
  }
  return async () => {
    training = await call(runPath(run, "training"));
    draw();
  };
}

/** One chart; each series is `[name, field of an epoch, colour, scale]`, and left out where no epoch has the field. */
function drawCurves(place, list, { history, epochs, best }, title, series) {
  const known = series.filter(([, field]) => history.some((epoch) => epoch[field] !== null));
  place.hidden = known.length === 0; // and so are its downloads
  if (place.hidden) return;
  const few = history.length <= 30;
  const traces = known.map(([name, field, colour, scale]) => ({
    name, type: "scatter", mode: few ? "lines+markers" : "lines", x: history.map(({ epoch }) => epoch),
    y: history.map((epoch) => (epoch[field] === null ? null : epoch[field] * scale)),
    line: { color: charts.colour(colour), width: 2 }, marker: { size: 5 }, hovertemplate: `${name}, epoch %{x}: %{y:.4g}<extra></extra>`,
  }));
  charts.legend(list, known.map(([name, , colour]) => ({ name, symbol: "", colour: charts.colour(colour) })));
  const line = { type: "line", x0: best, x1: best, y0: 0, y1: 1, yref: "paper", line: { color: charts.colour("--edge"), dash: "dash", width: 1.2 } };
  const text = { x: best, y: 0.04, yref: "paper", text: `kept: epoch ${best}`, showarrow: false, xanchor: best > epochs / 2 ? "right" : "left", xshift: best > epochs / 2 ? -5 : 5 };
  Plotly.react(place, traces, charts.layout(place, {
    xaxis: charts.axis("Epoch", { range: [0.5, epochs + 0.5], ...(epochs <= 12 ? { dtick: 1 } : {}) }), yaxis: charts.axis(title),
    ...(best ? { shapes: [line], annotations: [text] } : {}),
  }), charts.CONFIG);
}
