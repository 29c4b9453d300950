"""Commands that judge this project's own parts on published tables: bench predictor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import Json, app
from nas.cli.output import print_json, print_table, stderr

if TYPE_CHECKING:
    from nas.bench.predictor import Row

bench = typer.Typer(no_args_is_help=True, help="Judge this project's parts on tables of published measurements.")
app.add_typer(bench, name="bench")

TablePath = Annotated[
    Path, typer.Argument(metavar="TABLE", help="A table's .yaml file, its .csv(.gz) beside it.", show_default=False)
]


@bench.callback()
def _bench() -> None:
    """Judge this project's parts on tables of published measurements."""


@bench.command()
def predictor(
    table: TablePath,
    target: Annotated[str, typer.Option("--target", help="The column to predict.", show_default=False)],
    train: Annotated[str, typer.Option("--train", help="Numbers of training rows.")] = "25,50,100,200",
    test: Annotated[int, typer.Option("--test", help="Rows to predict.")] = 500,
    seeds: Annotated[int, typer.Option("--seeds", help="Draws of the rows.")] = 5,
    tune: Annotated[
        float, typer.Option("--tune", min=0, help="Seconds for tuning the search's predictor, as one more row.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Compare the search's predictor with the mean, ridge, LightGBM and a Gaussian process, on the same rows."""
    from rich.progress import Progress

    from nas.bench.predictor import bench_predictor
    from nas.evaluation.table import Table

    loaded, console = Table.load(table), stderr()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{loaded.name}: {target}", total=None)
        rows = list(
            bench_predictor(
                loaded, target, train=_counts(train), test=test, seeds=seeds, tune_seconds=tune,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        )  # fmt: skip
    if as_json:
        return print_json([row.to_json() for row in rows])
    header = ["training rows", "model", "MAPE", "Kendall tau", "90 % interval covers", "seconds to fit"]
    return print_table(header, _summary(rows))


def _counts(text: str) -> list[int]:
    """Numbers from ``25,50,100``.

    Raises:
        SelectionError: the text is no such list.
    """
    from nas.errors import SelectionError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SelectionError(f"--train {text!r}: expected whole numbers with commas between, as in 25,50,100") from None


def _summary(rows: list[Row]) -> list[list[str]]:
    """Means over the seeds, by number of training rows and model."""
    cells = []
    for n in dict.fromkeys(row.train for row in rows):
        for model in dict.fromkeys(row.model for row in rows):
            own = [row for row in rows if (row.train, row.model) == (n, model)]
            figures = [
                _mean([row.mape for row in own], ".2%"),
                _mean([row.kendall_tau for row in own], ".3f"),
                _mean([row.coverage for row in own], ".1%"),
                _mean([row.fit_s for row in own], ".2f"),
            ]
            cells.append([str(n), model, *figures])
    return cells


def _mean(values: list[float] | list[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(sum(known) / len(known), form) if known else "–"
