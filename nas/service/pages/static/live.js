// Takes over what changed on the server: every part of the page marked `data-live` is replaced by what the server says now.

import { localTimes } from "./api.js";

/** What the server last said of each part, before any script changed it. */
const said = new WeakMap([...document.querySelectorAll("[data-live]")].map((part) => [part, part.outerHTML]));

/** Fetches the page anew and replaces its live parts; a part in which nothing changed is left alone. */
export async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  if (answer.redirected) location.assign(answer.url); // the token ran out: one signs in again
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const changed = [];
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    if (now === null || now.outerHTML === said.get(part)) continue;
    said.set(now, now.outerHTML);
    localTimes(now);
    keep(part, now);
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.replaceWith(document.adoptNode(now));
    if (focused) document.getElementById(focused)?.focus();
    changed.push(now);
  }
  return changed;
}

/** Carries over what the reader did in a part: boxes checked, details opened. */
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

/** Calls `work` again and again while the page is seen, `seconds` after it ended; failures wait longer, up to a minute. */
export function repeat(work, seconds) {
  let wait = seconds;
  async function turn() {
    try {
      if (!document.hidden) await work();
      wait = seconds;
    } catch {
      wait = Math.min(60, 2 * wait); // the server is away: it may come back
    }
    setTimeout(turn, 1000 * wait);
  }
  setTimeout(turn, 1000 * wait);
}
