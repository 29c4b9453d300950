// Values of metrics as text, in the words and digits of the tables that the server writes.

/** A value in the unit shown, with its error where that is above 0: `88.95 ± 0.31 %`. */
export function valueText(metric, value, error) {
  const shown = value * metric.scale;
  const spread = (error || 0) * metric.scale;
  if (!spread) return `${fourDigits(shown)} ${metric.unit}`;
  const decimals = decimalsOf(spread);
  return `${shown.toFixed(decimals)} ± ${spread.toFixed(decimals)} ${metric.unit}`;
}

/** `45 s`, `12 min` or `3.5 h`. */
export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const [value, unit] = seconds < 5400 ? [seconds / 60, "min"] : [seconds / 3600, "h"];
  return `${Number(value.toPrecision(2))} ${unit}`;
}

/** A bound that a user chose, in the unit shown. */
export function boundText(metric, bound) {
  return `${Number((bound * metric.scale).toPrecision(6))} ${metric.unit}`;
}

/** Decimals that show two significant digits of an error. */
function decimalsOf(spread) {
  let decimals = 0;
  while (decimals < 6 && spread * 10 ** decimals < 9.5) decimals += 1;
  return decimals;
}

function fourDigits(value) {
  return value.toFixed(Math.max(0, 4 - String(Math.trunc(Math.abs(value))).length));
}

/** The option values of an architecture's key, by choice name; choices that do not apply are left out. */
export function described(key, choices) {
  const genes = key.split("-");
  return new Map(choices.map((choice, i) => [choice.name, choice.options[genes[i]]]).filter(([, value]) => value !== undefined));
}

/** Lines that describe an architecture, one a part of the network: `stage 1, block 0: kernel 3, expand 4`. */
export function architectureLines(key, choices) {
  const titles = new Map(choices.map(({ name, title }) => [name, title]));
  const parts = new Map();
  for (const [name, value] of described(key, choices)) {
    const [place, quantity] = placeAndQuantity(titles.get(name));
    if (!parts.has(place)) parts.set(place, []);
    parts.get(place).push(`${quantity} ${value}`);
  }
  return [...parts].map(([place, texts]) => `${place}${place ? ": " : ""}${texts.join(", ")}`);
}

/** The two parts of a choice's title: where in the network ("" for all of it), and what changes there. */
export function placeAndQuantity(title) {
  const end = title.lastIndexOf(" · ");
  return end < 0 ? ["", title] : [title.slice(0, end), title.slice(end + 3)];
}
