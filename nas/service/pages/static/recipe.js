// The choice of a recipe with uploaded data and an uploaded model: only those are offered that fit the recipe.

const at = (id) => document.getElementById(id);
const selects = { data: at("recipe-data"), model: at("recipe-model") };

/** Calls `changed({recipe, data, model})` when one of them is chosen. */
export function connectRecipe(changed) {
  at("recipe").addEventListener("change", () => {
    fit();
    changed(chosen());
  });
  for (const select of Object.values(selects)) {
    select.addEventListener("change", () => {
      explain();
      changed(chosen());
    });
  }
  at("take-recipe").hidden = true; // with scripts, selecting a recipe is enough
  if (fit()) changed(chosen());
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

function needs() {
  return JSON.parse(at("recipe").selectedOptions[0].dataset.needs);
}

/** Offers the data and models that the recipe takes; chooses the only ones that it needs. Whether a choice has changed. */
function fit() {
  const { dataKind, modelKind, family } = at("recipe").selectedOptions[0].dataset;
  const kinds = { data: dataKind, model: modelKind };
  const before = JSON.stringify(chosen());
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
  return JSON.stringify(chosen()) !== before;
}

/** Says what the recipe still needs. */
function explain() {
  const missing = Object.entries(needs()).filter(([what]) => !selects[what].value).map(([, words]) => words);
  at("recipe-needs").textContent = missing.length ? `Before it can be submitted, this recipe needs ${missing.join(", and ")}.` : "";
}
