// The page of the queue: its buttons move runs, and its selections change priorities.

import { call, localTimes, notify, runPath } from "./api.js";
import { refresh, repeat } from "./live.js";

localTimes();
repeat(() => (document.activeElement?.matches("select") ? null : refresh()), 3); // a selection that is open would close

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-change]");
  if (button) change(button, JSON.parse(button.dataset.change));
});
document.addEventListener("change", ({ target }) => {
  if (target.matches("select[data-run]")) change(target, { priority: target.value });
});

async function change(control, body) {
  const { run } = control.dataset;
  control.disabled = true;
  try {
    await call(runPath(run, "queue"), { method: "PUT", body });
    control.blur();
  } catch (error) {
    notify(`${run}: ${error.message}`);
  } finally {
    control.disabled = false;
    await refresh();
  }
}
