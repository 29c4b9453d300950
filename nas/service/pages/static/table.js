// Tables that users sort by their headers, by mouse or keyboard.

/** Makes the tables below `root` sortable; the value of a cell is its `data-value`, or its text. */
export function sortable(root = document) {
  for (const table of root.querySelectorAll("table[data-sortable]")) {
    table.querySelectorAll("thead th[data-sort]").forEach((head) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        sort(table, head.cellIndex, down ? "descending" : "ascending");
      });
    });
  }
}

/** The order of a table: `[column, direction]`. */
export function order(table) {
  const head = table.querySelector("thead th[aria-sort]");
  return head ? [head.cellIndex, head.getAttribute("aria-sort")] : null;
}

export function sort(table, column, direction) {
  const heads = [...table.tHead.rows[0].cells];
  const numeric = heads[column].dataset.sort === "number";
  const value = (row) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    if (!numeric) return text;
    return text === "" ? null : Number(text);
  };
  const sign = direction === "ascending" ? 1 : -1;
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null); // missing values come last in both directions
    return sign * (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  };
  const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
  table.tBodies[0].append(...rows.sort(([a], [b]) => compare(a, b)).map(([, row]) => row));
  heads.forEach((head, i) => (i === column ? head.setAttribute("aria-sort", direction) : head.removeAttribute("aria-sort")));
}
