// The progress of a search: its hypervolume and the quality of its predictors.

import * as charts from "./charts.js";

export function showConvergence(place, { name, title, evaluations, values, close_at, close_text, close_late }) {
  const close = close_at === null ? {} : {
    shapes: [{
      type: "line", x0: close_at, x1: close_at, y0: 0, y1: 1, yref: "paper", line: { color: charts.colour("--edge"), dash: "dash", width: 1.2 },
    }],
    annotations: [{
      x: close_at, y: 0.04, yref: "paper", text: close_text, showarrow: false, xanchor: close_late ? "right" : "left", xshift: close_late ? -5 : 5,
    }],
  };
  const curve = charts.steps(name, evaluations, values, charts.colour("--front"), {
    hovertemplate: "after %{x} evaluations: %{y:.4g}<extra></extra>",
  });
  Plotly.react(place, [curve], charts.layout(place, { xaxis: charts.axis("Evaluations"), yaxis: charts.axis(title), ...close }), charts.CONFIG);
}

/** Rank agreement after each fit, by objective; the dotted lines are the ridge baseline. */
export function showPredictors(place, list, predictors, metrics) {
  const series = Object.entries(predictors).map(([name, { steps, kendall_tau, ridge }], i) => ({
    name: metrics.find((m) => m.name === name)?.title ?? name, steps, kendall_tau, ridge,
    colour: charts.palette()[i % charts.N_COLOURS], symbol: charts.SYMBOLS[i % charts.SYMBOLS.length],
  }));
  const traces = series.flatMap(({ name, steps, kendall_tau, ridge, colour, symbol }) => [
    {
      name: `${name}, ridge`, type: "scatter", mode: "lines", x: steps, y: ridge, line: { color: colour, width: 1.4, dash: "dot" },
      hovertemplate: `ridge, ${charts.escapeText(name)}: %{y:.3f}<extra></extra>`,
    },
    {
      name, type: "scatter", mode: "lines+markers", x: steps, y: kendall_tau, line: { color: colour, width: 2 }, marker: { symbol, size: 7 },
      hovertemplate: `${charts.escapeText(name)}: %{y:.3f}<extra></extra>`,
    },
  ]);
  charts.legend(list, [
    ...series, ...(series.some(({ ridge }) => ridge.some((tau) => tau !== null)) ? [{ name: "ridge baseline", symbol: "dots", colour: charts.colour("--soft") }] : []),
  ]);
  const known = traces.flatMap((trace) => trace.y.filter((tau) => tau !== null));
  Plotly.react(place, traces, charts.layout(place, {
    xaxis: charts.axis("Step of the search", stepsOf(series) <= 12 ? { dtick: 1 } : {}),
    yaxis: charts.axis("Kendall's τ, held out", { range: [Math.min(0, ...charts.extremes(known)), 1.03] }),
  }), charts.CONFIG);
}

/** The distance between the first and the last step. */
function stepsOf(series) {
  const [first, last] = charts.extremes(series.flatMap(({ steps }) => steps));
  return last - first;
}
