// The plan of a job: requested as a task, and shown when it is made.

import { call } from "./api.js";
import { ENDED, facts, showState } from "./task-state.js";

const WORDS = { queued: "Waits for other tasks of the server.", running: "Trains and measures for some seconds." };
const PARTS = {
  total: "Time in total", start: "to start", training: "of the training", search: "of the search", final: "to measure the front again",
  report: "for report and plots",
};
let latest = 0;

/** Requests the plan of a submission and shows it in `place`; of several requests, only the last one is shown. Throws `Refused`. */
export async function plan(submission, place) {
  const turn = ++latest;
  let found = await call("/jobs/plans", { method: "POST", body: submission });
  while (turn === latest) {
    show(found, place);
    if (ENDED.includes(found.status)) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    found = await call(`/jobs/plans/${encodeURIComponent(found.plan)}`);
  }
}

/** Hides a plan, which is of an earlier text. */
export function forget(place) {
  latest += 1;
  place.hidden = true;
}

function show({ status, reason, result }, place) {
  showState(place, status, reason || WORDS[status] || "");
  place.querySelector(".result").replaceChildren(...(result ? [costs(result), times(result), memory(result), notes(result)] : []));
}

function costs({ space, evaluations, epochs, images, smallest, largest }) {
  const [latency, energy] = ["latency_ms@", "energy_mj@"].map((metric) => Object.keys(smallest).filter((name) => name.startsWith(metric)));
  const ends = (values) => `${values.map((value) => Number(value.toPrecision(3)).toLocaleString("en")).join(" to ")}`;
  return list([
    ["Networks in the space", count(space.size)],
    ["Examples", Object.entries(images).map(([part, n]) => `${n.toLocaleString("en")} ${part}`).join(", ")],
    ["Budget", `${epochs === null ? "no training" : `${epochs} epochs`}, ${evaluations.toLocaleString("en")} evaluations`],
    ["Parameters", ends([smallest.parameters, largest.parameters])],
    ...latency.map((name) => [`Latency on ${name.slice(11)}`, `${ends([smallest[name], largest[name]])} ms`]),
    ...energy.map((name) => [`Energy on ${name.slice(10)}`, `${ends([smallest[name], largest[name]])} mJ`]),
  ]);
}

/** A whole number; a large one by its power of ten. */
function count(n) {
  if (n < 1e9) return n.toLocaleString("en");
  return `${(n / 10 ** Math.floor(Math.log10(n))).toFixed(1)} × 10^${Math.floor(Math.log10(n))}`;
}

function times({ time }) {
  const known = Object.entries(PARTS).filter(([part]) => time?.[part]);
  return list(known.map(([part, title]) => {
    const { seconds, low, high } = time[part];
    return [title, `${duration(seconds)} (${duration(low)} to ${duration(high)})`];
  }));
}

function memory({ memory: peak }) {
  if (!peak) return "";
  return list([["Peak memory", `${size(peak.mib)} (${size(peak.low)} to ${size(peak.high)})`]]);
}

function size(mib) {
  return mib < 1000 ? `${Math.round(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const [value, unit] = seconds < 5400 ? [seconds / 60, "min"] : [seconds / 3600, "h"];
  return `${Number(value.toPrecision(2))} ${unit}`;
}

function notes({ warnings }) {
  const made = document.createElement("div");
  made.append(...(warnings ?? []).map((text) => (
    Object.assign(document.createElement("p"), { className: "notice", textContent: text })
  )));
  return made;
}

function list(rows) {
  const made = Object.assign(document.createElement("ul"), { className: "facts" });
  made.append(...facts(rows));
  return made;
}
