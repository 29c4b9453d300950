// Forms that are sent to the API: errors are shown beside their fields, and the progress below the form.

/**
 * Sends a form by `work(fields, onProgress)` and calls `done` with the result. An error of the server is shown beside the
 * field that `fieldOf(error)` names, or else below the form.
 */
export function sent(form, { work, done, fieldOf = ({ field }) => field }) {
  const [button, problem, sending] = ["[type=submit]", "[data-problem]", "[data-sending]"].map((one) => form.querySelector(one));
  const controls = [...form.querySelectorAll("input[aria-describedby]")];
  form.addEventListener("input", ({ target }) => setProblem(target, ""));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled") === "true") return;
    problem.textContent = "";
    for (const control of controls) setProblem(control, problemOf(control));
    const first = controls.find((control) => control.getAttribute("aria-invalid") === "true");
    if (first) return first.focus();
    button.setAttribute("aria-disabled", "true"); // not `disabled`, which would lose the keyboard focus
    show(sending, 0);
    try {
      await done(await work(new FormData(form), (share) => show(sending, share)));
    } catch (error) {
      refused(error, controls, problem, fieldOf);
    } finally {
      button.removeAttribute("aria-disabled");
      sending.hidden = true;
    }
  });
}

/** The problem with a control's value; "" for none. */
function problemOf(control) {
  const [file] = control.files ?? [];
  if (file && file.size > Number(control.dataset.most)) return "This file is larger than the server accepts.";
  return control.validity.patternMismatch ? control.title : control.validationMessage;
}

function setProblem(control, text) {
  control.setAttribute("aria-invalid", String(text !== ""));
  const place = document.getElementById(`${control.id}-problem`);
  if (place) place.textContent = text;
}

function refused(error, controls, problem, fieldOf) {
  const found = (error.errors ?? []).map((one) => [controls.find(({ name }) => name === fieldOf(one)), one.message]);
  for (const [control, text] of found) if (control) setProblem(control, text);
  const rest = found.filter(([control]) => !control).map(([, text]) => text);
  problem.textContent = found.length ? rest.join("; ") : error.message;
  found.find(([control]) => control)?.[0].focus();
}

/** Shows the share that was sent; once all of it was, the server processes it for an unknown time. */
function show(sending, share) {
  const [bar, words] = [sending.querySelector("progress"), sending.querySelector("span")];
  sending.hidden = false;
  if (share < 1) bar.value = share;
  else bar.removeAttribute("value");
  words.textContent = share < 1 ? `${Math.round(100 * share)} % sent` : "The server is processing it.";
}
