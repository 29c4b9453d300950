// A run's page: its charts, the network chosen by a limit, its exports and its log, updated while the run is live.

import { ROOT, call, localTimes, logAfter, notify, runPath, watch } from "./api.js";
import { actions } from "./actions.js";
import { artifacts, finetune } from "./artifacts.js";
import { drawArchitecture } from "./architecture.js";
import { basisText, blocksOf, csvRows, showTable } from "./blocks.js";
import * as charts from "./charts.js";
import { chooser } from "./choose.js";
import { downloadable, downloadableSvg } from "./download.js";
import { FrontChart, factsOf } from "./front.js";
import { insightOf } from "./insight.js";
import { predictionsOf } from "./predictions.js";
import { Limit } from "./limit.js";
import { described, duration } from "./metrics.js";
import { refresh, repeat } from "./live.js";
import { showTraining } from "./training.js";

const at = (id) => document.getElementById(id);
const run = at("head").dataset.run;
const isLive = () => at("head").dataset.liveNow === "yes";
let results = null;
let updateTraining = null;
let shownEpoch = Number(at("head").dataset.epoch);

localTimes();
actions(async (action) => {
  if (action === "delete") location.assign("/");
  else await update();
  if (action === "resume") follow();
});
artifacts(run, update);
const loaded = at("plotly") && new Promise((resolve, reject) => {
  if (window.Plotly) resolve();
  at("plotly").addEventListener("load", resolve, { once: true });
  at("plotly").addEventListener("error", () => reject(new Error("the script that draws charts could not be loaded")), { once: true });
});
if (at("head").dataset.charts) results = await showResults();
if (at("training-loss")) {
  await loaded;
  updateTraining = await showTraining(run);
}
if (isLive()) follow();
showLog();
repeat(async () => {
  if (document.querySelector(":is(#exports, #artifacts) :is([data-status=queued], [data-status=running])")) await update();
}, 1.5);

// Links that sort the front's members and turn their pages replace the table alone.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("[data-live] a[data-here]");
  if (!link || !results || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const address = new URL(link.href);
  const network = new URLSearchParams(location.search).get("network");
  if (network) address.searchParams.set("network", network);
  history.replaceState(null, "", address);
  await refresh();
  results.markRow();
});

/** Follows the run until it ends. */
function follow() {
  let last = "";
  let latest = null;
  let due = 0;
  let waiting = null;
  const end = watch(run, (summary) => {
    latest = summary;
    showProgress(summary);
    const now = JSON.stringify([summary.status, summary.live, summary.evaluations, summary.epoch, summary.reason]);
    if (now === last || waiting) return;
    last = now;
    // Reading a large run takes the server a while: at most a sixth of the time is spent on it.
    waiting = setTimeout(async () => {
      const start = performance.now();
      try {
        await update();
        showProgress(latest);
      } catch (error) {
        notify(`This page is not up to date: ${error.message}`);
        last = ""; // try again with the next event, even if it is the same
      }
      due = performance.now() + Math.max(2000, 5 * (performance.now() - start));
      waiting = null;
      if (!isLive()) end();
    }, Math.max(0, due - performance.now()));
  });
}

function showProgress(summary) {
  const bar = document.querySelector("#head progress");
  const training = summary.kind === "training" || summary.epoch < summary.epochs;
  const [done, total, what] = training
    ? [summary.epoch, summary.epochs, "epochs"] : [summary.evaluations, summary.evaluations_wanted, "evaluations"];
  const seconds = summary.expected_end === null ? 0 : (Date.parse(summary.expected_end) - Date.now()) / 1000;
  at("left").textContent = seconds > 0 ? `about ${duration(seconds)} left` : "";
  if (!bar || !total) return;
  const step = training && summary.steps ? summary.step / summary.steps : 0; // recorded every few seconds
  bar.value = Math.min(1, Math.max(step, done / total));
  document.querySelector("#head .progress-text").textContent = `${done.toLocaleString("en")} of ${total.toLocaleString("en")} ${what}`;
}

/** Shows what changed on the server. */
async function update() {
  const changed = await refresh();
  const { charts: hasCharts, predictions: hasPredictions, epoch } = at("head").dataset;
  // The first results, the first epoch, or the predictions at the end: the page has other parts now.
  if ((hasCharts && !results) || (Number(epoch) && !updateTraining) || (hasPredictions && !at("predictions"))) return location.reload();
  if (Number(epoch) !== shownEpoch) {
    shownEpoch = Number(epoch);
    await updateTraining();
  }
  if (results && changed.some((part) => ["head", "members", "predictors-table"].includes(part.id))) await results.update();
}

async function fetchNetworks() {
  const answer = await fetch(`${ROOT}/runs/${encodeURIComponent(run)}/networks.json`);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.json();
}

/** Draws the charts; returns an object whose `update` fetches the data anew and redraws them. */
async function showResults() {
  let [data] = await Promise.all([fetchNetworks(), loaded]);
  let choose = chooser(data);
  let selected = new URLSearchParams(location.search).get("network"); // a key; null while the limit chooses
  let chosen = null;
  const chart = new FrontChart({ chart: at("front-chart"), box: at("front-box"), legend: at("legend") });
  const limit = new Limit({
    line: at("limit-line"), number: at("limit-number"), range: at("limit-range"), name: at("limit-name"), unit: at("limit-unit"), chart,
  }, () => select(null));
  chart.onPick = (place) => select(data.measured.keys[place]);
  const insight = insightOf(run, at);
  const predictions = predictionsOf(run, at);
  const axis = at("axis");
  axis.replaceChildren(...data.views.map((view, i) => new Option(view.title, i)));
  axis.addEventListener("change", show);

  function view() {
    return data.views[Number(axis.value)];
  }

  /** The limit that is set, and those of the job on other metrics. */
  function limits() {
    const own = data.views.length ? limit.limits() : [];
    const others = data.constraints.flatMap(({ metric, min, max }) => [
      ...(max === null ? [] : [{ metric, sign: "<=", bound: max }]), ...(min === null ? [] : [{ metric, sign: ">=", bound: min }]),
    ]);
    return [...own, ...others.filter((o) => !own.some((l) => l.metric === o.metric && l.sign === o.sign))];
  }

  /** Selects a measured network by its key; null returns to the limit's choice. The page's address names it. */
  function select(key) {
    if (key !== selected) { // not for every pixel that a limit moves: browsers allow few changes of the address a second
      const address = new URL(location.href);
      if (key === null) address.searchParams.delete("network");
      else address.searchParams.set("network", key);
      history.replaceState(null, "", address);
    }
    selected = key;
    showChosen();
  }

  let announcement = null;
  function showChosen() {
    const place = selected === null ? -1 : data.measured.keys.indexOf(selected);
    const isSelected = place >= 0;
    chosen = isSelected ? place : choose(limits());
    const isNone = chosen === null;
    const words = data.views.length && !isSelected ? ` with ${view().title} ${limit.text()}` : "";
    at("chosen-title").textContent = isSelected ? "Selected network" : "Most accurate within the limit";
    at("unselect").hidden = !isSelected;
    at("chosen-none").hidden = !isNone;
    at("chosen-none").textContent = `No measured network satisfies this limit${data.constraints.length ? " and those of the job" : ""}.`;
    at("chosen-values").replaceChildren(...(isNone ? [] : factsOf(data, chosen)).map(([title, value]) => {
      const fact = document.createElement("li");
      fact.append(Object.assign(document.createElement("b"), { textContent: title }), ` ${value}`);
      return fact;
    }));
    at("chosen-key").textContent = isNone ? "" : data.measured.keys[chosen];
    for (const id of ["export", "finetune"]) at(id).disabled = isNone;
    at("architecture-box").hidden = isNone;
    if (!isNone) showArchitecture();
    markRow();
    insight.mark(chosen);
    predictions.show(isNone ? null : data.measured.keys[chosen]);
    if (data.views.length) chart.mark(chosen);
    clearTimeout(announcement);
    announcement = setTimeout(() => {
      at("chosen-text").textContent = isNone ? `No network${words}` : `${isSelected ? "Selected" : "Chosen"}${words}: ${factsOf(data, chosen).map((fact) => fact.join(" ")).join(", ")}`;
    }, 600);
  }

  function blocks() {
    return blocksOf(data, chosen, view()?.metrics[0].profile);
  }

  function showArchitecture() {
    const found = blocks();
    drawArchitecture(at("architecture"), data.measured.keys[chosen], data.largest_key, data.choices, found);
    at("blocks").hidden = found === null;
    const isRecorded = Object.keys(data.blocks.networks).length > 0;
    at("blocks-basis").textContent = found ? basisText(data, chosen, found)
      : isRecorded ? "The sizes and shares of blocks are known for networks that were chosen to be measured again." : "";
    if (found) showTable(at("blocks-table"), found);
  }

  function markRow() {
    const key = chosen === null ? null : data.measured.keys[chosen];
    for (const row of document.querySelectorAll("#members tr[data-key]")) {
      row.classList.toggle("is-chosen", row.dataset.key === key);
      row.querySelector("button.pick").setAttribute("aria-pressed", row.dataset.key === key);
    }
  }

  function show() {
    at("chosen").hidden = false;
    if (data.views.length) {
      at("controls").hidden = false;
      limit.take(data, view());
      chart.draw(data, view());
    } else at("front-box").parentElement.hidden = true;
    showChosen();
  }

  function showCurves() {
    const isPredicted = data.predictors !== null;
    at("convergence-part").hidden = data.convergence === null; // before drawing: both share the width
    at("predictors-part").hidden = !isPredicted;
    at("predictors-latest").hidden = at("predictors-table").querySelector("tbody tr") === null;
    if (data.convergence) charts.show(at("convergence"), data.convergence, at("convergence-legend"));
    if (isPredicted) charts.show(at("predictors"), data.predictors, at("predictors-legend"));
  }

  function offerDownloads() {
    const shown = (id) => () => at(id);
    downloadable(at("legend"), { name: `${run}-front`, title: `${run}: Pareto front`, figure: () => chart.figure() });
    downloadable(at("convergence-legend"), { name: `${run}-convergence`, title: `${run}: convergence`, figure: shown("convergence") });
    downloadable(at("predictors-legend"), { name: `${run}-predictors`, title: `${run}: predictor quality`, figure: shown("predictors") });
    downloadableSvg(at("architecture"), {
      name: `${run}-architecture`, svg: () => at("architecture").querySelector("svg"),
      rows: () => [["choice", "option"], ...described(data.measured.keys[chosen], data.choices), ...(blocks() ? csvRows(blocks()) : [])],
    });
  }

  charts.drawn(at("front-chart"), show);
  insight.update(data, chosen);
  // The front is drawn first, and the page stays responsive while the curves are drawn.
  requestAnimationFrame(() => setTimeout(() => charts.drawn(at("head"), showCurves)));
  offerDownloads();
  at("unselect").addEventListener("click", () => select(null));
  document.addEventListener("click", ({ target }) => {
    const row = target.closest("#members tr[data-key]");
    if (!row || target.closest("a, summary, details p")) return;
    select(row.dataset.key);
    at("chosen").scrollIntoView({ block: "nearest" });
  });
  at("finetune").addEventListener("click", () => finetune(run, data.measured.keys[chosen]));
  at("export").addEventListener("click", async () => {
    const [button, problem] = [at("export"), at("export-problem")];
    button.disabled = true;
    problem.textContent = "";
    try {
      // By its key: the front, and so the limit's choice, may have changed since the network was shown.
      const format = at("export-format").value;
      const preprocessed = format === "onnx" && Boolean(at("export-preprocessing")?.checked);
      const body = { select: `key=${data.measured.keys[chosen]}`, format, with_preprocessing: preprocessed };
      await call(runPath(run, "exports"), { method: "POST", body });
      notify("The network is being exported; its files appear under Exports.");
      await update();
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      button.disabled = chosen === null;
    }
  });
  return {
    markRow,
    async update() {
      data = await fetchNetworks();
      choose = chooser(data);
      predictions.forget();
      show();
      showCurves();
      await insight.update(data, chosen);
    },
  };
}

/** The log, fetched when it is opened; while it is open and the run is live, new lines are added each second. */
function showLog() {
  const [part, place] = [at("log-part"), at("log")];
  let position = 0;
  async function load() {
    const isAtEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 20; // else the user reads elsewhere
    try {
      const [added, end] = await logAfter(run, position);
      if (position === 0) place.textContent = added || "Nothing is logged yet.";
      else if (end < position) return void (position = 0); // another driver's log
      else if (added) place.append(added);
      position = end;
    } catch (error) {
      if (position === 0) place.textContent = error.message;
    }
    if (isAtEnd) place.scrollTop = place.scrollHeight;
  }
  part.addEventListener("toggle", () => part.open && load());
  let wasLive = isLive();
  repeat(async () => {
    if (part.open && (isLive() || wasLive)) await load();
    wasLive = isLive(); // the last lines are written after the run has ended
  }, 1);
}
