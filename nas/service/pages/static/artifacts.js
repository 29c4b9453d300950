// The buttons that make plots, cascades and lookup tables of a run, and fine-tune a network of it.

import { ask } from "./actions.js";
import { ROOT, call, notify, runPath } from "./api.js";

/** Wires the buttons of a run's page; `update()` shows what changed on the server. */
export function artifacts(run, update) {
  const make = async (body) => {
    await call(runPath(run, "artifacts"), { method: "POST", body });
    notify("It is being made; its files appear here.");
  };
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("button[data-artifact], #make-calibration");
    if (!button) return;
    button.disabled = true;
    try {
      if (button.dataset.artifact) await make(JSON.parse(button.dataset.artifact));
      else await ask("ask-calibration", run, (fields) => make({ kind: "calibration", profile: fields.get("profile") }));
      await update();
    } catch (error) {
      notify(error.message);
    } finally {
      button.disabled = false;
    }
  });
}

/** Asks for the epochs of a fine-tuning, and opens the page of its run. */
export function finetune(run, key) {
  return ask("ask-finetune", run, async (fields) => {
    const rate = fields.get("learning_rate");
    const body = { select: `key=${key}`, epochs: Number(fields.get("epochs")), learning_rate: rate === "" ? null : Number(rate) };
    const made = await call(runPath(run, "finetunings"), { method: "POST", body });
    location.assign(`${ROOT}/runs/${encodeURIComponent(made.run)}`);
  });
}
