// Live parts of a page: every element marked `data-live` is replaced when the server renders it differently.

import { localTimes } from "./api.js";

/** Each part as the server rendered it, before scripts changed it. */
const rendered = new WeakMap([...document.querySelectorAll("[data-live]")].map((part) => [part, part.outerHTML]));

/** Fetches the page again and replaces the live parts that changed; returns the new ones. */
export async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  if (answer.redirected) location.assign(answer.url); // the token has expired: the user signs in again
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const changed = [];
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    if (now === null || now.outerHTML === rendered.get(part)) continue;
    rendered.set(now, now.outerHTML);
    localTimes(now);
    keep(part, now);
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.replaceWith(document.adoptNode(now));
    if (focused) document.getElementById(focused)?.focus();
    changed.push(now);
  }
  return changed;
}

/** Keeps the state of controls in a part: checked boxes, opened details. */
function keep(part, now) {
  for (const box of part.querySelectorAll("input[type=checkbox]")) {
    const same = now.querySelector(`[id="${CSS.escape(box.id)}"]`);
    if (same) same.checked = box.checked;
  }
  const open = new Set([...part.querySelectorAll("tr[data-key] details[open]")].map((d) => d.closest("tr").dataset.key));
  for (const row of now.querySelectorAll("tr[data-key]")) {
    if (open.has(row.dataset.key)) row.querySelector("details").open = true;
  }
  for (const details of part.querySelectorAll("details[id][open]")) {
    const same = now.querySelector(`[id="${CSS.escape(details.id)}"]`);
    if (same) same.open = true;
  }
}

/** Calls `work` repeatedly while the page is visible, `seconds` after it ended; after failures it waits longer, up to a minute. */
export function repeat(work, seconds) {
  let wait = seconds;
  async function turn() {
    try {
      if (!document.hidden) await work();
      wait = seconds;
    } catch {
      wait = Math.min(60, 2 * wait); // the server does not answer: it may come back
    }
    setTimeout(turn, 1000 * wait);
  }
  setTimeout(turn, 1000 * wait);
}
