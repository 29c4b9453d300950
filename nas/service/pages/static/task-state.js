// The status of a task, and its result as facts.

export const ENDED = ["finished", "failed", "cancelled"];

/** Shows a status and its reason in a place that is hidden until then. */
export function showState(place, status, reason) {
  place.hidden = false;
  const badge = place.querySelector(".badge");
  badge.textContent = status;
  badge.className = `badge ${status}`;
  place.querySelector(".reason").textContent = reason;
}

/** The items of a list of facts, each with a title and a text. */
export function facts(rows) {
  return rows.map(([title, text]) => {
    const fact = document.createElement("li");
    fact.append(Object.assign(document.createElement("b"), { textContent: title }), ` ${text}`);
    return fact;
  });
}
