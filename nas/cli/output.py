"""What commands print: JSON for scripts, tables and sentences for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def print_training(made: dict[str, Any]) -> None:
    print(f"{made['run']}: training, {made['status']}, epoch {made['epoch']} of {made['epochs']}")
    rows = [
        [str(e["epoch"]), f"{e['loss']:.4f}", f"{e['largest']:.2%}", f"{e['smallest']:.2%}", f"{e['seconds']:.0f}"]
        for e in made["history"]
    ]
    print_table(["epoch", "loss", "largest (validation)", "smallest (validation)", "seconds"], rows)
    if made["status"] == "finished":
        print(f"search it with   supernet: {{from: {made['run']}}}")


def print_report(report: Any, *, live: bool = False) -> None:
    from nas.overview import shown_status

    status = shown_status(report.status, live=live)
    reason = f"; {report.reason}" if report.reason else ""
    print(f"{report.run}: {status}, {report.n_evaluations} evaluations{reason}")
    points = [(str(i), point) for i, point in enumerate(report.front)]
    print_points(report, points + [(name, point) for name, point in report.anchors.items()])
    if report.front_hypervolume is not None:
        reference = ", ".join(f"{name} {value:.4g}" for name, value in report.reference.items())
        print(f"hypervolume of the front {report.front_hypervolume:.5g} (reference point: {reference})")
    if not report.predictors:
        print("predictors: none (only the guided search fits them, once it has its first evaluations)")
    for name, predictor in report.predictors.items():
        quality = predictor.latest
        figures = [
            f"{label} {quality[key]:{form}}"
            for key, label, form in (("kendall_tau", "Kendall tau", ".2f"), ("mape", "off by", ".2%"))
            if quality.get(key) is not None
        ]
        print(f"predictor of {name}: {', '.join([quality.get('model', '?'), *figures])} (cross-validated)")


def number(report: Any, point: Any) -> str:
    """The number of a member of the front, which `--index` takes."""
    return str([member.key for member in report.front].index(point.key))


def print_points(report: Any, points: list[tuple[str, Any]]) -> None:
    """A table of points: measured figures with their errors, and the accuracy on the test part."""
    from nas.export.units import figure_text
    from nas.objectives import Objective

    accuracy = Objective.parse("accuracy", [])
    several = any(point.precision for _, point in points)
    precision = ["precision"] if several else []
    header = ["#", *precision, *(o.name for o in report.objectives), "test accuracy", "architecture"]
    rows = []
    for label, point in points:
        figures = [figure_text(o, point.values[o.name], point.errors.get(o.name, 0.0)) for o in report.objectives]
        test = "" if point.test is None else figure_text(accuracy, point.test["accuracy"], point.test["error"])
        rows.append([label, *([point.precision] if several else []), *figures, test, point.key])
    print_table(header, rows)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=1, allow_nan=False))


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)
