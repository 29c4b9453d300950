// A limit on a cost: a line in the chart, a slider and a number that show the same bound.

import { boundText } from "./metrics.js";
import { extremes } from "./charts.js";

const STEPS = 1000;

export class Limit {
  /** `onChange` is called whenever the limit moves. */
  constructor({ line, number, range, name, unit, chart }, onChange) {
    Object.assign(this, { line, number, range, nameLabel: name, unitLabel: unit, chart, onChange, isTouched: false });
    chart.onPlace = () => this.placeLine();
    range.addEventListener("input", () => this.move(this.shownOfStep(Number(range.value))));
    number.addEventListener("input", () => {
      if (number.value !== "" && Number.isFinite(number.valueAsNumber)) this.move(number.valueAsNumber, number);
    });
    number.addEventListener("change", () => this.write());
    line.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      line.setPointerCapture(event.pointerId);
      this.grip = event.clientX - line.getBoundingClientRect().left - line.offsetWidth / 2;
    });
    line.addEventListener("pointermove", (event) => {
      if (!line.hasPointerCapture(event.pointerId)) return;
      const left = event.clientX - this.grip - chart.box.getBoundingClientRect().left;
      this.move(this.clamped(chart.shownAt(left)));
    });
  }

  /** Takes a run's data and the view that is shown; until the user moves the limit, it is the job's own, or allows everything. */
  take(data, view) {
    const isOther = this.view?.title !== view.title;
    const [metric] = view.metrics;
    this.view = view;
    this.metric = metric;
    this.sign = metric.goal === "minimize" ? "<=" : ">=";
    const shown = view.metrics.flatMap(({ name, scale }) => [
      ...data.measured.metrics[name].values, ...data.constraints.filter((c) => c.metric === name).flatMap((c) => [c.min ?? [], c.max ?? []].flat()),
    ].map((v) => v * scale));
    const [low, high] = extremes(shown);
    this.ends = [outward(low, -1), outward(high, 1)];
    this.isLog = view.layout.xaxis.type === "log";
    this.nameLabel.textContent = this.sign === "<=" ? "At most" : "At least";
    this.unitLabel.textContent = metric.unit;
    this.number.step = 10 ** Math.floor(Math.log10((high - low || high || 1) / 50));
    if (isOther || !this.isTouched) {
      const own = data.constraints.find((c) => view.metrics.some((m) => m.name === c.metric));
      const bound = own && (this.sign === "<=" ? own.max : own.min);
      this.isTouched = false;
      this.shown = bound === null || bound === undefined ? this.ends[this.sign === "<=" ? 1 : 0] : stored(bound, 1 / metric.scale);
    }
    this.write();
  }

  /** The limits with their bounds in stored units. */
  limits() {
    const bound = stored(this.shown, this.metric.scale);
    return this.view.metrics.map((metric) => ({ metric: metric.name, sign: this.sign, bound }));
  }

  text() {
    const word = this.sign === "<=" ? "at most" : "at least";
    return `${word} ${boundText(this.metric, this.shown / this.metric.scale)}`;
  }

  move(shown, typed = null) {
    this.isTouched = true;
    this.shown = typed ? shown : Number(shown.toPrecision(4));
    this.write(typed);
    this.onChange();
  }

  /** Shows the limit everywhere but in the field in which the user types. */
  write(typed = null) {
    if (typed !== this.number) this.number.value = String(this.shown);
    this.range.value = String(this.stepOfShown(this.shown));
    this.range.setAttribute("aria-valuetext", this.text());
    this.placeLine();
  }

  placeLine() {
    const { chart, line } = this;
    if (!this.view || !chart.chart.layout?.xaxis?.range || this.shown === undefined) return;
    const [left] = chart.placer()(this.shown, 0);
    const { top, height } = chart.plotArea();
    line.hidden = !chart.contains(left, top);
    line.style.left = `${left}px`;
    line.style.top = `${top}px`;
    line.style.height = `${height}px`;
    line.classList.toggle("late", left > chart.box.clientWidth - 110);
    line.firstElementChild.textContent = `${this.sign === "<=" ? "≤" : "≥"} ${boundText(this.metric, this.shown / this.metric.scale)}`;
  }

  clamped(shown) {
    return Math.min(this.ends[1], Math.max(this.ends[0], shown));
  }

  shownOfStep(step) {
    const [low, high] = this.ends;
    if (step <= 0) return low;
    if (step >= STEPS) return high;
    const part = step / STEPS;
    return this.isLog ? low * (high / low) ** part : low + part * (high - low);
  }

  stepOfShown(shown) {
    const [low, high] = this.ends;
    if (high === low) return STEPS;
    const at = this.clamped(shown);
    return Math.round(STEPS * (this.isLog ? Math.log(at / low) / Math.log(high / low) : (at - low) / (high - low)));
  }
}

/** A shown value in the unit in which it is stored; rounded, so that 30 M is exactly 30,000,000. */
function stored(shown, scale) {
  return scale === 1 ? shown : Number((shown / scale).toPrecision(15));
}

/** A number to four digits, rounded outwards. */
function outward(value, direction) {
  if (value === 0) return 0;
  const unit = 10 ** (Math.floor(Math.log10(Math.abs(value))) - 3);
  return Number(((direction > 0 ? Math.ceil(value / unit - 1e-9) : Math.floor(value / unit + 1e-9)) * unit).toPrecision(4));
}
