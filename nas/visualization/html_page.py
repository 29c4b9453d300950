"""One self-contained HTML page of a run (plotly): both charts with hover, and the front as a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from string import Template

from nas.analysis.finetuned_runs import Finetuning
from nas.analysis.formatting import constraint_text, format_value, miss_text, title_of
from nas.analysis.points import Point
from nas.analysis.report import SHORT, RunReport, is_short
from nas.analysis.selection import Limit
from nas.visualization import chart_data as charts
from nas.visualization.plotly_charts import convergence_chart, front_chart, test_text
from nas.visualization.plotly_embedding import script

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
tbody tr:hover { background: var(--hover); }
code { font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
summary { cursor: pointer; }
details p { font-size: .85rem; overflow-wrap: anywhere; }
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
        const parts = ["line.color", "marker.color", "error_x.color", "error_y.color"];
        Plotly.restyle(chart, Object.fromEntries(parts.map((part) => [part, shade])), [i]);
      });
    }
  }
  dark.addEventListener("change", repaint);
  repaint();
})();
</script>
</body>
</html>
""")


def page(report: RunReport, *, limits: Sequence[Limit] = ()) -> str:
    """The page as text, without further pictures; see `prepare`."""
    return prepare(report, limits=limits)({})


def prepare(
    report: RunReport, *, limits: Sequence[Limit] = (), further: Sequence[Finetuning] = ()
) -> Callable[[Mapping[str, str]], str]:
    """What makes the page of further pictures, SVG files by their titles, which may still be drawn when the rest is done.

    The page needs no network and holds plotly's script (about 5 MB).

    Raises:
        NasError: as `charts.panels`.
    """
    title, line = charts.heading(report)
    drawn, curve = front_chart(report, limits, further), convergence_chart(report)
    front = "" if drawn is None else f"<h2>The front</h2>\n{drawn.div('front')}"
    convergence = ""
    if curve is not None:
        reference = ", ".join(f"{o.name} {format_value(o, report.reference[o.name])}" for o in report.objectives)
        told = f"Hypervolume of the figures seen while searching, from the reference point {reference}."
        if len(report.objectives) == 1:
            told = "The best figure seen while searching."
        convergence = f"<h2>Convergence</h2>\n<p>{escape(told)}</p>\n{curve.div('convergence')}"
    parts = {
        "title": escape(title), "line": escape(line), "notes": _notes(report, further), "script": script(), "front": front,
        "convergence": convergence, "table": _table(report),
    }  # fmt: skip
    return lambda pictures: _PAGE.substitute(parts, pictures=_pictures(pictures))


def _pictures(pictures: Mapping[str, str]) -> str:
    """SVG files as parts of the page, each of a width at which its text can be read, on white paper."""
    parts = []
    for number, (title, file) in enumerate(pictures.items()):
        svg = file[file.index("<svg") :]
        # Names inside are the page's now: each picture's own.
        svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>p{number}-", svg)
        parts.append(f'<h2>{escape(title)}</h2>\n<div class="scroll picture">{svg}</div>')
    return "\n".join(parts)


def _notes(report: RunReport, further: Sequence[Finetuning]) -> str:
    """What the networks must keep, the nearest where none does, and what was trained further."""
    lines = []
    if report.constraints:
        lines.append(f"Limits: {', '.join(constraint_text(c) for c in report.constraints)}.")
    if report.nearest is not None and report.nearest.miss.broken:
        lines.append(f"No network keeps them; the nearest has {miss_text(report.nearest.miss)}.")
    for one in further:
        network = one.of.key or one.of.network.key
        lines.append(f"Network {network} was trained further by {one.run}: {', '.join(one.summary)}.")
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)


def _table(report: RunReport) -> str:
    profiles = ["On the front of"] if report.fronts else []
    titles = ["Number", *(title_of(o) for o in report.columns), "Test accuracy", *profiles, "Architecture"]
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    points = [(str(number), point) for number, point in enumerate(report.front)]
    if report.nearest is not None:
        points.append(("nearest", report.nearest.point))
    rows = "\n".join(_row(report, label, point) for label, point in points)
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    short = any(is_short(report, point) for _, point in points)
    return f"{table}\n<p>* {SHORT}</p>" if short else table


def _row(report: RunReport, label: str, point: Point) -> str:
    short = is_short(report, point)
    figures = [
        format_value(o, point.values[o.name], point.errors[o.name]) + (" *" if short and o.profile is not None else "")
        for o in report.columns
    ]
    profiles = [p for p, front in report.fronts.items() if point.key in {member.key for member in front}]
    own = [", ".join(profiles) or "–"] if report.fronts else []
    cells = "".join(f"<td>{escape(text)}</td>" for text in [label, *figures, test_text(point), *own])
    described = ", ".join(f"{name} {value}" for name, value in point.described.items())
    return (
        f"<tr>{cells}<td><details><summary><code>{escape(point.key)}</code></summary>"
        f"<p>{escape(described)}</p></details></td></tr>"
    )
