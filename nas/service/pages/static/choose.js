// The most accurate network within limits, by the rule of `nas show --select` and the API's pick.

/** Whether a value satisfies a limit `{metric, sign, bound}`. */
function keeps(value, { sign, bound }) {
  return sign === "<=" ? value <= bound : value >= bound;
}

/** Prepares a run's networks; returns a function from limits to the position of the chosen network, or null. */
export function chooser(data) {
  const { measured, objectives } = data;
  const signs = new Map(data.metrics.map((m) => [m.name, m.goal === "minimize" ? 1 : -1]));
  const values = new Map(objectives.map((name) => [name, measured.metrics[name].values]));
  const again = new Set(measured.final);
  const searched = new Map(objectives.map((name) => {
    const column = [...values.get(name)];
    measured.final.forEach((place, i) => { column[place] = measured.searched[name][i]; });
    return [name, column];
  }));
  const by = (name, column) => (a, b) => signs.get(name) * (column.get(name)[a] - column.get(name)[b]);
  const byQuality = by(data.primary, values);
  const byCost = by(data.cost, values);
  // The best first: the first candidate is chosen.
  const order = measured.keys.map((_, i) => i).sort((a, b) => byQuality(a, b) || byCost(a, b));

  function dominates(a, b, column) {
    const signs_ = objectives.map((name) => by(name, column)(a, b));
    return signs_.every((d) => d <= 0) && signs_.some((d) => d < 0);
  }

  return function choose(limits) {
    const kept = order.filter((i) => limits.every((limit) => keeps(measured.metrics[limit.metric].values[i], limit)));
    const nAgain = kept.filter((i) => again.has(i)).length;
    // A network that was not measured again counts only where no other one dominates it in search values.
    const mixed = nAgain > 0 && nAgain < kept.length;
    const counts = (i) => !mixed || again.has(i) || !kept.some((other) => dominates(other, i, searched));
    const first = kept.find(counts);
    if (first === undefined) return null;
    const equals = kept.filter((i) => byQuality(i, first) === 0 && byCost(i, first) === 0 && counts(i));
    const leading = equals.filter((i) => !equals.some((other) => dominates(other, i, values)));
    return leading.reduce((a, b) => (measured.keys[b] < measured.keys[a] ? b : a));
  };
}
