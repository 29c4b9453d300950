// Fields of the usual settings beside a job's text: they show its values, and a change of one changes the text.

import { call } from "./api.js";

const at = (id) => document.getElementById(id);
const settings = at("settings");
const UNITS = { share: "", "images/s": "/s", parameters: "", MACs: "" }; // others as they are
let shown = null;
let queue = Promise.resolve();

/**
 * Connects the fields with the text of the job. Changes are made by the server, one after the other; `failed(error)` is called
 * with an error.
 */
export function fields(job, failed) {
  settings.addEventListener("change", ({ target }) => {
    const changes = changeOf(target);
    if (changes === null) return;
    queue = queue.then(async () => {
      try {
        const made = await call("/jobs/edit", { method: "POST", body: { job: job.value, changes } });
        const top = job.scrollTop;
        job.value = made.job;
        job.scrollTop = top;
        job.dispatchEvent(new Event("input", { bubbles: true }));
      } catch (error) {
        failed(error);
      }
    });
  });
}

/** Resolves when the changes so far are in the text. */
export const settled = () => queue;

/** Shows the values of a job that was checked; a job with errors keeps the last ones. */
export function showFields(found) {
  if (!found) return;
  shown = found;
  setNumber(at("epochs"), found.epochs);
  at("epochs").disabled = found.epochs === null;
  at("epochs").title = found.epochs === null ? "The job starts from a trained supernet." : "";
  setNumber(at("evaluations"), found.evaluations);
  setNumber(at("minutes"), found.minutes);
  for (const box of settings.querySelectorAll("[data-key=hardware]")) box.checked = found.hardware.includes(box.value);
  showMetrics(found.metrics);
}

/** The change of the job that a control stands for, by path; null for none. */
function changeOf(control) {
  const { key } = control.dataset;
  if (!key) return null;
  if (key === "hardware") return { hardware: listed("[data-key=hardware]", shown?.hardware ?? []) };
  if (key === "objectives") return { objectives: listed("[data-key=objectives]", objectivesOf(shown)) };
  if (!control.validity.valid) return null;
  return { [key]: control.value === "" ? null : Number(control.value) };
}

/** The checked values: those that the job has in its order, then the new ones. */
function listed(selector, before) {
  const boxes = [...settings.querySelectorAll(selector)];
  const known = boxes.map((box) => box.value);
  const checked = boxes.filter((box) => box.checked).map((box) => box.value);
  const kept = before.filter((name) => checked.includes(name) || !known.includes(name));
  return [...kept, ...checked.filter((name) => !kept.includes(name))];
}

function objectivesOf(found) {
  return (found?.metrics ?? []).filter((metric) => metric.is_objective).map((metric) => metric.name);
}

function setNumber(input, value) {
  if (document.activeElement !== input || input.value === "" || input.validity.valid) input.value = value ?? "";
}

/** Shows a row for each metric: the usual ones and those that the job uses, then the rest. */
function showMetrics(metrics) {
  const names = metrics.map((metric) => metric.name).join();
  const first = at("metrics");
  if (first.dataset.names !== names) {
    const isUsual = ({ name, is_objective, minimum, maximum }) => (
      is_objective || minimum !== null || maximum !== null || /^(accuracy|mae|average_precision|perplexity|bits_per_byte|(normalised_)?choice_accuracy|latency_ms)\b/.test(name)
    );
    first.replaceChildren(...metrics.filter(isUsual).map(row));
    at("more-metrics").replaceChildren(...metrics.filter((metric) => !isUsual(metric)).map(row));
    first.dataset.names = names;
  }
  for (const metric of metrics) {
    const [box, limit] = document.getElementById(`metric-${metric.name}`).querySelectorAll("input");
    const side = metric.goal === "maximize" ? "min" : "max";
    box.checked = metric.is_objective;
    limit.dataset.key = `constraints.${metric.limit_name}.${side}`;
    setNumber(limit, side === "min" ? metric.minimum : metric.maximum);
  }
}

function row(metric) {
  const made = Object.assign(document.createElement("tr"), { id: `metric-${metric.name}` });
  const name = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", value: metric.name });
  box.dataset.key = "objectives";
  const [title, profile] = metric.name.split("@");
  name.append(box, Object.assign(document.createElement("span"), { textContent: title }));
  if (profile) name.append(Object.assign(document.createElement("small"), { textContent: `@${profile}` }));
  const [word, sign] = metric.goal === "maximize" ? ["at least", "≥"] : ["at most", "≤"];
  const limit = Object.assign(document.createElement("input"), { type: "number", step: "any", min: 0 });
  limit.setAttribute("aria-label", `${metric.name} ${word}`);
  if (metric.unit === "share") Object.assign(limit, { max: 1, placeholder: "0 to 1" });
  else limit.placeholder = "no limit";
  const cells = [document.createElement("td"), document.createElement("td")];
  cells[0].append(name);
  cells[1].append(Object.assign(document.createElement("small"), { textContent: sign }), limit,
    Object.assign(document.createElement("small"), { textContent: UNITS[metric.unit] ?? metric.unit }));
  made.append(...cells);
  return made;
}
