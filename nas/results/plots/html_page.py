"""A self-contained interactive HTML page of a run: charts with hover texts (plotly), pictures, and the front as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from types import MappingProxyType

from nas.engine.formatting import (
    constraint_text,
    format_value,
    miss_text,
    outline,
    score_text,
    title_of,
    title_on_test,
)
from nas.results.analysis.block_table import TOTAL_TITLE, BlockRow, block_table
from nas.results.analysis.finetuned_runs import Finetuning
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from nas.results.plots.charts import Chart
from nas.results.plots.front_chart import heading
from nas.results.plots.plotly_charts import figure_of, script

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --paper: #ffffff; --ink: #22262b; --soft: #5f6770; --rule: #e4e7ea; --hover: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15191e; --ink: #e8ebee; --soft: #a3acb6; --rule: #2e353d; --hover: #1d232a; }
}
body { margin: 0 auto; max-width: 1120px; padding: 2rem 1.5rem 3rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .3rem; }
p { margin: .2rem 0; color: var(--soft); }
.scroll { overflow-x: auto; }
.picture { background: #ffffff; border-radius: 6px; }
.picture svg { display: block; width: 100%; height: auto; min-width: 640px; max-width: 1000px; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin-top: .6rem; }
th, td { padding: .4rem .7rem; text-align: right; border-bottom: 1px solid var(--rule); vertical-align: top;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
th:last-child, td:last-child { text-align: left; white-space: normal; width: 45%; }
tbody tr:hover, tr.selected { background: var(--hover); }
tr[data-key] { cursor: pointer; }
tr.selected { box-shadow: inset 3px 0 var(--soft); }
#selected { font-size: .85rem; overflow-wrap: anywhere; }
code { font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
summary { cursor: pointer; }
details p { font-size: .85rem; overflow-wrap: anywhere; }
.blocks { width: auto; font-size: .85rem; }
.blocks :is(th, td) { padding: .15rem .5rem; }
.blocks th:first-child { text-align: left; }
.blocks tbody th { font-weight: 400; color: inherit; }
.blocks thead th { white-space: normal; }
.blocks :is(th, td):last-child { text-align: right; width: auto; }
.blocks td:first-of-type { background: linear-gradient(to right, #0072b255 var(--share), transparent 0); }
</style>
</head>
<body>
<h1>$title</h1>
<p>$line</p>
$notes
$script
$front
$convergence
$pictures
<h2>Members of the front</h2>
<div class="scroll">$table</div>
<script>
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function repaint() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    for (const chart of document.querySelectorAll(".plotly-graph-div")) {
      const changes = { "font.color": colour("--ink") };
      for (const name of Object.keys(chart.layout)) {
        if (!/^[xy]axis\\d*$$/.test(name)) continue;
        changes[name + ".gridcolor"] = colour("--rule");
        changes[name + ".linecolor"] = colour("--soft");
      }
      (chart.layout.shapes || []).forEach((_, i) => { changes["shapes[" + i + "].line.color"] = colour("--soft"); });
      Plotly.relayout(chart, changes);
      chart.data.forEach((trace, i) => {
        if (!trace.meta) return;
        const shade = dark.matches ? trace.meta.dark : trace.meta.light;
        const muted = shade + trace.meta.errors;
        Plotly.restyle(chart, {
          "line.color": shade, "marker.color": shade, "error_x.color": muted, "error_y.color": muted,
        }, [i]);
      });
    }
  }
  dark.addEventListener("change", repaint);
  repaint();

  // A click on a point or a row selects its network: a ring in every panel, its values below, and its row marked.
  const front = document.getElementById("front");
  const limits = (front && front.layout.shapes) || [];
  function select(key, clicked) {
    const found = front.data.map((trace) => [trace, (trace.ids || []).indexOf(key)]).filter(([, i]) => i >= 0);
    const places = found.map(([trace, i]) => [trace.xaxis, trace.yaxis, trace.x[i], trace.y[i]]);
    if (!places.length && clicked) places.push([clicked.data.xaxis, clicked.data.yaxis, clicked.x, clicked.y]);
    const line = { color: getComputedStyle(document.documentElement).getPropertyValue("--ink").trim(), width: 2 };
    const circle = { type: "circle", xsizemode: "pixel", ysizemode: "pixel", x0: -10, x1: 10, y0: -10, y1: 10, line };
    const rings = places.map(([xref, yref, xanchor, yanchor]) => ({ ...circle, xref, yref, xanchor, yanchor }));
    Plotly.relayout(front, { shapes: limits.concat(rings) });
    document.getElementById("selected").innerHTML = found.length ? found[0][0].customdata[found[0][1]] : key;
    for (const row of document.querySelectorAll("tr[data-key]")) row.classList.toggle("selected", row.dataset.key === key);
  }
  if (front) {
    front.on("plotly_click", ({ points: [point] }) => select(point.id || point.customdata, point));
    document.addEventListener("click", ({ target }) => {
      const row = target.closest("tr[data-key]");
      if (!row || target.closest("details")) return;
      select(row.dataset.key);
      front.scrollIntoView({ block: "nearest" });
    });
  }
})();
</script>
</body>
</html>
""")


def page(
    report: RunReport,
    front: Chart | None,
    curve: Chart | None,
    *,
    finetunings: Sequence[Finetuning] = (),
    pictures: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The page as text; it needs no network and holds plotly's script (about 5 MB).

    Args:
        report: The report of a search.
        front: The chart of its front; None where there is none.
        curve: The chart of its convergence.
        finetunings: Runs that fine-tuned networks of the report.
        pictures: Further pictures, as the texts of SVG files by their titles.
    """
    title, line = heading(report)
    convergence = ""
    if curve is not None:
        reference = ", ".join(f"{o.name} {format_value(o, report.reference[o.name])}" for o in report.objectives)
        several = f"Hypervolume of the values measured while searching; reference point: {reference}."
        note = several if len(report.objectives) > 1 else "The best value measured while searching."
        convergence = f"<h2>Convergence</h2>\n<p>{escape(note)}</p>\n{figure_of(curve).div('convergence')}"
    return _PAGE.substitute(
        title=escape(title),
        line=escape(line),
        notes=_notes(report, finetunings),
        script=script(),
        front="" if front is None else f'<h2>Pareto front</h2>\n{figure_of(front).div("front")}\n<p id="selected"></p>',
        convergence=convergence,
        pictures=_pictures(pictures),
        table=_table(report),
    )


def _pictures(pictures: Mapping[str, str]) -> str:
    """SVG files as parts of the page, each of a width at which its text can be read, on white paper."""
    parts = []
    for number, (title, file) in enumerate(pictures.items()):
        # The ids of a picture are ids of the page now, and must differ from those of the other pictures.
        svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>p{number}-", file[file.index("<svg") :])
        parts.append(f'<h2>{escape(title)}</h2>\n<div class="scroll picture">{svg}</div>')
    return "\n".join(parts)


def _notes(report: RunReport, finetunings: Sequence[Finetuning]) -> str:
    """The limits, the nearest network where none satisfies them, and the fine-tuned networks."""
    lines = []
    if report.constraints:
        lines.append(f"Limits: {', '.join(constraint_text(c) for c in report.constraints)}.")
    if report.nearest is not None and report.nearest.miss.broken:
        lines.append(f"No network satisfies them; the nearest has {miss_text(report.nearest.miss)}.")
    for finetuning in finetunings:
        network = finetuning.of.key or finetuning.of.network.key
        lines.append(f"Network {network} was fine-tuned by {finetuning.run}: {', '.join(finetuning.summary)}.")
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)


def _table(report: RunReport) -> str:
    profiles = ["On the front of"] if report.fronts else []
    titles = [
        "Number",
        *(title_of(o) for o in report.columns),
        title_on_test(report.scored).removesuffix(" (%)"),
        *profiles,
        "Architecture",
    ]
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    points = [(str(number), point) for number, point in enumerate(report.front)]
    if report.nearest is not None:
        points.append(("nearest", report.nearest.point))
    rows = "\n".join(_row(report, label, point) for label, point in points)
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    note = report.note_on(point for _, point in points)
    return f"{table}\n<p>{note}</p>" if note else table


def _row(report: RunReport, label: str, point: Point) -> str:
    values = [report.value_text(point, metric) for metric in report.columns]
    profiles = [", ".join(report.profiles_of(point)) or "–"] if report.fronts else []
    cells = "".join(
        f"<td>{escape(text)}</td>" for text in [label, *values, score_text(report.scored, point.test), *profiles]
    )
    described = ", ".join(f"{name} {value}" for name, value in point.described.items())
    return (
        f'<tr data-key="{point.key}">{cells}<td><details><summary>{escape(outline(point.described))}</summary>'
        f"<p>{escape(described)}</p><p>key <code>{escape(point.key)}</code></p>{_blocks(report, point)}</details></td></tr>"
    )


def _blocks(report: RunReport, point: Point) -> str:
    """The sizes and shares of a network's blocks; "" where they were not recorded."""
    blocks = block_table(report, point)
    if blocks is None:
        return ""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in blocks.titles)
    rows = "".join(_block_row(row) for row in blocks.rows)
    table = f'<table class="blocks"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return (
        f"<p>Where the time goes: {escape(blocks.basis)}</p>{table}"
        if blocks.profiles
        else f"<p>Blocks: {escape(blocks.basis)}</p>{table}"
    )


def _block_row(row: BlockRow) -> str:
    title, *cells = map(escape, row.cells())
    share = 0.0 if row.title == TOTAL_TITLE else 100 * row.share
    return f'<tr style="--share: {share:.1f}%"><th scope="row">{title}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
