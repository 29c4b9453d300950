// The page of a run's evaluations: a click on a row shows its network in the chart.

document.addEventListener("click", ({ target }) => {
  const link = target.closest("tr[data-key]")?.querySelector("th a");
  if (link && !target.closest("a, summary, details p") && getSelection().isCollapsed) link.click();
});
