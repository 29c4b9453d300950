// The chart of a run's networks: measured, predicted, and the Pareto front.

import * as charts from "./charts.js";
import { Cloud } from "./cloud.js";
import { architectureLines, valueText } from "./metrics.js";

const NEAR = 14; // pixels around a point in which its network is described and selected
const CLICK = 4; // pixels that a pointer may move in a click

export class FrontChart {
  /** Draws into elements of the page: the chart, the box that holds it and its overlays, and its legend. */
  constructor({ chart, box, legend }) {
    Object.assign(this, { chart, box, legendList: legend, marks: [], series: [], chosen: null });
    this.cloud = new Cloud(box);
    this.tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    box.append(this.tip);
    box.addEventListener("pointermove", (event) => this.hover(event));
    box.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    let pressed = [0, 0];
    box.addEventListener("pointerdown", ({ clientX, clientY }) => { pressed = [clientX, clientY]; });
    box.addEventListener("click", (event) => {
      const isDrag = Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > CLICK;
      const found = isDrag ? null : this.nearest(event, (one) => one.part === this.data.measured);
      if (found) this.onPick?.(found.one.places[found.i]);
    });
  }

  /** Draws everything anew. A view has `metrics`, of which the first stands for their unit and goal, `series` and a `layout`. */
  draw(data, view) {
    Object.assign(this, { data, view });
    this.quality = data.metrics.find((metric) => metric.name === data.primary);
    this.series = view.series.map((one) => this.located(one));
    charts.legend(this.legendList, charts.legendItems(view.series.map(({ trace }) => trace)));
    const layout = charts.layout(this.chart, { ...charts.axes(view.layout), hovermode: false });
    const isWired = Boolean(this.chart.on);
    Plotly.react(this.chart, this.series.filter((one) => !isMany(one)).map(drawn), layout, charts.CONFIG);
    this.figure = () => ({ data: this.series.map(drawn), layout });
    if (!isWired) {
      for (const event of ["plotly_relayout", "plotly_relayouting"]) this.chart.on(event, () => this.place(this.chosen));
    }
    this.place(this.chosen);
  }

  /** A series with its networks, and their values in shown units. */
  located(one) {
    const part = this.data[one.part];
    const column = (name, { name: metric, scale }) => one.places.map((place) => {
      const value = part.metrics[metric][name][place];
      return value === null ? null : value * scale;
    });
    const metric = this.view.metrics.find(({ name }) => name === one.metric);
    const [x, y] = [metric, this.quality].map((shown) => column("values", shown));
    const [xErrors, yErrors] = [metric, this.quality].map((shown) => column("errors", shown));
    return { ...one, part, name: one.trace.name, x, y, xErrors, yErrors };
  }

  /** Describes the network nearest to the pointer. */
  hover(event) {
    const best = this.nearest(event);
    this.box.classList.toggle("is-over", best !== null && best.one.part === this.data.measured);
    this.tip.hidden = best === null || event.buttons !== 0;
    if (!this.tip.hidden) this.describe(best);
  }

  /** The network nearest to an event's place, of the series wanted; of equally near ones, the one drawn last; null for none. */
  nearest(event, isWanted = () => true) {
    if (!this.data) return null;
    const { left, top } = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    const place = this.placer();
    let [best, distance] = [null, NEAR ** 2];
    for (const one of this.series.filter(isWanted)) {
      for (let i = 0; i < one.x.length; i += 1) {
        if (one.x[i] === null || one.y[i] === null) continue;
        const [px, py] = place(one.x[i], one.y[i]);
        const away = (px - x) ** 2 + (py - y) ** 2;
        if (away <= distance) [best, distance] = [{ one, i, px, py }, away];
      }
    }
    return best !== null && this.contains(best.px, best.py) ? best : null;
  }

  describe({ one, i, px, py }) {
    const { data, tip, box } = this;
    const place = one.places[i];
    const number = one.part === data.measured ? data.front.indexOf(place) : -1;
    const lines = [number < 0 ? one.name : `number ${number} on the front`];
    if (one.part === data.measured) lines[0] += `, network ${data.measured.numbers[place]}`;
    for (const metric of data.metrics) {
      const { values, errors } = one.part.metrics[metric.name];
      if (values[place] !== null) lines.push(`${metric.title}: ${valueText(metric, values[place], errors[place])}`);
    }
    const test = one.part === data.measured ? data.measured.test.places.indexOf(place) : -1;
    if (test >= 0) lines.push(`${testTitle(data)}: ${testText(data, test)}`);
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

  /** A function from values in shown units to pixels in the box. */
  placer() {
    const { left, top, width, height } = this.plotArea();
    const [across, up] = [this.chart.layout.xaxis, this.chart.layout.yaxis].map(({ range: [from, to], type }) => (value) => (
      ((type === "log" ? Math.log10(value) : value) - from) / (to - from)
    ));
    return (x, y) => [left + width * across(x), top + height * (1 - up(y))];
  }

  /** The value along x, in shown units, at a distance in pixels from the box's left side. */
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

  /** Places the image of many points, the rings around the network `chosen` and the line of a limit. */
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
    const value = ({ name, scale }) => this.data.measured.metrics[name].values[chosen] * scale;
    for (const metric of this.view.metrics) {
      const [x, y] = this.placer()(value(metric), value(this.quality));
      if (!this.contains(x, y)) continue;
      const ring = Object.assign(document.createElement("div"), { className: "ring" });
      Object.assign(ring.style, { left: `${x}px`, top: `${y}px` });
      this.box.append(ring);
      this.marks.push(ring);
    }
  }
}

/** The facts of a measured network: pairs of a title and a text. */
export function factsOf(data, place) {
  const again = data.measured.final.length > 0;
  const isShort = again && !data.measured.final.includes(place);
  const facts = data.metrics.map((metric) => {
    const { values, errors } = data.measured.metrics[metric.name];
    return [metric.title, valueText(metric, values[place], errors[place]) + (isShort && metric.profile ? " *" : "")];
  });
  const test = data.measured.test.places.indexOf(place);
  if (test >= 0) facts.push([testTitle(data), testText(data, test)]);
  const number = data.front.indexOf(place);
  facts.push(["On the front", number < 0 ? "no" : `number ${number}`]);
  if (isShort) facts.push(["*", "by the search's shorter protocol alone"]);
  return facts;
}

function testText(data, at) {
  return valueText(data.measured.test.metric, data.measured.test.values[at], data.measured.test.errors[at]);
}

/** "Test accuracy", without the unit. */
function testTitle(data) {
  return data.measured.test.metric.title.replace(/ \([^)]*\)$/, "");
}

/** Whether a series is drawn as an image: plotly's own way for many points is forbidden by the pages' security policy. */
function isMany(one) {
  return one.trace.type === "scattergl";
}

/** The trace of a series, with its values. */
function drawn({ trace, x, y, xErrors, yErrors }) {
  const bars = trace.error_x ? { error_x: { ...trace.error_x, array: xErrors }, error_y: { ...trace.error_y, array: yErrors } } : {};
  return charts.themed({ ...trace, type: "scatter", x, y, ...bars });
}
