// The form of a job: errors are shown beside the fields while the user types.

import { ROOT, call } from "./api.js";
import { connectFields, forgetInvalid, invalidField, settled, showFields } from "./job-fields.js";
import { forget, plan } from "./plan.js";
import { connectRecipe } from "./recipe.js";

const at = (id) => document.getElementById(id);
const [form, job, state] = [at("submit"), at("job"), at("job-state")];
let written = job.value;
let latest = 0;

let loading = 0;
connectRecipe(async ({ recipe, data, model }) => {
  if (job.value !== written && !confirm("Replace your changes by the recipe?")) return false;
  const turn = ++loading;
  at("problem").textContent = "";
  try {
    await settled();
    const before = job.value;
    const found = await call(`/recipes/${encodeURIComponent(recipe)}?${new URLSearchParams({ data, model })}`);
    if (turn !== loading) return true; // another recipe was chosen meanwhile
    if (job.value !== before) throw new Error("The job was changed while the recipe was loaded, and stays; choose the recipe again to replace it.");
    job.value = written = found.job ?? "";
    forgetInvalid();
    await check();
    return true;
  } catch (error) {
    at("problem").textContent = error.message;
    return false;
  }
});

let soon = null;
form.addEventListener("input", ({ target }) => {
  if (!target.name) return; // a field beside the text, which changes the text when it is left
  forget(at("planned"));
  latest += 1; // a check in flight is of an earlier text
  clearTimeout(soon);
  soon = setTimeout(check, 500);
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearTimeout(soon);
  at("problem").textContent = invalidField();
  if (at("problem").textContent) return;
  const send = at("send");
  send.disabled = true;
  try {
    await settled();
    const made = await call("/runs", { method: "POST", body: { ...submission(), ...webhook() } });
    written = job.value;
    location.assign(`${ROOT}/runs/${encodeURIComponent(made.run)}`);
  } catch (error) {
    refused(error, "The job was not submitted: see the errors above.");
    document.querySelector("#submit [aria-invalid=true]")?.focus();
    send.disabled = false;
  }
});
at("plan").addEventListener("click", async () => {
  at("problem").textContent = invalidField();
  if (at("problem").textContent) return;
  try {
    await settled();
    await plan(submission(), at("planned"));
  } catch (error) {
    refused(error, "There is no plan: see the errors above.");
  }
});
connectFields(job, {
  changed() {
    forget(at("planned"));
    clearTimeout(soon);
    return check();
  },
  failed: (error) => refused(error, error.message),
});
form.addEventListener("change", () => { at("problem").textContent = ""; }, { capture: true });
addEventListener("beforeunload", (event) => {
  if (job.value !== written) event.preventDefault();
});
check();

function refused(error, words) {
  if (error.errors?.length) show(error.errors);
  at("problem").textContent = error.errors?.length ? words : error.message;
}

function submission() {
  return { job: job.value, kind: new FormData(form).get("kind") };
}

/** The webhook of the submission, where the form has one. */
function webhook() {
  const [url, secret] = [at("webhook-url").value.trim(), at("webhook-secret").value];
  return url || secret ? { webhook: { url, secret } } : {};
}

/** Has the server check the job; of several requests in flight, only the last one counts. */
async function check() {
  const turn = ++latest;
  try {
    const { ok, errors, fields: found } = await call("/jobs/check", { method: "POST", body: submission() });
    if (turn !== latest) return;
    show(ok ? [] : errors);
    showFields(found);
  } catch (error) {
    if (turn !== latest) return;
    if (error.errors?.length) show(error.errors);
    else {
      state.textContent = `The job could not be checked: ${error.message}`;
      state.className = "bad";
    }
  }
}

/** Shows each error beside its field. */
function show(errors) {
  const lists = { job: at("job-problems"), kind: at("kind-problems"), webhook: at("webhook-problems") };
  for (const [name, list] of Object.entries(lists)) {
    const own = errors.filter(({ field }) => partOf(field) === name);
    list.replaceChildren(...own.map((error) => item(error, name === "job")));
    if (name === "job") job.setAttribute("aria-invalid", String(own.length > 0));
    if (name === "webhook") {
      for (const key of ["url", "secret"]) {
        at(`webhook-${key}`).setAttribute("aria-invalid", String(own.some(({ field }) => field === `webhook.${key}`)));
      }
      if (own.length) at("notification").open = true;
    }
  }
  state.textContent = errors.length ? `${errors.length} error${errors.length > 1 ? "s" : ""} to fix` : "This job can be submitted.";
  state.className = errors.length ? "bad" : "good";
}

/** The part of the form that has a field. */
function partOf(field) {
  return field === "kind" ? "kind" : /^webhook\b/.test(field) ? "webhook" : "job";
}

function item({ field, message }, isOfJob) {
  const made = document.createElement("li");
  const line = isOfJob ? lineOf(field, message) : 0;
  if (field) made.append(Object.assign(document.createElement("b"), { textContent: line ? `${field} (line ${line})` : field }));
  made.append(message);
  if (line) {
    const go = Object.assign(document.createElement("button"), { type: "button", textContent: `Go to line ${line}` });
    go.addEventListener("click", () => select(line));
    made.append(document.createElement("br"), go);
  }
  return made;
}

/** The line (from 1) of a key such as `search.evaluations` in the job's YAML, or of its nearest parent; 0 for none. */
function lineOf(field, message) {
  const stated = /\bline (\d+)/.exec(message);
  if (!field) return stated ? Number(stated[1]) : 0;
  const lines = job.value.split("\n");
  let [from, indent, found] = [0, -1, 0];
  for (const key of field.split(/[.[\]]+/).filter(Boolean)) {
    const pattern = new RegExp(`^(\\s*)(?:- )?["']?${RegExp.escape?.(key) ?? key.replace(/[^\w]/g, "\\$&")}["']?\\s*:`);
    const next = lines.findIndex((text, i) => {
      const match = i >= from && pattern.exec(text);
      return match && match[1].length > indent;
    });
    if (next < 0) {
      // Written in one line: `search: {evaluations: 60}`.
      break;
    }
    [from, indent, found] = [next + 1, pattern.exec(lines[next])[1].length, next + 1];
  }
  return found;
}

function select(line) {
  const start = job.value.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  const end = job.value.indexOf("\n", start);
  job.focus();
  job.setSelectionRange(start, end < 0 ? job.value.length : end);
  job.scrollTop = Math.max(0, (line - 5) * (job.scrollHeight / job.value.split("\n").length));
}
