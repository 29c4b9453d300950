// Forms that are sent to the API: what is wrong is told beside its field, and what is under way is shown.

/**
 * Sends a form by `work(fields, onProgress)`, and gives `done` what came back. What the server says of a field that
 * `fieldOf(error)` names is told beside it, all else below the form.
 */
export function sent(form, { work, done, fieldOf = ({ field }) => field }) {
  const [button, problem, sending] = ["[type=submit]", "[data-problem]", "[data-sending]"].map((one) => form.querySelector(one));
  const controls = [...form.querySelectorAll("input[aria-describedby]")];
  form.addEventListener("input", ({ target }) => tell(target, ""));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled") === "true") return;
    problem.textContent = "";
    for (const control of controls) tell(control, wrongWith(control));
    const first = controls.find((control) => control.getAttribute("aria-invalid") === "true");
    if (first) return first.focus();
    button.setAttribute("aria-disabled", "true"); // not `disabled`, which takes the keyboard's place away
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

/** What a control says of itself that the browser's own checks do not hold for; "" for nothing. */
function wrongWith(control) {
  const [file] = control.files ?? [];
  if (file && file.size > Number(control.dataset.most)) return "This file is larger than the server takes.";
  return control.validity.patternMismatch ? control.title : control.validationMessage;
}

function tell(control, text) {
  control.setAttribute("aria-invalid", String(text !== ""));
  const place = document.getElementById(`${control.id}-problem`);
  if (place) place.textContent = text;
}

function refused(error, controls, problem, fieldOf) {
  const told = (error.errors ?? []).map((one) => [controls.find(({ name }) => name === fieldOf(one)), one.message]);
  for (const [control, text] of told) if (control) tell(control, text);
  const rest = told.filter(([control]) => !control).map(([, text]) => text);
  problem.textContent = told.length ? rest.join("; ") : error.message;
  told.find(([control]) => control)?.[0].focus();
}

/** How much was sent; once all of it was, the server looks at it, for as long as that takes. */
function show(sending, share) {
  const [bar, words] = [sending.querySelector("progress"), sending.querySelector("span")];
  sending.hidden = false;
  if (share < 1) bar.value = share;
  else bar.removeAttribute("value");
  words.textContent = share < 1 ? `${Math.round(100 * share)} % sent` : "The server looks at it.";
}
