"""A self-contained interactive HTML page of a run: charts with hover texts (plotly), pictures, and the front as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from types import MappingProxyType

from nas.engine.formatting import (
    constraint_text,
    format_value,
    miss_text,
    option_texts,
    outline,
    score_text,
    title_of,
    title_on_test,
)
from nas.engine.predictions import Predictions
from nas.results.analysis.block_table import TOTAL_TITLE, BlockRow, block_table
from nas.results.analysis.finetuned_runs import Finetuning
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from nas.results.analysis.search_steps import SearchStep, shown_steps
from nas.results.plots.charts import Chart
from nas.results.plots.front_chart import heading
from nas.results.plots.plotly_charts import figure_of, script
from nas.results.plots.prediction_section import network_names, predictions_section, shown_first


def page(
    report: RunReport,
    front: Chart | None,
    curve: Chart | None,
    *,
    finetunings: Sequence[Finetuning] = (),
    pictures: Mapping[str, str] = MappingProxyType({}),
    predictions: Predictions | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """The page as text; it needs no network and holds plotly's script (about 5 MB).

    Args:
        report: The report of a search.
        front: The chart of its front; None where there is none.
        curve: The chart of its convergence.
        finetunings: Runs that fine-tuned networks of the report.
        pictures: Further pictures, as the texts of SVG files by their titles.
        predictions: Predictions of some networks; None for none.
        remarks: Further lines below the heading.
    """
    title, line = heading(report)
    convergence = ""
    if curve is not None:
        reference = ", ".join(f"{o.name} {format_value(o, report.reference[o.name])}" for o in report.objectives)
        outside = f"; {report.outside_text}" if report.outside_text else ""
        several = f"Hypervolume of the values measured while searching; reference point: {reference}{outside}."
        note = several if len(report.objectives) > 1 else "The best value measured while searching."
        convergence = f"<h2>Convergence</h2>\n<p>{escape(note)}</p>\n{figure_of(curve).div('convergence')}"
    template = (files("nas.results.plots") / "run_page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(title),
        line=escape(line),
        notes=_notes(report, finetunings, remarks),
        script=script(),
        front="" if front is None else f'<h2>Pareto front</h2>\n{figure_of(front).div("front")}\n<p id="selected"></p>',
        convergence=convergence,
        predictions=_predictions(predictions, report),
        pictures=_pictures(pictures),
        steps=_steps(report),
        table=_table(report),
    )


def _predictions(predictions: Predictions | None, report: RunReport) -> str:
    if predictions is None:
        return ""
    return predictions_section(predictions, network_names(predictions, report), shown_first(predictions, report))


def _pictures(pictures: Mapping[str, str]) -> str:
    """SVG files as parts of the page, each of a width at which its text can be read, on white paper."""
    parts = []
    for number, (title, file) in enumerate(pictures.items()):
        # The ids of a picture are ids of the page now, and must differ from those of the other pictures.
        svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>p{number}-", file[file.index("<svg") :])
        parts.append(f'<h2>{escape(title)}</h2>\n<div class="scroll picture">{svg}</div>')
    return "\n".join(parts)


def _steps(report: RunReport) -> str:
    """The steps of the search in a folded table; "" where they were not recorded."""
    shown = shown_steps(report.steps)
    if not shown:
        return ""
    titles = ["Step", "Generations", "Bred", "Candidates", "Proposed", "Measured", "Models with their weights"]
    rows = "".join(f"<tr>{_step_cells(step)}</tr>" for step in shown)
    extent = "" if len(shown) == len(report.steps) else f" {len(shown)} of the steps, evenly spaced:"
    text = f"{report.label}: {report.steps_text or 'no step by models'}.{extent}"
    head = "".join(f"<th>{title}</th>" for title in titles)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    note = "Candidates are predicted networks that were not known before. τ is Kendall's, cross-validated."
    return (
        f"<details><summary>Steps of the search ({len(report.steps):,})</summary><p>{escape(text)}</p>"
        f'<div class="scroll">{table}</div><p>{note}</p></details>'
    )


def _step_cells(step: SearchStep) -> str:
    numbers = (step.step, step.generations, step.bred, step.candidates, step.proposed, step.measured)
    cells = "".join(f"<td>{'–' if number is None else f'{number:,}'}</td>" for number in numbers)
    models = "".join(f"<p><b>{escape(name)}</b> {escape(model.text)}</p>" for name, model in step.models.items())
    return f"{cells}<td>{models or '–'}</td>"


def _notes(report: RunReport, finetunings: Sequence[Finetuning], remarks: Sequence[str]) -> str:
    """The limits, the nearest network where none satisfies them, the fine-tuned networks, and further remarks."""
    lines = []
    if report.constraints:
        lines.append(f"Limits: {', '.join(constraint_text(c) for c in report.constraints)}.")
    if report.nearest is not None and report.nearest.miss.broken:
        lines.append(f"No network satisfies them; the nearest has {miss_text(report.nearest.miss)}.")
    for finetuning in finetunings:
        network = finetuning.of.key or finetuning.of.network.key
        lines.append(f"Network {network} was fine-tuned by {finetuning.run}: {', '.join(finetuning.summary)}.")
    return "\n".join(f"<p>{escape(line)}</p>" for line in [*lines, *remarks])


def _table(report: RunReport) -> str:
    profiles = ["On the front of"] if report.fronts else []
    titles = [
        "Number",
        "Network",
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
    number = str(report.numbers.get(point.key, "–"))
    cells = "".join(
        f"<td>{escape(text)}</td>"
        for text in [label, number, *values, score_text(report.scored, point.test), *profiles]
    )
    options, titles = point.described, point.space.titles
    return (
        f'<tr data-key="{point.key}">{cells}<td><details><summary>{escape(outline(options, titles))}</summary>'
        f"<p>{escape('; '.join(option_texts(options, titles)))}</p><p>key <code>{escape(point.key)}</code></p>"
        f"{_blocks(report, point)}</details></td></tr>"
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
