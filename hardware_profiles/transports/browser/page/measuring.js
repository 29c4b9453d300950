// The worker that loads and times models with ONNX Runtime Web; it answers the commands of hardware_profiles' worker.
"use strict";

const STABLE_RUNS = 3, STABLE_SHARE = 0.02, WARM_UP_MS = 250, WARM_UP_RUNS = 200, COLD_MS = 3000, MAX_MESSAGE = 300;
const ARRAYS = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, int64: BigInt64Array, int32: Int32Array,
  int16: Int16Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
};
let models = new Map(), provider = "wasm", step = 0.005, warmed_ms = 0;

const messageOf = (error) => String(error?.message ?? error).replace(/[^ -~]+/g, " ").slice(0, MAX_MESSAGE) || "unknown error";

function parts(lengths, content) {
  let at = 0;
  return lengths.map((length) => content.slice(at, at += length));
}

const create = (model) => ort.InferenceSession.create(new Uint8Array(model), {
  executionProviders: [provider], logSeverityLevel: 4,
  ...(provider === "wasm" ? {} : { extra: { session: { disable_cpu_ep_fallback: "1" } } }),
});

// The wall time of runs of all calls in milliseconds; half of the clock's step at the least.
async function timed(model, nRuns = 1) {
  const start = performance.now();
  for (let i = 0; i < nRuns; i += 1) for (const feeds of model.calls) await model.session.run(feeds);
  return Math.max(performance.now() - start, step / 2);
}

// The fastest run in milliseconds. The browser recompiles what has run often, so a young page warms up for longer.
async function warmUp(model) {
  const cold = warmed_ms < COLD_MS, start = performance.now();
  let best = Infinity, calm = 0;
  for (let i = 0; i < WARM_UP_RUNS; i += 1) {
    const ms = await timed(model);
    calm = ms > best * (1 - STABLE_SHARE) ? calm + 1 : 0;
    best = Math.min(best, ms);
    if ((calm >= STABLE_RUNS && !cold) || performance.now() - start > WARM_UP_MS) break;
  }
  warmed_ms += performance.now() - start;
  return best;
}

const commands = {
  async start({ threads, provider: chosen, payloads }, content) {
    provider = chosen;
    importScripts(provider === "webgpu" ? "/runtime/ort.webgpu.min.js" : "/runtime/ort.wasm.min.js");
    ort.env.wasm.wasmPaths = new URL("/runtime/", location.href).href;
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "fatal";
    const [trivial] = parts(payloads, content), session = await create(trivial);
    await session.release();
    return { event: "ready", version: ort.env.versions.web };
  },

  async load({ id, calls, payloads }, content) {
    const [model, ...arrays] = parts(payloads, content), session_ms = [];
    let session = null, next = 0;
    for (let i = 0; i < 2; i += 1) {
      await session?.release();
      const start = performance.now();
      session = await create(model);
      session_ms.push(Math.max(performance.now() - start, step / 2));
    }
    const loaded = {
      session,
      calls: calls.map((call) => Object.fromEntries(call.map(({ name, type, dims }) => {
        const data = new ARRAYS[type](arrays[next]);
        next += 1;
        return [name, new ort.Tensor(type, data, dims)];
      }))),
    };
    const warm_ms = await warmUp(loaded);
    models.set(id, loaded);
    return { event: "loaded", warm_ms, session_ms };
  },

  async round({ order }) {
    const entries = {};
    for (const [id, n, nRuns] of order) {
      const wall_ms = [];
      try {
        const model = models.get(id);
        for (let i = 0; i < n; i += 1) wall_ms.push(await timed(model, nRuns));
        entries[id] = { wall_ms };
      } catch (error) {
        entries[id] = { message: messageOf(error) };
      }
    }
    return { event: "round", entries };
  },

  async release() {
    for (const { session } of models.values()) await session.release();
    models = new Map();
    return { event: "released" };
  },
};

onmessage = async ({ data: { head, content } }) => {
  try {
    postMessage(await commands[head.do](head, content));
  } catch (error) {
    postMessage({ event: "failed", message: messageOf(error) });
  }
};
