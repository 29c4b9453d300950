// The form of a model to measure, and the measurement's result, which the page's address names.

import { call, upload } from "./api.js";
import { sent } from "./forms.js";
import { repeat } from "./live.js";
import { ENDED, facts, showState } from "./task-state.js";

const form = document.getElementById("measure");
const place = document.getElementById("measurement");
const path = `/profiles/${encodeURIComponent(form.dataset.profile)}/measurements`;
let asked = new URLSearchParams(location.search).get("measurement");

sent(form, {
  work: (fields, onProgress) => upload(path, fields, onProgress),
  done(made) {
    asked = made.measurement;
    history.replaceState(null, "", `?measurement=${encodeURIComponent(asked)}`);
    show(made);
  },
});
if (asked !== null) look();
repeat(look, 1);

async function look() {
  if (asked === null) return;
  try {
    show(await call(`${path}/${encodeURIComponent(asked)}`));
  } catch (error) {
    if (error.status !== 404) throw error; // the server does not answer: tried again later
    asked = null;
    show({ status: "unknown", reason: error.message });
  }
}

function show({ status, reason, result }) {
  if (ENDED.includes(status)) asked = null;
  const words = reason || (status === "queued" ? "Waiting for other measurements." : "");
  if (place.querySelector(".badge").textContent === status && place.querySelector(".reason").textContent === words) return;
  showState(place, status, words);
  place.querySelector(".facts").replaceChildren(...(result ? facts(valuesOf(result)) : []));
}

/** The values that `nas profile --json` prints, as far as they were measured. */
function valuesOf(result) {
  const ms = (value) => `${Number(value.toPrecision(4))} ms`;
  const shares = ["p50", "p90", "p99"].filter((name) => result[`${name}_ms`] != null);
  return [
    ["Latency", `${ms(result.latency_ms)} ± ${Number((result.latency_ms * result.resolution).toPrecision(2))} ms${result.noisy ? ", noisy" : ""}`],
    ...shares.map((name) => [name, ms(result[`${name}_ms`])]),
    ["Throughput", `${Number(result.throughput_per_s.toPrecision(4))} images per second`],
    ["Session created in", `${result.session_ms.toFixed(1)} ± ${result.session_error_ms.toFixed(1)} ms`],
    ["Peak memory", `${result.peak_mib.toFixed(1)} ± ${result.peak_error_mib.toFixed(1)} MiB`],
    ["Runs", result.samples.toLocaleString("en")],
  ];
}
