// The page of a browser that measures: joins with its code or token, passes commands to a worker and answers back.
"use strict";

const RETRY_MS = 1000, BEAT_MS = 2000, MAX_MESSAGE = 300;
const state = document.getElementById("state"), detail = document.getElementById("detail");
let token = localStorage.getItem("token") ?? "", visit = 0, worker = null, n_done = 0, ended = false;

function show(text, more = "") {
  state.textContent = text;
  detail.textContent = more;
}

const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

async function post(path, data) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(data), keepalive: path === "/beat" });
  if (response.ok) return response;
  const { message } = await response.json();
  throw Object.assign(new Error(message), { status: response.status });
}

function identifier() {
  let key = localStorage.getItem("key");
  if (!key) {
    key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    localStorage.setItem("key", key);
  }
  return key;
}

async function described() {
  const hints = await navigator.userAgentData?.getHighEntropyValues?.(["architecture", "bitness", "model", "platform"]) ?? {};
  const adapter = await navigator.gpu?.requestAdapter?.().catch(() => null);
  return {
    key: identifier(),
    agent: navigator.userAgent.slice(0, 400),
    platform: [hints.platform ?? navigator.platform, hints.model].filter(Boolean).join(" ").slice(0, 120),
    architecture: [hints.architecture, hints.bitness].filter(Boolean).join("-").slice(0, 60),
    cores: navigator.hardwareConcurrency ?? 1,
    memory_gib: navigator.deviceMemory ?? 0,
    isolated: globalThis.crossOriginIsolated === true,
    webgpu: Boolean(adapter),
  };
}

async function keepScreenOn() {
  if (document.visibilityState === "visible") await navigator.wakeLock?.request("screen").catch(() => null);
}

function beat(left = false) {
  if (visit) return post("/beat", { visit, visible: document.visibilityState === "visible", left }).catch(stopIfEnded);
}

function stopIfEnded(error) {
  if (error.status !== 410 && error.status !== 403) return;
  ended = true;
  worker?.terminate();
  show("This page measures no longer.", error.message);
}

// The answer of the worker; a worker that fails is replaced at the next start.
function ask(message, transfer) {
  return new Promise((answered) => {
    worker.onmessage = (event) => answered(event.data);
    worker.onerror = (event) => {
      event.preventDefault();
      answered({ event: "died", message: String(event.message || "the worker failed").slice(0, MAX_MESSAGE) });
    };
    worker.postMessage(message, transfer);
  });
}

async function battery() {
  const status = await navigator.getBattery?.().catch(() => null);
  return { battery: status ? status.level : null, charging: status ? status.charging : null };
}

async function execute(head, content) {
  if (head.do === "start") {
    worker?.terminate();
    worker = new Worker("/measuring.js");
  }
  if (!worker) return { event: "died", message: "the page was loaded again" };
  const answer = await ask({ head, content }, [content]);
  return answer.event === "released" ? { ...answer, ...await battery() } : answer;
}

// A lost network is retried until the answer has arrived, or is no longer expected.
async function deliver(command, answer) {
  while (!ended) {
    try {
      await post("/answer", { visit, command, answer });
      return;
    } catch (error) {
      if (error.status === 400 || error.status === 409 || error.status === 413) return;
      stopIfEnded(error);
      if (!ended) await pause(RETRY_MS);
    }
  }
}

async function measure() {
  while (!ended) {
    try {
      const response = await post("/command", { visit });
      if (response.headers.get("Content-Type") !== "application/octet-stream") {
        show("Ready.", `${n_done} commands done; waits for the search.`);
        continue;
      }
      const content = await response.arrayBuffer(), bytes = new Uint8Array(content), end = bytes.indexOf(10);
      const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
      show("Measures.", `${n_done} commands done.`);
      await deliver(head.command, await execute(head, content.slice(end + 1)));
      n_done += 1;
    } catch (error) {
      stopIfEnded(error);
      if (ended) return;
      show("The search does not answer.", "Tries again; keep this page open.");
      await pause(RETRY_MS);
    }
  }
}

async function join() {
  const code = location.hash.slice(1), device = await described();
  while (!visit) {
    try {
      const joined = await (await post("/join", { device, ...(code ? { code } : {}), ...(token ? { token } : {}) })).json();
      token = joined.token;
      visit = joined.visit;
      localStorage.setItem("token", token);
      document.title = `Measuring ${joined.profile}`;
    } catch (error) {
      if (error.status) return show("This browser is refused.", error.message);
      show("The search does not answer.", "Tries again.");
      await pause(RETRY_MS);
    }
  }
  history.replaceState(null, "", "/");
  await keepScreenOn();
  document.addEventListener("visibilitychange", () => { beat(); keepScreenOn(); });
  addEventListener("pagehide", () => beat(true));
  await beat();
  setInterval(beat, BEAT_MS, false);
  await measure();
}

join();
