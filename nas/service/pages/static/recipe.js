// The choice of a recipe with uploaded data and an uploaded model: only those are offered that fit the recipe.

const at = (id) => document.getElementById(id);
const selects = { data: at("recipe-data"), model: at("recipe-model") };

let taken; // the choice that the text of the job is of

/**
 * Calls `load({recipe, data, model})` when one of them is chosen, and at the start where only one choice fits. Where it resolves
 * to false, the selections return to what they were.
 */
export function connectRecipe(load) {
  taken = chosen();
  at("recipe").addEventListener("change", () => {
    fit();
    take(load);
  });
  for (const select of Object.values(selects)) {
    select.addEventListener("change", () => {
      explain();
      take(load);
    });
  }
  at("take-recipe").hidden = true; // with scripts, selecting a recipe is enough
  fit();
  if (!isSame(taken, chosen())) take(load);
}

async function take(load) {
  const wanted = chosen();
  const isTaken = await load(wanted);
  if (!isSame(wanted, chosen())) return; // another one was chosen meanwhile
  if (isTaken) taken = wanted;
  else restore(taken);
}

function restore({ recipe, data, model }) {
  at("recipe").value = recipe;
  fit();
  [selects.data.value, selects.model.value] = [data, model];
  explain();
}

/** Offers what was just uploaded, and chooses it where the recipe takes it. */
export function offer(what, { name, kind, family = "", words }) {
  const option = Object.assign(document.createElement("option"), { value: name, textContent: words });
  Object.assign(option.dataset, { kind, family });
  selects[what].append(option);
  fit();
  if (option.disabled) return;
  option.selected = true;
  selects[what].dispatchEvent(new Event("change", { bubbles: true }));
}

function chosen() {
  return { recipe: at("recipe").value, data: selects.data.value, model: selects.model.value };
}

function isSame(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

function needs() {
  return JSON.parse(at("recipe").selectedOptions[0].dataset.needs);
}

/** Offers the data and models that the recipe takes; chooses the only ones that it needs. */
function fit() {
  const { dataKind, modelKind, family } = at("recipe").selectedOptions[0].dataset;
  const kinds = { data: dataKind, model: modelKind };
  for (const [what, select] of Object.entries(selects)) {
    const [none, ...options] = select.options;
    const fits = ({ dataset }) => dataset.kind === kinds[what] && (what === "data" || !family || dataset.family === family);
    for (const option of options) option.hidden = option.disabled = !fits(option);
    const fitting = options.filter((option) => !option.disabled);
    none.textContent = !needs()[what] ? "The recipe's own" : fitting.length ? "Choose…" : "None is uploaded";
    if (select.selectedOptions[0]?.disabled) none.selected = true;
    if (needs()[what] && none.selected && fitting.length === 1) fitting[0].selected = true;
    select.parentElement.hidden = !kinds[what];
  }
  explain();
}

/** Says what the recipe still needs. */
function explain() {
  const missing = Object.entries(needs()).filter(([what]) => !selects[what].value).map(([, words]) => words);
  at("recipe-needs").textContent = missing.length ? `Before it can be submitted, this recipe needs ${missing.join(", and ")}.` : "";
}
