// The shared parts of charts: colours of the page's theme, axes, legends.

// Okabe and Ito (2008) without their yellow, as in the command line's plots; on a dark page, lighter ones.
const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5F6770"];
const DARK = ["#56B4E9", "#E69F00", "#2FC49A", "#E0A3C4", "#F0733A", "#5B9BE0", "#A3ACB6"];
export const N_COLOURS = LIGHT.length;
export const SYMBOLS = ["circle", "square", "triangle-up", "cross", "star", "hexagon", "x"];
const LOG_SPAN = 8; // an axis is logarithmic where its largest value is at least this many times its smallest
const dark = matchMedia("(prefers-color-scheme: dark)");

/** A colour of the page's style sheet, e.g. `--ink`. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** A colour of a series: `[light, dark]`, or a number of the palette. */
export function shade(colour_) {
  return typeof colour_ === "number" ? palette()[colour_ % N_COLOURS] : colour_[dark.matches ? 1 : 0];
}

/** A colour `#rrggbb` with an opacity from 0 to 1. */
export function faded(colour_, opacity) {
  return colour_ + Math.round(255 * opacity).toString(16).padStart(2, "0");
}

/** Colours for several series side by side. */
export function palette() {
  return dark.matches ? DARK : LIGHT;
}

/** Calls `draw` now, and whenever the theme or the chart's width changes. */
export function drawn(element, draw) {
  dark.addEventListener("change", draw);
  let width = element.clientWidth;
  new ResizeObserver(() => {
    if (element.clientWidth === width || element.clientWidth === 0) return;
    width = element.clientWidth;
    draw();
  }).observe(element);
  draw();
}

/** The margins of a chart, in pixels: fixed, so that overlays can be placed. */
export function margins(element) {
  return { l: element.clientWidth < 480 ? 52 : 64, r: 14, t: 12, b: 46 };
}

export function layout(element, more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
    margin: margins(element), width: element.clientWidth, height: element.clientHeight,
    hoverlabel: { bgcolor: colour("--ink"), font: { color: colour("--paper"), size: 12 }, align: "left" },
    // A finger scrolls the page; a mouse selects the part to zoom into.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    ...more,
  };
}

export const CONFIG = { displayModeBar: false, responsive: false, doubleClick: "reset", showTips: false };

/** A linear axis. */
export function axis(title, more = {}) {
  return {
    title: { text: escapeText(title), standoff: 8, font: { size: 12 } }, gridcolor: colour("--rule"), linecolor: colour("--edge"),
    showline: true, zeroline: false, ticks: "", automargin: false, ...more,
  };
}

/** The axis of a metric over values in shown units: with margins, and logarithmic for costs that span far. */
export function metricAxis(metric, values) {
  const shown = values.filter((v) => v !== null && Number.isFinite(v));
  const low = Math.min(...extremes(shown));
  const high = Math.max(...extremes(shown));
  if (isLog(metric, shown)) {
    const [from, to] = [Math.log10(low), Math.log10(high)];
    const ticks = [];
    for (let power = Math.floor(from); power <= Math.ceil(to); power += 1) ticks.push(...[1, 2, 5].map((d) => d * 10 ** power));
    const margin = 0.05 * (to - from);
    return axis(metric.title, {
      type: "log", range: [from - margin, to + margin], tickvals: ticks, ticktext: ticks.map((t) => String(Number(t.toPrecision(3)))),
    });
  }
  const margin = 0.05 * (high - low || Math.abs(high) || 1);
  return axis(metric.title, { range: [low - margin, high + margin] });
}

export function isLog(metric, shown) {
  const [low, high] = extremes(shown);
  return metric.unit !== "%" && low > 0 && high / low >= LOG_SPAN;
}

/** Least and largest, without the limit on arguments that `Math.min` has. */
export function extremes(values) {
  return [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
}

/** Escapes a name for plotly, which reads a subset of HTML in its texts. */
export function escapeText(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

const PATHS = {
  circle: "M8 3a5 5 0 1 0 .01 0z", square: "M3.5 3.5h9v9h-9z", diamond: "M8 2l6 6-6 6-6-6z", "triangle-up": "M8 2.5l6 10.5H2z",
  "triangle-down": "M8 13.5L2 3h12z", x: "M3.5 3.5l9 9m0-9l-9 9", "x-thin": "M3.5 3.5l9 9m0-9l-9 9", "": "M1 8h14", cross: "M6 2h4v4h4v4h-4v4H6v-4H2V6h4z",
  star: "M8 1.5l2 4.4 4.7.5-3.5 3.2 1 4.7L8 11.9l-4.2 2.4 1-4.7L1.300 6.400l4.700-.5z", dots: "M1 8h3m2.500 0h3m2.500 0h3", hexagon: "M4.500 2h7l3.500 6-3.500 6h-7L1 8z",
};

/** Writes a legend: items of `{name, colour, symbol, hollow, opacity}`. */
export function legend(list, items) {
  list.replaceChildren(...items.map((item) => {
    const entry = document.createElement("li");
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", PATHS[item.symbol]);
    path.setAttribute("fill", isLine(item) ? "none" : item.colour);
    path.setAttribute("fill-opacity", item.opacity ?? 1);
    path.setAttribute("stroke", item.colour);
    path.setAttribute("stroke-width", isLine(item) ? 2 : 0);
    svg.append(path);
    entry.append(svg, item.name);
    return entry;
  }));
}

function isLine({ hollow, symbol }) {
  return hollow || ["", "x", "x-thin", "dots"].includes(symbol);
}

/** A line over the evaluations, as steps. */
export function steps(name, x, y, colour_, more = {}) {
  return { type: "scatter", mode: "lines", name, x, y, line: { shape: "hv", width: 2.2, color: colour_ }, ...more };
}
