// The shared parts of charts: what the server describes in the page's theme, axes, legends.

// Okabe and Ito (2008) without their yellow, as in the command line's plots; on a dark page, lighter ones.
const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5F6770"];
const DARK = ["#56B4E9", "#E69F00", "#2FC49A", "#E0A3C4", "#F0733A", "#5B9BE0", "#A3ACB6"];
export const N_COLOURS = LIGHT.length;
const dark = matchMedia("(prefers-color-scheme: dark)");

/** A colour of the page's style sheet, e.g. `--ink`. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Draws a chart `{data, layout}` that the server described, and its legend into a list. */
export function show(place, { data, layout: described }, list = null, more = {}) {
  const shapes = described.shapes.map((shape) => ({ ...shape, line: { ...shape.line, color: colour("--edge") } }));
  Plotly.react(place, data.map(themed), layout(place, {
    ...axes(described), shapes, annotations: described.annotations, ...more,
  }), CONFIG);
  if (list) legend(list, legendItems(data));
}

/** The axes of a layout that the server described, in the page's style. */
export function axes({ xaxis, yaxis }) {
  return { xaxis: { ...axis(""), ...xaxis }, yaxis: { ...axis(""), ...yaxis } };
}

/** A trace that the server described, in its colour on this page. */
export function themed(trace) {
  const color = shade(trace.meta);
  if (trace.type === "heatmap") {
    return { ...trace, colorscale: [[0, faded(color, 0)], [1, faded(color, 0.6)]], textfont: { color: colour("--ink") } };
  }
  const bars = ["error_x", "error_y"].filter((side) => trace[side]).map((side) => [side, { ...trace[side], color: color + trace.meta.errors }]);
  return {
    ...trace, line: { ...trace.line, color }, ...(trace.marker ? { marker: { ...trace.marker, color } } : {}), ...Object.fromEntries(bars),
  };
}

export function shade({ light, dark: onDark }) {
  return dark.matches ? onDark : light;
}

/** The symbol of a trace's points, and whether it is hollow; a line has none. */
export function symbolOf({ marker, line }) {
  const symbol = marker?.symbol ?? ({ dot: "dots", dash: "dashes" }[line.dash] ?? "");
  return { symbol: symbol.replace("-open", ""), hollow: symbol.endsWith("-open") };
}

/** The items of a legend: the traces that stand for all of their names, what matters most first. */
export function legendItems(traces) {
  const shown = traces.filter(({ showlegend }) => showlegend).sort((a, b) => a.legendrank - b.legendrank);
  return shown.map((trace) => ({
    name: trace.name, colour: shade(trace.meta), opacity: trace.marker?.opacity ?? trace.opacity, ...symbolOf(trace),
  }));
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
  star: "M8 1.5l2 4.4 4.7.5-3.5 3.2 1 4.7L8 11.9l-4.2 2.4 1-4.7L1.300 6.400l4.700-.5z", dots: "M1 8h3m2.500 0h3m2.500 0h3", dashes: "M1 8h6m3 0h5", hexagon: "M4.500 2h7l3.500 6-3.500 6h-7L1 8z",
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
  return hollow || ["", "x", "x-thin", "dots", "dashes"].includes(symbol);
}
