// What the evaluated networks show of the space: which genes matter, what the front's members chose, and parallel coordinates.

import { ROOT } from "./api.js";
import * as charts from "./charts.js";
import { downloadable } from "./download.js";
import { placeAndQuantity } from "./metrics.js";

const [GENES, LINES, BAR] = [15, 400, 11]; // genes and networks that are drawn at most, and pixels of a bar
const [AXIS, ROW, PHONE] = [112, 52, 640]; // pixels between two axes beside and below each other; narrower windows have them below
const LETTERS = 17; // in a line of an axis's title

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
    drawOptions(at("options"), insight.diversity, shown.length ? shown : state.data.choices.slice(0, GENES));
    drawCoordinates(at("coordinates"), at("coordinates-legend"), at("coordinates-note"), state);
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
      if (insight) drawCoordinates(at("coordinates"), at("coordinates-legend"), at("coordinates-note"), state);
    },
  };
}

/** The choices of the most important genes for any objective, the most important first. */
function importantGenes({ importance }, data) {
  const most = ({ name }) => Math.max(0, ...Object.values(importance).map(({ by_gene }) => by_gene[name] ?? 0));
  return data.choices.filter((choice) => most(choice) > 0).sort((a, b) => most(b) - most(a)).slice(0, GENES);
}

function drawImportance(place, list, note, { importance }, data, shown) {
  const series = Object.entries(importance).map(([name, found], i) => ({
    name: data.metrics.find((metric) => metric.name === name)?.title ?? name, found, colour: charts.palette()[i % charts.N_COLOURS], symbol: "square",
  }));
  note.textContent = series.map(({ name, found }) => (
    found.refused ? `${name}: not available, ${found.refused}.` : `${name}: R² ${found.r2.toFixed(2)} of ${found.n} networks.`
  )).join(" ");
  const known = shown.length ? series.filter(({ found }) => !found.refused) : [];
  place.hidden = known.length === 0; // and so are its downloads
  charts.legend(list, known);
  if (!known.length) return;
  const titles = shown.map(({ title }) => title);
  const traces = known.map(({ name, found, colour }) => ({
    type: "bar", orientation: "h", name, y: titles, x: shown.map((choice) => 100 * (found.by_gene[choice.name] ?? 0)), marker: { color: colour },
    hovertemplate: `%{y}, ${charts.escapeText(name)}: %{x:.1f} %<extra></extra>`,
  }));
  const labels = place.clientWidth < 480 ? titles.map((title) => placeAndQuantity(title).filter(Boolean)) : titles.map((title) => [title]);
  place.style.height = `${70 + shown.length * Math.max(BAR * known.length + 8, 16 * Math.max(...labels.map((lines) => lines.length)))}px`;
  const margin = { ...charts.margins(place), l: 20 + 6.6 * Math.max(...labels.flat().map((line) => line.length)) };
  Plotly.react(place, traces, charts.layout(place, {
    barmode: "group", bargap: 0.25, margin, xaxis: charts.axis("Share of variance (%)"),
    yaxis: { ...charts.axis(""), autorange: "reversed", showgrid: false, tickvals: titles, ticktext: labels.map((lines) => lines.map(charts.escapeText).join("<br>")), dragmode: false },
  }), charts.CONFIG);
}

/** A row for each gene, with a cell for each option: the darker, the more of the front's members have it. */
function drawOptions(place, diversity, shown) {
  place.closest("section").querySelector("#options-part").hidden = diversity === null;
  if (diversity === null) return;
  place.replaceChildren(...shown.map(({ name, title, members }) => {
    const row = document.createElement("tr");
    row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: title, title: members.join(", ") }));
    for (const [option, share] of Object.entries(diversity.options[name])) {
      const cell = Object.assign(document.createElement("td"), { textContent: option, title: `${Math.round(100 * share)} % of the members` });
      cell.style.setProperty("--share", `${Math.round(70 * share)}%`);
      row.append(cell);
    }
    return row;
  }));
}

/** Each network as a line over axes: the genes that vary most on the front, then the metrics; on a phone, from top to bottom. */
function drawCoordinates(place, list, note, { data, chosen }) {
  const isDown = place.clientWidth < PHONE;
  const room = isDown ? GENES : Math.max(2, Math.floor((place.clientWidth - 60) / AXIS) - data.metrics.length);
  const [shown, nGenes] = variedGenes(data, room);
  note.textContent = shown.length === nGenes ? "" : `${shown.length} of ${nGenes} genes: those whose options vary most ${data.front.length > 1 ? "on the front" : "among the measured networks"} and fit here; ${nGenes - shown.length} are left out.`;
  const axes = [...shown.map((choice) => geneAxis(choice, data)), ...data.metrics.map((metric) => metricAxis(metric, data))];
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
  const small = { color: charts.colour("--ink"), size: 11 };
  const behind = charts.faded(charts.colour("--paper"), 0.9); // over the lines, which all pass here
  const text = (along, across, words, more) => ({ ...(isDown ? { x: across, y: along } : { x: along, y: across }), text: words, showarrow: false, font: small, bgcolor: behind, ...more });
  const tick = isDown ? (value) => ({ xanchor: value === 0 ? "left" : value === 1 ? "right" : "center", yanchor: "top", yshift: -3 }) : () => ({ xanchor: "left", xshift: 4 });
  const annotations = axes.flatMap(({ ticks }, i) => ticks.map(([value, words]) => text(i, value, charts.escapeText(words), tick(value))));
  const titles = axes.map(({ title }) => (isDown ? [title.join(" ")] : title.flatMap(wrapped)).map(charts.escapeText).join("<br>"));
  if (isDown) annotations.push(...titles.map((title, i) => text(i, 0, title, { xanchor: "left", yanchor: "bottom", yshift: 1, bgcolor: behind })));
  const along = { ...charts.axis(""), range: isDown ? [axes.length - 0.4, -0.5] : [-0.1, axes.length - 0.6], tickvals: axes.map((_, i) => i), ticktext: titles, showticklabels: !isDown, showline: false, gridcolor: charts.colour("--edge") };
  const across = { ...charts.axis(""), range: [-0.04, 1.04], showgrid: false, showticklabels: false, showline: false };
  const nLines = Math.max(...titles.map((title) => title.split("<br>").length));
  place.style.height = isDown ? `${20 + ROW * axes.length}px` : `${250 + 15 * nLines}px`;
  Plotly.react(place, series.map(({ name, places, colour, opacity, width }) => {
    const points = lines(places);
    const [x, y] = [0, 1].map((i) => points.map((point) => point[isDown ? 1 - i : i]));
    return { type: "scatter", mode: "lines", name, x, y, opacity, line: { color: colour, width }, hoverinfo: "skip" };
  }), charts.layout(place, {
    hovermode: false, dragmode: false, margin: isDown ? { l: 8, r: 8, t: 10, b: 10 } : { l: 40, r: 60, t: 14, b: 16 + 15 * nLines },
    xaxis: isDown ? across : along, yaxis: isDown ? along : across, annotations,
  }), charts.CONFIG);
}

/** At most `room` choices, those that vary most among the members of the front in the order of the space, and the number of all. */
function variedGenes(data, room) {
  const places = data.front.length > 1 ? data.front : data.measured.keys.map((_, i) => i);
  const genes = places.map((i) => data.measured.keys[i].split("-"));
  const all = data.choices.map((choice, i) => ({ choice, entropy: entropyOf(genes.map((levels) => levels[i])) })).filter(({ choice }) => choice.options.length > 1);
  const varied = new Set([...all].sort((a, b) => b.entropy - a.entropy).slice(0, room).map(({ choice }) => choice));
  return [data.choices.filter((choice) => varied.has(choice)), all.length];
}

/** The entropy of values, in nats: 0 where all are equal. */
function entropyOf(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return -[...counts.values()].reduce((total, n) => total + (n / values.length) * Math.log(n / values.length), 0);
}

/** An axis of a gene: the parts of its title, its options at equal distances; a network without the gene has a gap. */
function geneAxis({ name, title, options }, data) {
  const place = data.choices.findIndex((choice) => choice.name === name);
  const genes = data.measured.keys.map((key) => key.split("-")[place]);
  return {
    title: placeAndQuantity(title).filter(Boolean),
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

/** A text in lines that are no wider than the distance of two axes; words and parts of paths stay whole where they fit. */
function wrapped(text) {
  const lines = [""];
  for (const part of text.match(/[^\s._-]+[\s._-]*|[\s._-]+/g).flatMap((word) => word.match(new RegExp(`.{1,${LETTERS}}`, "g")))) {
    if ((lines.at(-1) + part).trimEnd().length > LETTERS && lines.at(-1)) lines.push("");
    lines[lines.length - 1] += part;
  }
  return lines.map((line) => line.trim());
}
