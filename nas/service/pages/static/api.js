// Calls of the service's API, and helpers that several pages share.

/** The path below which a proxy has the service, or "": this script is at ROOT/static/DIGEST/api.js. */
export const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");

const API = `${ROOT}/api/v1`;
const ASK_AGAIN_MS = 3000;
const AWAY = "the server does not answer; check that it is running, and try again";

/** An error response of the service: its problem details (RFC 9457). */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail || problem.title);
    this.status = problem.status;
    this.errors = problem.errors || [];
  }
}

/** Calls the API; returns its JSON, or null for an empty response. Throws `Refused`. */
export async function call(path, { method = "GET", body } = {}) {
  const answer = await fetch(API + path, {
    method,
    headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  }).catch(() => { throw new Refused({ status: 0, title: AWAY }); });
  return parsed(answer.status, answer.headers.get("Content-Type"), await answer.text());
}

/** Sends a form with its files; calls `onProgress(share)` while it is sent. Returns and throws as `call` does. */
export function upload(path, form, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // `fetch` does not report the progress of an upload
    request.open("POST", API + path);
    request.setRequestHeader("Accept", "application/json");
    request.upload.addEventListener("progress", ({ loaded, total }) => onProgress(total ? loaded / total : 1));
    request.addEventListener("error", () => reject(new Refused({ status: 0, title: AWAY })));
    request.addEventListener("load", () => {
      try {
        resolve(parsed(request.status, request.getResponseHeader("Content-Type"), request.responseText));
      } catch (error) {
        reject(error);
      }
    });
    request.send(form);
  });
}

function parsed(status, kind, body) {
  if (status === 401) location.assign(`${ROOT}/login?next=${encodeURIComponent(location.pathname.slice(ROOT.length) + location.search)}`);
  const found = body && (kind || "").includes("json") ? JSON.parse(body) : null; // a deletion answers nothing
  if (status < 200 || status > 299) throw new Refused(found || { status, title: `the server answered ${status}` });
  return found;
}

/** The log of a run after a number of bytes, and the number to continue after. */
export async function logAfter(run, after) {
  const answer = await fetch(`${API}${runPath(run, "logs")}?after=${after}`, { headers: { Accept: "text/plain" } })
    .catch(() => { throw new Refused({ status: 0, title: AWAY }); });
  const body = await answer.text();
  if (!answer.ok) parsed(answer.status, answer.headers.get("Content-Type"), body);
  return [body, Number(answer.headers.get("Log-Bytes"))];
}

/** The path of a run below the API. */
export function runPath(run, ...rest) {
  return ["/runs", ...[run, ...rest].map(encodeURIComponent)].join("/");
}

/** Shows a message for some seconds; screen readers read it out. */
export function notify(message) {
  const place = document.getElementById("messages");
  const line = document.createElement("p");
  line.textContent = message;
  place.replaceChildren(line);
  setTimeout(() => line.remove(), 8000);
}

/** Shows times in the user's time zone. */
export function localTimes(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = clockText(new Date(time.dateTime));
    time.title = time.dateTime;
  }
}

/** A moment in local time with its zone: `2026-12-01 16:07 GMT+1`. */
export function clockText(moment) {
  const two = (number) => String(number).padStart(2, "0");
  const date = [moment.getFullYear(), two(moment.getMonth() + 1), two(moment.getDate())].join("-");
  return `${date} ${two(moment.getHours())}:${two(moment.getMinutes())} ${zoneText(moment)}`;
}

/** The short name of the local time zone at a moment: `GMT+1`. */
export function zoneText(moment) {
  return new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts(moment).find(({ type }) => type === "timeZoneName").value;
}

/**
 * Calls `onChange` when a run changes, through the service's event stream; where that is refused (by a proxy, or because there
 * are too many clients), polls until a stream is accepted again. Returns a function that ends it.
 */
export function watch(run, onChange) {
  let stream = null;
  let timer = null;
  let isOver = false;
  function open() {
    stream = new EventSource(`${API}${runPath(run, "events")}`);
    stream.onmessage = (event) => onChange(JSON.parse(event.data));
    stream.onerror = () => { // the browser reopens a broken connection, but not a refused one
      if (stream.readyState === EventSource.CLOSED && !isOver) timer = setTimeout(ask, ASK_AGAIN_MS);
    };
  }
  async function ask() {
    try {
      onChange(await call(runPath(run, "status")));
    } catch { /* the server does not answer: tried again below */ }
    if (!isOver) open();
  }
  open();
  return () => {
    isOver = true;
    clearTimeout(timer);
    stream.close();
  };
}
