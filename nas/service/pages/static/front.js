// The chart of a run's networks: measured, predicted, and the front.

import * as charts from "./charts.js";
import { Cloud } from "./cloud.js";
import { architectureLines, described, figureText } from "./figures.js";

const MANY = 1500; // more points than this are drawn as an image
const NEAR = 14; // pixels from a point at which it is told of
const PRECISIONS = { fp32: "circle", int8: "square", fp16: "cross", bf16: "x" };

/**
 * What can be drawn along the accuracy: one cost each, and where several profiles have the same cost, all of them at once.
 * Each view has `figures`, the first of which stands for their unit and goal.
 */
export function viewsOf(data) {
  const costs = data.figures.filter((f) => f.name !== data.primary);
  costs.sort((a, b) => (b.name === data.cost) - (a.name === data.cost));
  const views = costs.map((figure) => ({ title: figure.title, figures: [figure] }));
  const metrics = new Set(costs.filter((f) => f.profile).map((f) => f.name.split("@")[0]));
  for (const metric of metrics) {
    const figures = costs.filter((f) => f.profile && f.name.split("@")[0] === metric);
    if (figures.length > 1) views.unshift({ title: `${figures[0].title.split(",")[0]}, every profile`, figures });
  }
  return views;
}

export class FrontChart {
  /** Draws into elements of the page: the chart itself, the box that holds it and what lies over it, and its legend. */
  constructor({ chart, box, legend }) {
    Object.assign(this, { chart, box, legendList: legend, marks: [], series: [], chosen: null });
    this.cloud = new Cloud(box);
    this.tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    box.append(this.tip);
    box.addEventListener("pointermove", (event) => this.hover(event));
    box.addEventListener("pointerleave", () => { this.tip.hidden = true; });
  }

  /** Draws everything anew. */
  draw(data, view) {
    Object.assign(this, { data, view });
    this.quality = data.figures.find((f) => f.name === data.primary);
    this.series = view.figures.flatMap((figure, i) => this.seriesOf(figure, view.figures.length > 1 ? i : null));
    charts.legend(this.legendList, this.series.filter((one) => one.places.length).sort((a, b) => rank(a) - rank(b)));
    const figures = (part, figure) => part.figures[figure.name].values.map((v) => (v === null ? null : v * figure.scale));
    const bounds = ({ name, scale }) => data.constraints.filter((c) => c.figure === name).flatMap(({ min, max }) => (
      [min, max].filter((bound) => bound !== null).map((bound) => bound * scale)
    ));
    const extent = (figure) => [...figures(data.measured, figure), ...figures(data.predicted, figure), ...bounds(figure)];
    const layout = charts.layout(this.chart, {
      xaxis: charts.figureAxis({ ...view.figures[0], title: view.title }, view.figures.flatMap(extent)),
      yaxis: charts.figureAxis(this.quality, extent(this.quality)),
      hovermode: false,
    });
    const isWired = Boolean(this.chart.on);
    Plotly.react(this.chart, this.series.filter((one) => !isMany(one)).map((one) => this.trace(one)), layout, charts.CONFIG);
    if (!isWired) {
      for (const event of ["plotly_relayout", "plotly_relayouting"]) this.chart.on(event, () => this.place(this.chosen));
    }
    this.place(this.chosen);
  }

  /** The series along one figure, back to front; the i-th of several figures has a colour of its own. */
  seriesOf(figure, i) {
    const { data } = this;
    const several = i !== null;
    const own = data.fronts[figure.profile];
    const front = own ?? data.front;
    const [suffix, look] = [several ? `, ${figure.profile}` : "", several ? charts.palette()[i % charts.N_COLOURS] : null];
    const isShown = new Set([...front, ...(several ? [] : [data.smallest, data.largest])]);
    const rest = [...data.measured.keys.keys()].filter((place) => !isShown.has(place));
    const breaks = (place) => data.constraints.some(({ figure: name, min, max }) => {
      const value = data.measured.figures[name].values[place];
      return (min !== null && value < min) || (max !== null && value > max);
    });
    // A line through the front is its staircase only where the chart's two figures are all that decide it.
    const others = data.objectives.filter((name) => name !== figure.name && name !== data.primary);
    const isOfAnother = (name) => name.includes("@") && !name.endsWith(`@${figure.profile}`);
    const joined = data.objectives.includes(figure.name) && (own ? others.every(isOfAnother) : others.length === 0);
    const grey = look ?? charts.colour("--measured");
    const ends = several ? [] : [
      { name: "smallest network", places: [data.smallest], symbol: "triangle-down", size: 13, colour: charts.colour("--smallest") },
      { name: "largest network", places: [data.largest], symbol: "triangle-up", size: 13, colour: charts.colour("--largest") },
    ];
    const series = [
      { name: `measured, breaks a limit${suffix}`, places: rest.filter(breaks), symbol: "x", size: 6, colour: grey },
      { name: `measured${suffix}`, places: rest.filter((p) => !breaks(p)), symbol: "circle", size: 7, colour: grey, opacity: several ? 0.35 : 0.75, precise: true },
      { name: `predicted, not measured${suffix}`, part: data.predicted, places: [...data.predicted.keys.keys()], symbol: "diamond", hollow: true, size: 8, colour: look ?? charts.colour("--predicted") },
      { name: `front, measured (± error)${suffix}`, places: front, symbol: "circle", size: 9, colour: look ?? charts.colour("--front"), joined, precise: true, bars: true },
      ...ends.map((end) => ({ ...end, places: end.places.filter((place) => place !== null) })),
    ];
    return series.flatMap((one) => this.byPrecision(one)).map((one) => this.located({ part: data.measured, ...one }, figure));
  }

  /** A series of measured networks, divided by precision where the run has several. */
  byPrecision(one) {
    const several = this.data.choices.some((choice) => choice.name === "precision");
    if (!several || !one.precise || one.joined) return [one];
    const groups = new Map();
    for (const place of one.places) {
      const precision = described(this.data.measured.keys[place], this.data.choices).get("precision");
      groups.set(precision, [...(groups.get(precision) ?? []), place]);
    }
    return [...groups].map(([precision, places]) => ({ ...one, places, name: `${one.name}, ${precision}`, symbol: PRECISIONS[precision] ?? "circle" }));
  }

  /** A series with its figures in shown units. */
  located(one, figure) {
    const shown = ({ name, scale }) => one.places.map((place) => {
      const value = one.part.figures[name].values[place];
      return value === null ? null : value * scale;
    });
    return { ...one, figure, x: shown(figure), y: shown(this.quality) };
  }

  trace(one) {
    const bars = ({ name, scale }) => ({
      type: "data", array: one.places.map((place) => one.part.figures[name].errors[place] * scale), color: one.colour, thickness: 1.2, width: 0,
    });
    const thin = one.symbol === "x";
    return {
      type: "scatter", mode: one.joined ? "lines+markers" : "markers", x: one.x, y: one.y, line: { color: one.colour, width: 2 },
      marker: {
        color: one.colour, size: one.size, opacity: one.opacity ?? 1, symbol: one.hollow ? `${one.symbol}-open` : thin ? "x-thin-open" : one.symbol,
        line: { width: one.hollow ? 1.6 : thin ? 1.2 : 0, color: one.colour },
      },
      ...(one.bars ? { error_x: bars(one.figure), error_y: bars(this.quality) } : {}),
    };
  }

  /** Tells of the network nearest to the pointer; of equally near ones, of what is drawn last. */
  hover(event) {
    if (!this.data) return;
    const { left, top } = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    const place = this.placer();
    let [best, distance] = [null, NEAR ** 2];
    for (const one of this.series) {
      for (let i = 0; i < one.x.length; i += 1) {
        if (one.x[i] === null || one.y[i] === null) continue;
        const [px, py] = place(one.x[i], one.y[i]);
        const away = (px - x) ** 2 + (py - y) ** 2;
        if (away <= distance) [best, distance] = [{ one, i, px, py }, away];
      }
    }
    this.tip.hidden = best === null || !this.contains(best.px, best.py) || event.buttons !== 0;
    if (!this.tip.hidden) this.tell(best);
  }

  tell({ one, i, px, py }) {
    const { data, tip, box } = this;
    const place = one.places[i];
    const number = one.part === data.measured ? data.front.indexOf(place) : -1;
    const lines = [number < 0 ? one.name : `number ${number} on the front`];
    for (const figure of data.figures) {
      const { values, errors } = one.part.figures[figure.name];
      if (values[place] !== null) lines.push(`${figure.title}: ${figureText(figure, values[place], errors[place])}`);
    }
    const test = one.part === data.measured ? data.measured.test.places.indexOf(place) : -1;
    if (test >= 0) lines.push(`Test accuracy: ${testText(data, test)}`);
    const line = (textContent, className) => Object.assign(document.createElement("p"), { textContent, className });
    tip.replaceChildren(
      ...lines.map((text) => line(text, "")), ...architectureLines(one.part.keys[place], data.choices).map((text) => line(text, "of")),
    );
    const [width, height] = [tip.offsetWidth, tip.offsetHeight];
    tip.style.left = `${px + 14 + width > box.clientWidth ? Math.max(0, px - 14 - width) : px + 14}px`;
    tip.style.top = `${Math.max(0, Math.min(py - height / 2, box.clientHeight - height))}px`;
  }

  /** Where the plot lies in its box, without the texts of its axes. */
  plotArea() {
    const { l, r, t, b } = charts.margins(this.chart);
    return { left: l, top: t, width: this.chart.clientWidth - l - r, height: this.chart.clientHeight - t - b };
  }

  /** A function from figures in shown units to pixels in the box. */
  placer() {
    const { left, top, width, height } = this.plotArea();
    const [across, up] = [this.chart.layout.xaxis, this.chart.layout.yaxis].map(({ range: [from, to], type }) => (value) => (
      ((type === "log" ? Math.log10(value) : value) - from) / (to - from)
    ));
    return (x, y) => [left + width * across(x), top + height * (1 - up(y))];
  }

  /** The figure along x, in shown units, at so many pixels from the box's left. */
  shownAt(pixels) {
    const { left, width } = this.plotArea();
    const { range: [from, to], type } = this.chart.layout.xaxis;
    const at = from + ((pixels - left) / width) * (to - from);
    return type === "log" ? 10 ** at : at;
  }

  contains(x, y) {
    const { left, top, width, height } = this.plotArea();
    return x >= left - 1 && x <= left + width + 1 && y >= top - 1 && y <= top + height + 1;
  }

  /** Puts the image of many points, the rings around the network `chosen` and the line of a limit where they belong. */
  place(chosen) {
    this.chosen = chosen;
    this.cloud.draw(this.series.filter(isMany), this);
    this.mark();
    this.onPlace?.();
  }

  /** Puts rings around the chosen network alone. */
  mark(chosen = this.chosen) {
    this.chosen = chosen;
    for (const ring of this.marks) ring.remove();
    this.marks = [];
    if (chosen === null) return;
    const value = ({ name, scale }) => this.data.measured.figures[name].values[chosen] * scale;
    for (const figure of this.view.figures) {
      const [x, y] = this.placer()(value(figure), value(this.quality));
      if (!this.contains(x, y)) continue;
      const ring = Object.assign(document.createElement("div"), { className: "ring" });
      Object.assign(ring.style, { left: `${x}px`, top: `${y}px` });
      this.box.append(ring);
      this.marks.push(ring);
    }
  }
}

/** What is told of a measured network: pairs of a title and a text. */
export function factsOf(data, place) {
  const again = data.measured.final.length > 0;
  const isShort = again && !data.measured.final.includes(place);
  const facts = data.figures.map((figure) => {
    const { values, errors } = data.measured.figures[figure.name];
    return [figure.title, figureText(figure, values[place], errors[place]) + (isShort && figure.profile ? " *" : "")];
  });
  const test = data.measured.test.places.indexOf(place);
  if (test >= 0) facts.push(["Test accuracy", testText(data, test)]);
  const number = data.front.indexOf(place);
  facts.push(["On the front", number < 0 ? "no" : `number ${number}`]);
  if (isShort) facts.push(["*", "by the search's shorter protocol alone"]);
  return facts;
}

function testText(data, at) {
  return figureText({ scale: 100, unit: "%" }, data.measured.test.values[at], data.measured.test.errors[at]);
}

function isMany(one) {
  return one.places.length > MANY;
}

/** What matters most is told first. */
function rank({ bars, hollow, symbol }) {
  if (bars) return 0;
  return hollow ? 2 : symbol === "x" ? 3 : symbol.startsWith("triangle") ? 4 : 1;
}
