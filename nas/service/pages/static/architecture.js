// A network as a picture: its stages and blocks, filled, within the outline of the largest network of the space.

import { count, percent } from "./blocks.js";
import { described } from "./metrics.js";

const SVG = "http://www.w3.org/2000/svg";
const [BLOCK, TALL, LINE, GAP, LETTER] = [78, 56, 14, 14, 6.1]; // pixels; a block is as wide as its longest line needs
const BOLD = 1.12; // of the width of a letter
const FIXED = 58; // pixels of the stem, and of the head, without their sizes
const [LEGEND, SHADES] = [28, 5]; // pixels of the legend's height, and its boxes
const [MANY, THIN, THICK] = [12, 14, 30]; // more blocks than this are narrow, so wide at least and at most, with ranges in place of options

/**
 * Draws the architecture of a key within that of `largest`; both are keys of a space with these `choices`.
 *
 * With `blocks` (see `blocksOf`), blocks are shaded by their shares, and stem and head have their sizes.
 */
export function drawArchitecture(place, key, largest, choices, blocks = null) {
  const own = described(key, choices);
  const most = described(largest, choices);
  const parts = partsOf(choices);
  const svg = element("svg", { role: "img", "aria-label": wordsOf(parts, own, most, new Map(choices.map(({ name, title }) => [name, title]))) + (blocks ? "; the table below has the sizes and shares of its blocks" : "") });
  const shades = new Shades(blocks?.rows ?? []);
  const width = Math.max(280, place.clientWidth);
  let y = 0;
  if (parts.whole.length) y = drawWhole(svg, parts.whole, own, most, choices, width);
  let x = 0;
  let rowHeight = 0;
  const widest = Math.max(1, ...[...parts.stages.values()].map((stage) => amount(most.get(stage.width))));
  const nBlocks = [...parts.stages.values()].reduce((n, stage) => n + stage.blocks.size, 0);
  const isCompact = nBlocks > MANY;
  const [before, after] = fixedOf(parts, blocks?.rows);
  const fixed = [...before, ...after].reduce((total, part) => total + widthOf(part), 0);
  const lines = [...parts.stages.values()].flatMap(({ blocks }) => [...blocks.values()].flat()).map((option) => lineOf(option, own, most));
  const block = isCompact
    ? Math.min(THICK, Math.max(THIN, Math.floor((width - fixed - GAP * parts.stages.size) / nBlocks)))
    : Math.max(BLOCK, LETTER * Math.max(0, ...lines.map((line) => line.length)) + 8);
  const placeFixed = (part) => {
    if (x > 0 && x + widthOf(part) > width) [x, y, rowHeight] = [0, y + rowHeight, 0];
    rowHeight = Math.max(rowHeight, drawFixed(svg, part, x, y, shades));
    x += widthOf(part);
  };
  before.forEach(placeFixed);
  for (const [name, stage] of parts.stages) {
    const perRow = Math.max(1, Math.min(stage.blocks.size, Math.floor((width - GAP) / block)));
    const texts = [headOf(name, stage, own, most), ...(isCompact ? [rangesOf(stage, own)] : [])];
    const needed = Math.max(perRow * block, ...texts.map((text) => BOLD * LETTER * text.length)) + GAP;
    if (x > 0 && x + needed > width) [x, y, rowHeight] = [0, y + rowHeight, 0];
    const height = drawStage(svg, name, stage, { own, most, x, y, perRow, widest, block, isCompact, shades });
    rowHeight = Math.max(rowHeight, height);
    x += needed;
  }
  after.forEach(placeFixed);
  if (blocks) rowHeight += drawLegend(svg, y + rowHeight, shades, blocks.profile);
  svg.setAttribute("viewBox", `0 0 ${width} ${y + rowHeight}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", y + rowHeight);
  place.replaceChildren(svg);
}

/** A space's choices by what they belong to (the whole network, its stages, their blocks), from the parts of their names. */
function partsOf(choices) {
  const whole = [];
  const stages = new Map();
  for (const { name } of choices) {
    const found = /^(?:(stage\d+)\.)?(?:((?:block|layer)\d+)\.)?([^.]+)$/.exec(name);
    if (found === null || (found[1] === undefined && found[2] === undefined)) {
      whole.push(name);
      continue;
    }
    const [, stage = found[2].startsWith("layer") ? "layers" : "blocks", block, option] = found;
    if (!stages.has(stage)) stages.set(stage, { depth: null, width: null, others: [], blocks: new Map() });
    const at = stages.get(stage);
    if (block !== undefined) {
      if (!at.blocks.has(block)) at.blocks.set(block, []);
      at.blocks.get(block).push([option, name]);
    } else if (option === "depth" || option === "width") at[option] = name;
    else at.others.push(name);
  }
  for (const stage of stages.values()) {
    if (stage.blocks.size === 0) stage.blocks.set("block", []); // all blocks are alike
  }
  const alone = stages.get("blocks") ?? stages.get("layers"); // of a network without stages: its depth and width are the whole's
  if (alone && stages.size === 1) {
    for (const option of ["depth", "width"]) {
      if (whole.includes(option)) {
        alone[option] = option;
        whole.splice(whole.indexOf(option), 1);
      }
    }
  }
  return { whole, stages };
}

/** Options of the whole network, each as a bar filled up to its level. */
function drawWhole(svg, names, own, most, choices, width) {
  const shown = names.map((name) => choices.find((choice) => choice.name === name));
  const texts = shown.map(({ name, title }) => `${title} ${own.get(name) ?? "–"}${ofMost(own.get(name), most.get(name))}`);
  const needed = Math.max(190, ...texts.map((text) => LETTER * text.length + GAP)); // a model's own layers have long names
  const perRow = Math.max(1, Math.floor(width / needed));
  names.forEach((name, i) => {
    const [x, y] = [needed * (i % perRow), 34 * Math.floor(i / perRow)];
    const { options, members } = shown[i];
    const filled = (options.indexOf(own.get(name)) + 1) / options.length;
    write(svg, x, y + 12, texts[i], "", members.join(", "));
    if (filled < 1) box(svg, x + 0.5, y + 17.5, 160, 7, "ghost");
    box(svg, x + 0.5, y + 17.5, 160 * filled, 7, "own", members.join(", "));
  });
  return 34 * Math.ceil(names.length / perRow) + 8;
}

/** The parts before and after the stages, with their sizes where they are known. */
function fixedOf({ stages }, rows) {
  if (!rows) return stages.size ? [[{ name: "stem", title: "stem", lines: [] }], [{ name: "head", title: "head", lines: [] }]] : [[], []];
  const inStages = rows.map(({ name }) => /^(stage\d+\.)?(block|layer)\d+$/.test(name));
  const part = ({ name, title, parameters, macs, share }) => ({
    name, title, lines: [percent(share), `${count(parameters)} parameters`, `${count(macs)} MACs`],
  });
  const [first, last] = [inStages.indexOf(true), inStages.lastIndexOf(true)];
  return first < 0 ? [rows.map(part), []] : [rows.slice(0, first).map(part), rows.slice(last + 1).map(part)];
}

function widthOf({ title, lines }) {
  return Math.max(FIXED, BOLD * LETTER * title.length + GAP, ...lines.map((line) => LETTER * line.length + GAP));
}

/** A part before or after the stages, which all networks have; returns its height. */
function drawFixed(svg, part, x, y, shades) {
  write(svg, x, y + 12, part.title, "head");
  const shape = box(svg, x + 0.5, y + 20 + TALL / 2, widthOf(part) - GAP - 8, TALL / 2, "fixed", part.lines.join(", "));
  shades.fill(shape, part.name);
  part.lines.forEach((line, i) => write(svg, x, y + 20 + TALL + LINE * (i + 1), line));
  return 20 + TALL + LINE * part.lines.length + (part.lines.length ? 16 : 8);
}

/** Shades of boxes by the shares of blocks: the larger the share, the fuller the colour. */
class Shades {
  constructor(rows) {
    this.rows = new Map(rows.map((row) => [row.name, row]));
    this.largest = Math.max(0, ...rows.map(({ share }) => share));
  }

  /** Shades the box of a block; its title has the block's sizes. */
  fill(shape, name) {
    const row = this.rows.get(name);
    if (!row) return;
    this.shade(shape, row.share);
    const words = `${row.title}: ${percent(row.share)}, ${count(row.parameters)} parameters, ${count(row.macs)} MACs`;
    const title = shape.querySelector("title") ?? shape.appendChild(element("title", {}));
    title.textContent = [words, title.textContent].filter(Boolean).join("; ");
  }

  shade(shape, share) {
    shape.classList.add("shaded");
    shape.style.setProperty("--share", `${(100 * share) / (this.largest || 1)}%`);
  }
}

/** The shares that the shades stand for; returns the height. */
function drawLegend(svg, y, shades, profile) {
  for (let i = 0; i < SHADES; i += 1) {
    shades.shade(box(svg, 19 * i + 0.5, y + 8.5, 17, 13, "own"), (shades.largest * i) / (SHADES - 1));
  }
  const whole = profile === undefined ? "MACs" : "predicted latency";
  write(svg, 19 * SHADES + 6, y + 19, `0 to ${percent(shades.largest)} of the ${whole}`, "soft");
  return LEGEND;
}

function drawStage(svg, name, stage, { own, most, x, y, perRow, widest, block, isCompact, shades }) {
  write(svg, x, y + 12, headOf(name, stage, own, most), "head");
  const depth = stage.depth === null ? stage.blocks.size : amount(own.get(stage.depth));
  const place = (block) => (name.startsWith("stage") ? `${name}.${block}` : block);
  const nShares = shades.rows.size ? 1 : 0;
  const nLines = isCompact ? 1 : Math.max(1, ...[...stage.blocks.values()].map((options) => options.length + nShares));
  const height = TALL + LINE * nLines + 10;
  // Widths differ much between the first stage and the last: heights are proportional to their square roots.
  const tall = (value) => (stage.width === null ? TALL : Math.max(6, TALL * Math.sqrt(amount(value) / widest)));
  [...stage.blocks].forEach(([blockName, options], i) => {
    const [left, top] = [x + block * (i % perRow), y + 20 + height * Math.floor(i / perRow)];
    const isThere = options.length ? options.some(([, full]) => own.has(full)) : i < depth;
    const [ghost, filled] = [tall(most.get(stage.width)), tall(own.get(stage.width))];
    const wide = block - (isCompact ? 3 : 8);
    if (!isThere || ghost > filled) box(svg, left + 0.5, top + TALL - ghost, wide, ghost, "ghost");
    const texts = options.map((option) => lineOf(option, own, most));
    if (isThere) shades.fill(box(svg, left + 0.5, top + TALL - filled, wide, filled, "own", texts.join(", ")), place(blockName));
    if (isCompact) return;
    if (shades.rows.has(place(blockName))) texts.unshift(percent(shades.rows.get(place(blockName)).share));
    if (isThere) texts.forEach((text, line) => write(svg, left + 1, top + TALL + LINE * (line + 1), text));
    if (!isThere) write(svg, left + 1, top + TALL + LINE, "left out", "soft");
  });
  const below = 20 + height * Math.ceil(stage.blocks.size / perRow);
  if (isCompact) write(svg, x, y + below - 8, rangesOf(stage, own), "soft");
  return below + 8;
}

/** An option of a block: `kernel 3 of 7`. */
function lineOf([option, full], own, most) {
  return own.has(full) ? `${option} ${own.get(full)}${ofMost(own.get(full), most.get(full))}` : "";
}

function headOf(name, stage, own, most) {
  const facts = [stage.depth, stage.width, ...stage.others].filter((full) => full !== null);
  const texts = facts.map((full) => `${full.split(".").pop()} ${own.get(full) ?? "–"}${ofMost(own.get(full), most.get(full))}`);
  return [spaced(name), ...texts].join(" · ");
}

/** The ranges of the options of a stage's blocks: `kernel 3–7, expand 3–6`. */
function rangesOf({ blocks }, own) {
  const found = new Map();
  for (const [option, full] of [...blocks.values()].flat()) {
    if (own.has(full)) found.set(option, [...(found.get(option) ?? []), own.get(full)]);
  }
  return [...found].map(([option, values]) => {
    const [low, high] = [Math.min(...values.map(amount)), Math.max(...values.map(amount))];
    return `${option} ${low === high ? values[0] : `${low}–${high}`}`;
  }).join(", ");
}

/** ` of 32`, where the largest network has more. */
function ofMost(own, most) {
  return own === most || most === undefined ? "" : ` of ${most}`;
}

/** The picture in words. */
function wordsOf({ whole, stages }, own, most, titles) {
  const parts = whole.map((name) => `${titles.get(name)} ${own.get(name) ?? "none"}${ofMost(own.get(name), most.get(name))}`);
  for (const [name, stage] of stages) {
    const blocks = [...stage.blocks].filter(([, options]) => options.length).map(([block, options]) => {
      const texts = options.filter(([, full]) => own.has(full)).map(([option, full]) => `${option} ${own.get(full)}`);
      return `${spaced(block)} ${texts.length ? texts.join(" ") : "left out"}`;
    });
    parts.push([headOf(name, stage, own, most).replaceAll(" · ", ", "), blocks.join(", ")].filter(Boolean).join(": "));
  }
  return `The chosen network: ${parts.join("; ")}`;
}

/** `stage2` as `stage 2`. */
function spaced(name) {
  return name.replace(/(\d+)$/, " $1");
}

function amount(value) {
  const number = Number(value);
  return Number.isFinite(number) ? number : 1;
}

function box(svg, x, y, width, height, kind, words = "") {
  const made = element("rect", { x, y, width, height, rx: 3, class: kind });
  if (words) made.append(Object.assign(element("title", {}), { textContent: words }));
  svg.append(made);
  return made;
}

function write(svg, x, y, text, kind = "", words = "") {
  const line = element("text", { x, y, class: kind });
  line.textContent = text;
  if (words) line.append(Object.assign(element("title", {}), { textContent: words }));
  svg.append(line);
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
