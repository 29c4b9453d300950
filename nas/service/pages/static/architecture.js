// A network as a picture: its stages and blocks, filled, within the outline of the largest network of the space.

import { described } from "./metrics.js";

const SVG = "http://www.w3.org/2000/svg";
const [BLOCK, TALL, LINE, GAP, LETTER] = [78, 56, 14, 14, 6.1]; // pixels; a block is as wide as its longest line needs
const FIXED = 58; // pixels of the stem, and of the head
const [MANY, THIN, THICK] = [12, 14, 30]; // more blocks than this are narrow, so wide at least and at most, with ranges in place of options

/** Draws the architecture of a key within that of `largest`; both are keys of a space with these `choices`. */
export function drawArchitecture(place, key, largest, choices) {
  const own = described(key, choices);
  const most = described(largest, choices);
  const parts = partsOf(choices);
  const svg = element("svg", { role: "img", "aria-label": wordsOf(parts, own, most) });
  const width = Math.max(280, place.clientWidth);
  let y = 0;
  if (parts.whole.length) y = drawWhole(svg, parts.whole, own, most, choices, width);
  let x = 0;
  let rowHeight = 0;
  const widest = Math.max(1, ...[...parts.stages.values()].map((stage) => amount(most.get(stage.width))));
  const nBlocks = [...parts.stages.values()].reduce((n, stage) => n + stage.blocks.size, 0);
  const isCompact = nBlocks > MANY;
  const lines = [...parts.stages.values()].flatMap(({ blocks }) => [...blocks.values()].flat()).map((option) => lineOf(option, own, most));
  const block = isCompact
    ? Math.min(THICK, Math.max(THIN, Math.floor((width - 2 * FIXED - GAP * parts.stages.size) / nBlocks)))
    : Math.max(BLOCK, LETTER * Math.max(0, ...lines.map((line) => line.length)) + 8);
  if (parts.stages.size) [x, rowHeight] = [drawFixed(svg, "stem", x, y), 20 + TALL + 8];
  for (const [name, stage] of parts.stages) {
    const perRow = Math.max(1, Math.min(stage.blocks.size, Math.floor((width - GAP) / block)));
    const texts = [headOf(name, stage, own, most), ...(isCompact ? [rangesOf(stage, own)] : [])];
    const needed = Math.max(perRow * block, ...texts.map((text) => 1.05 * LETTER * text.length)) + GAP;
    if (x > 0 && x + needed > width) [x, y, rowHeight] = [0, y + rowHeight, 0];
    const height = drawStage(svg, name, stage, { own, most, x, y, perRow, widest, block, isCompact });
    rowHeight = Math.max(rowHeight, height);
    x += needed;
  }
  if (x + FIXED > width) [x, y, rowHeight] = [0, y + rowHeight, 0];
  if (parts.stages.size) {
    drawFixed(svg, "head", x, y);
    rowHeight = Math.max(rowHeight, 20 + TALL + 8);
  }
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
    const found = /^(?:(stage\d+)\.)?(?:(block\d+)\.)?([^.]+)$/.exec(name);
    if (found === null || (found[1] === undefined && found[2] === undefined)) {
      whole.push(name);
      continue;
    }
    const [, stage = "blocks", block, option] = found;
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
  const alone = stages.get("blocks"); // of a network without stages: its depth and width are the whole's
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
  const perRow = Math.max(1, Math.floor(width / 190));
  names.forEach((name, i) => {
    const [x, y] = [190 * (i % perRow), 34 * Math.floor(i / perRow)];
    const { options } = choices.find((choice) => choice.name === name);
    const filled = (options.indexOf(own.get(name)) + 1) / options.length;
    write(svg, x, y + 12, `${name} ${own.get(name) ?? "–"}${ofMost(own.get(name), most.get(name))}`);
    if (filled < 1) box(svg, x + 0.5, y + 17.5, 160, 7, "ghost");
    box(svg, x + 0.5, y + 17.5, 160 * filled, 7, "own");
  });
  return 34 * Math.ceil(names.length / perRow) + 8;
}

/** The layers before or after the stages, which are the same in all networks; returns where the next part begins. */
function drawFixed(svg, name, x, y) {
  write(svg, x, y + 12, name, "head");
  box(svg, x + 0.5, y + 20 + TALL / 2, FIXED - GAP - 8, TALL / 2, "fixed");
  return x + FIXED;
}

function drawStage(svg, name, stage, { own, most, x, y, perRow, widest, block, isCompact }) {
  write(svg, x, y + 12, headOf(name, stage, own, most), "head");
  const depth = stage.depth === null ? stage.blocks.size : amount(own.get(stage.depth));
  const nLines = isCompact ? 1 : Math.max(1, ...[...stage.blocks.values()].map((options) => options.length));
  const height = TALL + LINE * nLines + 10;
  // Widths differ much between the first stage and the last: heights are proportional to their square roots.
  const tall = (value) => (stage.width === null ? TALL : Math.max(6, TALL * Math.sqrt(amount(value) / widest)));
  [...stage.blocks.values()].forEach((options, i) => {
    const [left, top] = [x + block * (i % perRow), y + 20 + height * Math.floor(i / perRow)];
    const isThere = options.length ? options.some(([, full]) => own.has(full)) : i < depth;
    const [ghost, filled] = [tall(most.get(stage.width)), tall(own.get(stage.width))];
    const wide = block - (isCompact ? 3 : 8);
    if (!isThere || ghost > filled) box(svg, left + 0.5, top + TALL - ghost, wide, ghost, "ghost");
    if (isThere) box(svg, left + 0.5, top + TALL - filled, wide, filled, "own", options.map((option) => lineOf(option, own, most)).join(", "));
    if (isCompact) return;
    if (isThere) options.forEach((option, line) => write(svg, left + 1, top + TALL + LINE * (line + 1), lineOf(option, own, most)));
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
function wordsOf({ whole, stages }, own, most) {
  const parts = whole.map((name) => `${name} ${own.get(name) ?? "none"}${ofMost(own.get(name), most.get(name))}`);
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
}

function write(svg, x, y, text, kind = "") {
  const line = element("text", { x, y, class: kind });
  line.textContent = text;
  svg.append(line);
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
