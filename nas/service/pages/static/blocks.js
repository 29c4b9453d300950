// The sizes of a network's blocks and the share of each in its latency, predicted from a lookup table, or in its MACs.

import { valueText } from "./metrics.js";

/**
 * The blocks of a measured network, by their places in the order of the network; null where none were recorded.
 *
 * `rows` have the sizes and shares of the blocks that the network has; `profile` is the one whose latencies are shared, and
 * undefined where there is no lookup table.
 */
export function blocksOf(data, place, shownProfile) {
  const costs = data.blocks.networks[data.measured.keys[place]];
  if (!costs) return null;
  const profiles = Object.keys(costs.latencies);
  const profile = profiles.includes(shownProfile) ? shownProfile : profiles[0];
  const latency = costs.latencies[profile];
  const parts = latency ? latency.blocks_ms : costs.macs;
  const rest = latency ? latency.rest_ms : 0;
  const whole = sum([...parts, rest].map(positive)) || 1; // a block that costs nearly nothing may have been measured below 0
  const rows = data.blocks.places.map((name, i) => ({
    name, title: data.blocks.titles[name], parameters: costs.parameters[i], macs: costs.macs[i], share: positive(parts[i]) / whole,
    latencies: profiles.map((own) => costs.latencies[own].blocks_ms[i]),
  })).filter(({ parameters, macs, latencies }) => parameters || macs || latencies.some(Boolean));
  const rests = profiles.map((own) => costs.latencies[own].rest_ms);
  const totals = profiles.map((own) => sum(costs.latencies[own].blocks_ms) + costs.latencies[own].rest_ms);
  return { profile, profiles, rows, rests, totals, restShare: positive(rest) / whole, macs: sum(costs.macs), parameters: sum(costs.parameters) };
}

/** What the shades of the picture are the shares of. */
export function basisText(data, place, { profile, profiles, rests, totals, macs }) {
  if (profile === undefined) {
    return `Shades show each block's share of the network's ${count(macs)} MACs; for shares of its latency, give the job a lookup table (nas calibrate).`;
  }
  const at = profiles.indexOf(profile);
  const metric = data.metrics.find((one) => one.profile === profile && one.name.split("@")[0] === "latency_ms");
  const { values, errors } = data.measured.metrics[metric?.name] ?? {};
  const measured = metric ? `; measured: ${valueText(metric, values[place], errors[place])}` : "";
  return `Shades show each block's share of the latency on ${profile} as predicted from the lookup table: ${milliseconds(totals[at])}, `
    + `of which ${milliseconds(rests[at])} are in no block${measured}.`;
}

/** Writes the table of blocks: sizes, predicted latencies and shares. */
export function showTable(table, blocks) {
  const { profile, profiles, rows, rests, restShare, totals } = blocks;
  const share = `Share of ${profile === undefined ? "the MACs" : profiles.length > 1 ? `the latency on ${profile}` : "the latency"}`;
  const titles = ["Block", share, ...profiles.map((own) => `Predicted latency (ms), ${own}`), "MACs", "Parameters"];
  const body = rows.map((row) => [row.title, percent(row.share), ...row.latencies.map(digits), whole(row.macs), whole(row.parameters)]);
  if (profiles.length) body.push(["in no block", percent(restShare), ...rests.map(digits), "–", "–"]);
  const foot = ["whole network", "100 %", ...totals.map(digits), whole(blocks.macs), whole(blocks.parameters)];
  table.replaceChildren(section("thead", [titles], "col"), section("tbody", body, "row"), section("tfoot", [foot], "row"));
  for (const [i, share] of [...rows.map((row) => row.share), restShare].slice(0, body.length).entries()) {
    table.tBodies[0].rows[i].cells[1].style.setProperty("--share", percent(share).replace(" ", ""));
  }
}

/** Rows for a CSV file, beside those of the choices. */
export function csvRows({ rows, profiles }) {
  return rows.flatMap(({ name, parameters, macs, latencies }) => [
    [`${name} parameters`, parameters], [`${name} MACs`, macs],
    ...profiles.map((profile, i) => [`${name} predicted latency_ms@${profile}`, latencies[i]]),
  ]);
}

/** A number with a unit of thousands or millions: `12.3 k`. */
export function count(value) {
  const [scale, unit] = value >= 1e9 ? [1e9, " G"] : value >= 1e6 ? [1e6, " M"] : value >= 1e4 ? [1e3, " k"] : [1, ""];
  return scale === 1 ? whole(value) : `${Number((value / scale).toPrecision(3))}${unit}`;
}

export function percent(share) {
  return `${share > 0 && share < 0.0995 ? (100 * share).toFixed(1) : Math.round(100 * share)} %`;
}

function section(name, rows, scope) {
  const made = document.createElement(name);
  made.append(...rows.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text, i) => {
      const isHead = scope === "col" || i === 0;
      const cell = Object.assign(document.createElement(isHead ? "th" : "td"), { textContent: text });
      if (isHead) cell.scope = scope;
      if (i === 0) cell.className = "text";
      return cell;
    }));
    return row;
  }));
  return made;
}

function milliseconds(value) {
  return `${digits(value)} ms`;
}

function digits(value) {
  return Math.abs(value) < 10 ? value.toFixed(4) : value.toPrecision(5);
}

function whole(value) {
  return value.toLocaleString("en");
}

function positive(value) {
  return Math.max(0, value);
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
