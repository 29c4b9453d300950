// Which network is the most accurate within limits: the same rule as `nas show --select` and the API's pick.

/** Whether a figure keeps a limit `{figure, sign, bound}`. */
function keeps(value, { sign, bound }) {
  return sign === "<=" ? value <= bound : value >= bound;
}

/** Prepares a run's networks; gives back a function from limits to the position of the chosen network, or null. */
export function chooser(data) {
  const { measured, objectives } = data;
  const signs = new Map(data.figures.map((f) => [f.name, f.goal === "minimize" ? 1 : -1]));
  const values = new Map(objectives.map((name) => [name, measured.figures[name].values]));
  const again = new Set(measured.final);
  const searched = new Map(objectives.map((name) => {
    const column = [...values.get(name)];
    measured.final.forEach((place, i) => { column[place] = measured.searched[name][i]; });
    return [name, column];
  }));
  const by = (name, column) => (a, b) => signs.get(name) * (column.get(name)[a] - column.get(name)[b]);
  const byQuality = by(data.primary, values);
  const byCost = by(data.cost, values);
  // The best first, so that the first that may be chosen is the one.
  const order = measured.keys.map((_, i) => i).sort((a, b) => byQuality(a, b) || byCost(a, b));

  function dominates(a, b, column) {
    const signs_ = objectives.map((name) => by(name, column)(a, b));
    return signs_.every((d) => d <= 0) && signs_.some((d) => d < 0);
  }

  return function choose(limits) {
    const kept = order.filter((i) => limits.every((limit) => keeps(measured.figures[limit.figure].values[i], limit)));
    const nAgain = kept.filter((i) => again.has(i)).length;
    // What was not measured again counts only where nothing leads it as the search saw both.
    const mixed = nAgain > 0 && nAgain < kept.length;
    const counts = (i) => !mixed || again.has(i) || !kept.some((other) => dominates(other, i, searched));
    const first = kept.find(counts);
    if (first === undefined) return null;
    const equals = kept.filter((i) => byQuality(i, first) === 0 && byCost(i, first) === 0 && counts(i));
    const leading = equals.filter((i) => !equals.some((other) => dominates(other, i, values)));
    return leading.reduce((a, b) => (measured.keys[b] < measured.keys[a] ? b : a));
  };
}
