// What the evaluated networks show of the space: which genes matter, what the front's members chose, and parallel coordinates.

import { ROOT } from "./api.js";
import * as charts from "./charts.js";
import { downloadable } from "./download.js";

const [GENES, LINES, BAR] = [15, 400, 11]; // genes and networks that are drawn at most, and pixels of a bar
const AXIS = 110; // pixels between two axes at least

/** Draws into the page once the section is near the window. Returns an object whose `update` and `mark` redraw it. */
export function insightOf(run, at) {
  let [state, insight, isSeen] = [null, null, false];

  async function load() {
    if (!isSeen || !state) return;
    const answer = await fetch(`${ROOT}/runs/${encodeURIComponent(run)}/insight.json`);
    if (!answer.ok) return; // nothing is measured any more
    const isFirst = insight === null;
    insight = await answer.json();
    if (!isFirst) return draw();
    charts.drawn(at("coordinates"), draw);
    downloadable(at("importance-legend"), { name: `${run}-importance`, title: `${run}: importance of genes`, figure: () => at("importance") });
    downloadable(at("coordinates-legend"), { name: `${run}-coordinates`, title: `${run}: parallel coordinates`, figure: () => at("coordinates") });
  }

  function draw() {
    const shown = importantGenes(insight, state.data);
    drawImportance(at("importance"), at("importance-legend"), at("importance-note"), insight, state.data, shown);
    drawOptions(at("options"), insight.diversity, shown.length ? shown : state.data.choices.map(({ name }) => name).slice(0, GENES));
    drawCoordinates(at("coordinates"), at("coordinates-legend"), state, shown);
  }

  new IntersectionObserver(([entry]) => {
    if (isSeen || !entry.isIntersecting) return;
    isSeen = true;
    load();
  }, { rootMargin: "300px" }).observe(at("genes-part"));
  return {
    /** New networks were measured. */
    update(data, chosen) {
      state = { data, chosen };
      return load();
    },
    /** Another network is chosen. */
    mark(chosen) {
      if (state === null || state.chosen === chosen) return;
      state.chosen = chosen;
      if (insight) drawCoordinates(at("coordinates"), at("coordinates-legend"), state, importantGenes(insight, state.data));
    },
  };
}

/** The names of the most important genes for any objective, the most important first. */
function importantGenes({ importance }, data) {
  const most = (name) => Math.max(0, ...Object.values(importance).map(({ by_gene }) => by_gene[name] ?? 0));
  const names = data.choices.map(({ name }) => name).filter((name) => most(name) > 0);
  return names.sort((a, b) => most(b) - most(a)).slice(0, GENES);
}

function drawImportance(place, list, note, { importance }, data, shown) {
  const series = Object.entries(importance).map(([name, found], i) => ({
    name: data.metrics.find((metric) => metric.name === name)?.title ?? name, found, colour: charts.palette()[i % charts.N_COLOURS], symbol: "square",
  }));
  note.textContent = series.map(({ name, found }) => (
    found.refused ? `${name}: not available, ${found.refused}.` : `${name}: R² ${found.r2.toFixed(2)} of ${found.n} networks.`
  )).join(" ");
  const known = series.filter(({ found }) => !found.refused);
  place.hidden = known.length === 0;
  charts.legend(list, known);
  if (!known.length) return;
  place.style.height = `${70 + shown.length * (BAR * known.length + 8)}px`;
  const traces = known.map(({ name, found, colour }) => ({
    type: "bar", orientation: "h", name, y: shown, x: shown.map((gene) => 100 * (found.by_gene[gene] ?? 0)), marker: { color: colour },
    hovertemplate: `%{y}, ${charts.escapeText(name)}: %{x:.1f} %<extra></extra>`,
  }));
  const margin = { ...charts.margins(place), l: 20 + 6.6 * Math.max(...shown.map((gene) => gene.length)) };
  Plotly.react(place, traces, charts.layout(place, {
    barmode: "group", bargap: 0.25, margin, xaxis: charts.axis("Share of variance (%)"),
    yaxis: { ...charts.axis(""), autorange: "reversed", showgrid: false, tickvals: shown, dragmode: false },
  }), charts.CONFIG);
}

/** A row for each gene, with a cell for each option: the darker, the more of the front's members have it. */
function drawOptions(place, diversity, shown) {
  place.closest("section").querySelector("#options-part").hidden = diversity === null;
  if (diversity === null) return;
  place.replaceChildren(...shown.map((gene) => {
    const row = document.createElement("tr");
    row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: gene }));
    for (const [option, share] of Object.entries(diversity.options[gene])) {
      const cell = Object.assign(document.createElement("td"), { textContent: option, title: `${Math.round(100 * share)} % of the members` });
      cell.style.setProperty("--share", `${Math.round(70 * share)}%`);
      row.append(cell);
    }
    return row;
  }));
}

/** Each network as a line over axes: the most important genes, then the metrics. */
function drawCoordinates(place, list, { data, chosen }, shown) {
  const room = Math.max(2, Math.floor(place.clientWidth / AXIS) - data.metrics.length);
  const choices = data.choices.filter(({ name, options }) => options.length > 1 && shown.slice(0, room).includes(name));
  const axes = [...choices.map((choice) => geneAxis(choice, data)), ...data.metrics.map((metric) => metricAxis(metric, data))];
  const lines = (places) => places.flatMap((i) => [...axes.map((axis, x) => [x, axis.at(i)]), [null, null]]);
  const front = new Set(data.front);
  const others = data.measured.keys.map((_, i) => i).filter((i) => !front.has(i));
  const some = others.filter((_, i) => i % Math.ceil(others.length / LINES) === 0);
  const series = [
    { name: some.length < others.length ? `measured (${some.length} of ${others.length})` : "measured", places: some, colour: charts.colour("--measured"), opacity: 0.35, width: 1 },
    { name: "front", places: data.front, colour: charts.colour("--front"), opacity: 0.8, width: 1.6 },
    ...(chosen === null ? [] : [{ name: "chosen", places: [chosen], colour: charts.colour("--ink"), opacity: 1, width: 3 }]),
  ];
  charts.legend(list, series.map(({ name, colour }) => ({ name, colour, symbol: "" })));
  const text = (x, y, words, more) => ({ x, y, text: charts.escapeText(words), showarrow: false, font: { size: 11 }, ...more });
  const small = { color: charts.colour("--ink"), size: 11 };
  Plotly.react(place, series.map(({ name, places, colour, opacity, width }) => {
    const points = lines(places);
    return { type: "scatter", mode: "lines", name, x: points.map(([x]) => x), y: points.map(([, y]) => y), opacity, line: { color: colour, width }, hoverinfo: "skip" };
  }), charts.layout(place, {
    hovermode: false, dragmode: false, margin: { l: 40, r: 60, t: 14, b: 52 },
    xaxis: { ...charts.axis(""), range: [-0.1, axes.length - 0.6], tickvals: axes.map((_, i) => i), ticktext: axes.map(({ title }) => title.map(charts.escapeText).join("<br>")), showline: false, gridcolor: charts.colour("--edge") },
    yaxis: { ...charts.axis(""), range: [-0.04, 1.04], showgrid: false, showticklabels: false, showline: false },
    annotations: axes.flatMap(({ ticks }, x) => ticks.map(([y, words]) => text(x, y, words, { xanchor: "left", xshift: 4, font: small, bgcolor: charts.faded(charts.colour("--paper"), 0.9) /* over the lines, which all pass here */ }))),
  }), charts.CONFIG);
}

/** An axis of a gene: the lines of its title, its options at equal distances; a network without the gene has a gap. */
function geneAxis({ name, options }, data) {
  const place = data.choices.findIndex((choice) => choice.name === name);
  const genes = data.measured.keys.map((key) => key.split("-")[place]);
  return {
    title: [name.replace(/\.(?=[^.]*$)/, " ")],
    at: (i) => (genes[i] === "x" ? null : Number(genes[i]) / (options.length - 1)),
    ticks: options.map((option, level) => [level / (options.length - 1), String(option)]),
  };
}

/** An axis of a metric, from its least to its largest measured value. */
function metricAxis(metric, data) {
  const { values } = data.measured.metrics[metric.name];
  const [low, high] = charts.extremes(values);
  const shown = (value) => `${Number((value * metric.scale).toPrecision(3))} ${metric.unit}`;
  const short = (one) => one.title.split(" (")[0];
  const isAlone = data.metrics.filter((one) => short(one) === short(metric)).length === 1; // else its profile tells it from others
  return { title: [short(metric), ...(isAlone ? [] : [metric.profile])], at: (i) => (values[i] - low) / (high - low || 1), ticks: [[0, shown(low)], [1, shown(high)]] };
}
