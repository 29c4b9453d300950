// The list of all runs, kept up to date, and the actions on the selected ones.

import { call, localTimes, notify, runPath } from "./api.js";
import { actions, ask } from "./actions.js";
import { refresh, repeat } from "./live.js";

const at = (id) => document.getElementById(id);
const boxes = () => [...document.querySelectorAll("#runs input[name=runs]")];
const selected = () => boxes().filter((box) => box.checked).map((box) => box.value);

localTimes();
actions(updated);
repeat(updated, 3);
showControls();

async function updated() {
  await refresh();
  showControls();
}

/** The controls that need scripts, in the present version of the list. */
function showControls() {
  for (const id of ["select-all", "tag-selected", "delete-selected"]) at(id)?.removeAttribute("hidden");
}

document.addEventListener("change", ({ target }) => {
  if (target.id === "select-all") for (const box of boxes()) box.checked = target.checked;
});

document.addEventListener("click", async ({ target }) => {
  if (!["tag-selected", "delete-selected"].includes(target.id)) return;
  const runs = selected();
  if (!runs.length) return notify("Select runs first, by the boxes beside their names.");
  const title = runs.length === 1 ? runs[0] : `${runs.length} runs`;
  if (target.id === "tag-selected") await ask("ask-tag-selected", title, (fields) => each(runs, (run) => tag(run, fields)));
  else {
    at("delete-list").textContent = runs.join(", ");
    await ask("ask-delete-selected", title, () => each(runs, (run) => call(runPath(run), { method: "DELETE" })));
  }
  await updated();
});

async function tag(run, fields) {
  const [add, remove] = ["add", "remove"].map((name) => fields.get(name).split(/[\s,]+/).filter(Boolean));
  const { tags, note } = await call(runPath(run, "status"));
  const kept = tags.filter((word) => !remove.includes(word));
  await call(runPath(run, "labels"), { method: "PUT", body: { tags: [...new Set([...kept, ...add])], note } });
}

/** Does the work for each run, and then throws the reasons of those for which it failed; these stay selected. */
async function each(runs, work) {
  const problems = [];
  at("select-all").checked = false;
  for (const run of runs) {
    try {
      await work(run);
      const box = at(`select-${run}`);
      if (box) box.checked = false;
    } catch (error) {
      problems.push(`${run}: ${error.message}`);
    }
  }
  if (problems.length) throw new Error(`${runs.length - problems.length} of ${runs.length} done. ${problems.join("; ")}`);
}
