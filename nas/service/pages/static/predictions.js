// What the chosen network predicts for some images beside the largest network, with charts of all validation images.

import { ROOT } from "./api.js";
import * as charts from "./charts.js";
import { downloadable } from "./download.js";

const PAUSE = 250; // milliseconds without another choice, as while a limit moves, after which predictions are fetched

/** Shows predictions once the section is near the window. Returns an object whose `show` changes the network, by its key. */
export function predictionsOf(run, at) {
  const place = at("predictions-pictures");
  if (!place) return { show() {}, forget() {} };
  let [wanted, shown, isSeen, timer] = [null, null, false, null];
  const drawings = new Map(); // of the charts, by their names

  async function load() {
    if (!isSeen || wanted === shown) return;
    const key = wanted;
    if (key === null) return write(null, { note: "No network is chosen.", pictures: "", charts: [] });
    const answer = await fetch(`${ROOT}/runs/${encodeURIComponent(run)}/predictions.json?network=${encodeURIComponent(key)}`);
    const result = await answer.json();
    if (key === wanted) write(key, answer.ok ? result : { note: result.detail, pictures: "", charts: [] });
  }

  function write(key, { note, pictures, charts: described }) {
    shown = key;
    at("predictions-note").hidden = !note;
    at("predictions-note").textContent = note;
    const part = new DOMParser().parseFromString(pictures, "text/html");
    place.replaceChildren(...[...part.body.children].map((element) => document.adoptNode(element)));
    at("predictions-charts").hidden = described.length === 0;
    for (const { name, title, words, height, figure } of described) {
      if (!drawings.has(name)) addChart(name, title, height);
      at(`predictions-${name}`).setAttribute("aria-label", words);
      drawings.get(name).figure = figure;
      drawings.get(name).draw();
    }
  }

  function addChart(name, title, height) {
    const section = document.createElement("section");
    const heading = Object.assign(document.createElement("h3"), { textContent: title });
    const chart = Object.assign(document.createElement("div"), { className: "chart", id: `predictions-${name}`, role: "img" });
    const legend = Object.assign(document.createElement("ul"), { className: "legend" });
    chart.style.height = height;
    section.append(heading, chart, legend);
    at("predictions-charts").append(section);
    const drawing = { figure: null, draw: () => drawing.figure && charts.show(chart, drawing.figure, legend) };
    drawings.set(name, drawing);
    charts.drawn(chart, () => drawing.draw());
    downloadable(legend, { name: `${run}-${name}`, title: `${run}: ${title}`, figure: () => chart });
  }

  new IntersectionObserver(([entry]) => {
    if (isSeen || !entry.isIntersecting) return;
    isSeen = true;
    load();
  }, { rootMargin: "300px" }).observe(at("predictions"));
  return {
    show(key) {
      wanted = key;
      clearTimeout(timer);
      timer = setTimeout(load, PAUSE);
    },
    /** The run may keep others now. */
    forget() { shown = null; },
  };
}
