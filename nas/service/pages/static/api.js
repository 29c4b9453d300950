// Calls of the service's API, and what several pages do with it.

const API = "/api/v1";
const ASK_AGAIN_MS = 3000;
const AWAY = "the server does not answer; look whether it still runs, and try again";

/** What the service refused: its problem details (RFC 9457). */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail || problem.title);
    this.status = problem.status;
    this.errors = problem.errors || [];
  }
}

/** Calls the API; gives back its JSON, or null where it has none. Throws `Refused`. */
export async function call(path, { method = "GET", body } = {}) {
  const answer = await fetch(API + path, {
    method,
    headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  }).catch(() => { throw new Refused({ status: 0, title: AWAY }); });
  return understood(answer.status, answer.headers.get("Content-Type"), await answer.text());
}

/** Sends a form with its files; `onProgress(share)` is told how much of it was sent. Gives and throws as `call` does. */
export function upload(path, form, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // of what it sends, `fetch` tells nothing
    request.open("POST", API + path);
    request.setRequestHeader("Accept", "application/json");
    request.upload.addEventListener("progress", ({ loaded, total }) => onProgress(total ? loaded / total : 1));
    request.addEventListener("error", () => reject(new Refused({ status: 0, title: AWAY })));
    request.addEventListener("load", () => {
      try {
        resolve(understood(request.status, request.getResponseHeader("Content-Type"), request.responseText));
      } catch (error) {
        reject(error);
      }
    });
    request.send(form);
  });
}

function understood(status, kind, said) {
  if (status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  const found = (kind || "").includes("json") ? JSON.parse(said) : null;
  if (status < 200 || status > 299) throw new Refused(found || { status, title: `the server answered ${status}` });
  return found;
}

/** A text of the API, such as a log. */
export async function text(path) {
  const answer = await fetch(API + path, { headers: { Accept: "text/plain" } }).catch(() => { throw new Refused({ status: 0, title: AWAY }); });
  const said = await answer.text();
  if (!answer.ok) understood(answer.status, answer.headers.get("Content-Type"), said);
  return said;
}

/** The path of a run below the API. */
export function runPath(run, ...rest) {
  return ["/runs", ...[run, ...rest].map(encodeURIComponent)].join("/");
}

/** Shows a message for some seconds, read out by screen readers. */
export function tell(message) {
  const place = document.getElementById("messages");
  const line = document.createElement("p");
  line.textContent = message;
  place.replaceChildren(line);
  setTimeout(() => line.remove(), 8000);
}

/** Writes times in the reader's own zone. */
export function localTimes(root = document) {
  const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = zone.format(new Date(time.dateTime));
    time.title = time.dateTime;
  }
}

/**
 * Tells when a run changes, through the service's event stream; where that is refused (by a proxy, or since too many watch),
 * by asking now and then, until a stream is let through again. Gives back what ends it.
 */
export function watch(run, onChange) {
  let stream = null;
  let timer = null;
  let isOver = false;
  function open() {
    stream = new EventSource(`${API}${runPath(run, "events")}`);
    stream.onmessage = (event) => onChange(JSON.parse(event.data));
    stream.onerror = () => { // a broken connection is made anew by the browser, a refused one is closed for good
      if (stream.readyState === EventSource.CLOSED && !isOver) timer = setTimeout(ask, ASK_AGAIN_MS);
    };
  }
  async function ask() {
    try {
      onChange(await call(runPath(run, "status")));
    } catch { /* it is away: asked again below */ }
    if (!isOver) open();
  }
  open();
  return () => {
    isOver = true;
    clearTimeout(timer);
    stream.close();
  };
}
