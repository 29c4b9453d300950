// Fields of the usual settings beside a job's text: they show its values, and a change of one changes the text.
//
// What a user types is never overwritten: neither the focused field, nor any field while a change waits for the server,
// nor an invalid value, which stays with its message until it is corrected.

import { call } from "./api.js";

const at = (id) => document.getElementById(id);
const settings = at("settings");
const UNITS = { share: "", "images/s": "/s", parameters: "", MACs: "" }; // others as they are
let shown = null; // the values of the job's text when it could last be read
let isCurrent = false; // false while the text is no job, or was not checked since it was changed
let waiting = 0; // changes that are not in the text yet
let queue = Promise.resolve();

/**
 * Connects the fields with the text of the job. The server makes the changes, one after the other; each ends with `changed()`,
 * which checks the new text and calls `showFields`. `failed(error)` is called with an error.
 */
export function connectFields(job, { changed, failed }) {
  settings.addEventListener("change", ({ target }) => {
    if (!target.dataset.key) return;
    target.setAttribute("aria-invalid", String(!target.validity.valid));
    if (!target.validity.valid) return failed(new Error(`${labelOf(target)}: ${target.validationMessage}`));
    const { dataset: { key }, type, value, checked } = target;
    const isText = target.tagName === "SELECT";
    waiting += 1;
    queue = queue.then(async () => {
      try {
        if (type === "checkbox" && !isCurrent) await changed(); // which names the text has beside those of the boxes
        const changes = { [key]: type === "checkbox" ? listed(key, value, checked) : value === "" ? null : isText ? value : Number(value) };
        if (target.id === "algorithm") changes["search.predictor"] = null; // which another algorithm may not take
        await edit(job, changes);
      } catch (error) {
        failed(error);
      } finally {
        waiting -= 1;
      }
      await changed();
    });
  });
  settings.addEventListener("focusout", () => {
    if (isCurrent) showFields(shown); // the field that was left out while it had the focus
  });
  job.addEventListener("input", ({ isTrusted }) => {
    isCurrent = false;
    if (isTrusted) forgetInvalid();
  });
}

/** Resolves when the changes so far are in the text and were checked. */
export const settled = () => queue;

/** Focuses the first field with an invalid value and returns its message; "" if all are valid. */
export function invalidField() {
  const field = settings.querySelector("[aria-invalid=true]");
  field?.focus();
  return field ? `${labelOf(field)}: ${field.validationMessage}` : "";
}

/** Lets invalid values be replaced by those of the job's text, which was written anew. */
export function forgetInvalid() {
  for (const field of settings.querySelectorAll("[aria-invalid=true]")) field.removeAttribute("aria-invalid");
}

/** Shows the values of a job that was checked; null for a text that is no job, whose fields stay as they are. */
export function showFields(values) {
  isCurrent = Boolean(values);
  if (!values) return;
  shown = values;
  if (waiting) return; // the last of the changes shows them
  setNumber(at("epochs"), values.epochs);
  at("epochs").disabled = values.epochs === null;
  at("epochs").title = values.epochs === null ? "The job starts from a trained supernet." : "";
  setNumber(at("evaluations"), values.evaluations);
  setNumber(at("minutes"), values.minutes);
  setChoice(at("algorithm"), values.algorithm);
  setChoice(at("predictor"), values.predictor ?? "");
  at("predictor").disabled = !values.takes_predictor;
  for (const box of settings.querySelectorAll("[data-key=hardware]")) box.checked = values.hardware.includes(box.value);
  showMetrics(values.metrics);
}

/** Has the server change the text; once more if it was edited meanwhile, so that neither change is lost. */
async function edit(job, changes) {
  let text, edited;
  do {
    text = job.value;
    edited = await call("/jobs/edit", { method: "POST", body: { job: text, changes } });
  } while (job.value !== text);
  isCurrent = false; // until it is checked: `shown` is of the text before
  const { scrollTop, selectionStart, selectionEnd } = job;
  job.value = edited.job;
  if (document.activeElement === job) job.setSelectionRange(selectionStart, selectionEnd);
  job.scrollTop = scrollTop;
}

/**
 * The names of a list of the job after a box was clicked: those of the text and the box's; of a text with an error, whose names
 * are not known, those of all boxes and what the text last had without a box.
 */
function listed(key, value, checked) {
  const names = (key === "hardware" ? shown?.hardware : objectivesOf(shown)) ?? [];
  if (isCurrent) return [...names.filter((name) => name !== value), ...(checked ? [value] : [])];
  const boxes = [...settings.querySelectorAll(`input[type=checkbox][data-key=${key}]`)];
  const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
  const kept = names.filter((name) => chosen.includes(name) || !boxes.some((box) => box.value === name));
  return [...kept, ...chosen.filter((name) => !kept.includes(name))];
}

function objectivesOf(values) {
  return (values?.metrics ?? []).filter((metric) => metric.is_objective).map((metric) => metric.name);
}

function labelOf(input) {
  return input.getAttribute("aria-label") ?? input.labels[0].textContent;
}

function setNumber(input, value) {
  const text = String(value ?? "");
  const isTyped = document.activeElement === input || input.getAttribute("aria-invalid") === "true";
  if (!isTyped && input.value !== text) input.value = text;
}

/** Selects a name; a class, `module:Class`, is listed once a job names it. */
function setChoice(select, name) {
  if (document.activeElement === select) return;
  if (![...select.options].some(({ value }) => value === name)) select.append(new Option(name));
  select.value = name;
}

/** Shows a row for each metric: the usual ones and those that the job uses, then the rest. */
function showMetrics(metrics) {
  const names = metrics.map((metric) => metric.name).join();
  const first = at("metrics");
  if (first.dataset.names !== names) {
    const isUsual = ({ name, is_objective, minimum, maximum }) => (
      is_objective || minimum !== null || maximum !== null || /^(accuracy|mae|average_precision|map|miou|perplexity|bits_per_byte|(normalised_)?choice_accuracy|latency_ms)\b/.test(name)
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
  const words = document.createElement("span"); // of which lines end after an underscore
  for (const word of title.split(/(?<=_)/)) words.append(word, document.createElement("wbr"));
  name.append(box, words);
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
