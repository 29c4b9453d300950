// The buttons that label, cancel, resume and delete a run.

import { call, notify, runPath } from "./api.js";

/** Wires all such buttons of the page, also those added later. `after(action, run)` is called after each success. */
export function actions(after) {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-action]");
    if (!button) return;
    const { action, run } = button.dataset;
    button.disabled = true;
    try {
      if (await act(action, run, button.dataset)) await after(action, run);
    } catch (error) {
      notify(`${run}: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  });
}

async function act(action, run, { tags, note }) {
  if (action === "cancel") {
    await call(runPath(run, "cancel"), { method: "POST" });
    notify(`${run} is being cancelled; it can be resumed.`);
    return true;
  }
  if (action === "label") {
    return ask("ask-label", run, (fields) => {
      const words = fields.get("tags").split(/[\s,]+/).filter(Boolean);
      return call(runPath(run, "labels"), { method: "PUT", body: { tags: words, note: fields.get("note") } });
    }, { tags, note });
  }
  if (action === "delete") return ask("ask-delete", run, () => call(runPath(run), { method: "DELETE" }));
  return ask("ask-resume", run, (fields) => {
    const body = Object.fromEntries([...fields].filter(([, value]) => value.trim() !== "").map(([k, v]) => [k, v.trim()]));
    return call(runPath(run, "resume"), { method: "POST", body });
  });
}

/**
 * Opens a dialog, its fields filled with `values`; resolves to true once `work` succeeded, to false if the user closes it. An
 * error is shown in the dialog.
 */
export function ask(id, run, work, values = {}) {
  const dialog = document.getElementById(id);
  const form = dialog.querySelector("form");
  const problem = dialog.querySelector("[data-problem]");
  dialog.querySelector("[data-name]").textContent = run;
  problem.textContent = "";
  form.reset();
  for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    async function send(event) {
      if (event.submitter?.value !== "yes") return;
      event.preventDefault();
      if (isSending) return;
      isSending = true;
      try {
        await work(new FormData(form));
        done = true;
        dialog.close("yes");
      } catch (error) {
        problem.textContent = error.message;
      } finally {
        isSending = false;
      }
    }
    // No submit button, as Enter in a field presses the first of them.
    const leave = ({ target }) => { if (target.matches("[data-close]")) dialog.close(); };
    let [done, isSending] = [false, false];
    form.addEventListener("submit", send);
    form.addEventListener("click", leave);
    dialog.addEventListener("close", () => {
      form.removeEventListener("submit", send);
      form.removeEventListener("click", leave);
      resolve(done);
    }, { once: true });
  });
}
