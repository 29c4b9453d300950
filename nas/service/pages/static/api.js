// Calls of the service's API, and what several pages do with it.

const API = "/api/v1";

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
  });
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  const isJson = (answer.headers.get("Content-Type") || "").includes("json");
  const found = isJson ? await answer.json() : null;
  if (!answer.ok) {
    throw new Refused(found || { status: answer.status, title: answer.statusText, detail: `the server answered ${answer.status}` });
  }
  return found;
}

/** A text of the API, such as a log. */
export async function text(path) {
  const answer = await fetch(API + path, { headers: { Accept: "text/plain" } });
  if (!answer.ok) throw new Refused({ status: answer.status, title: `the server answered ${answer.status}` });
  return answer.text();
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

/** Tells when a run changes, through the service's event stream; gives back what ends it. */
export function watch(run, onChange) {
  const stream = new EventSource(`${API}${runPath(run, "events")}`);
  const read = (event) => onChange(JSON.parse(event.data));
  stream.onmessage = read;
  stream.addEventListener("summary", read);
  stream.addEventListener("end", () => stream.close());
  return () => stream.close();
}
