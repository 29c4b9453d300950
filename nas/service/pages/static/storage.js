// The buttons that delete what the server stores, and cancel its tasks.

import { ask } from "./actions.js";
import { call, localTimes, notify } from "./api.js";
import { refresh, repeat } from "./live.js";

localTimes();
repeat(refresh, 3);
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-method]");
  if (!button) return;
  const { method, path, of } = button.dataset;
  const work = () => call(path, { method });
  button.disabled = true;
  try {
    if (method === "DELETE" ? await ask("ask-remove", of, work) : await work()) await refresh();
  } catch (error) {
    notify(`${of}: ${error.message}`);
  } finally {
    button.disabled = false;
  }
});
