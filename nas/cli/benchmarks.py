"""Commands that judge this project's own parts on published tables: bench predictor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, app
from nas.cli.output import print_json, print_table, stderr

bench = typer.Typer(no_args_is_help=True, help="Judge predictors on tables of published measurements.")
app.add_typer(bench, name="bench")

Table = Annotated[Path, typer.Argument(help="A table's .yaml file, with its .csv(.gz) beside it.", show_default=False)]


@bench.command()
def predictor(
    table: Table,
    target: Annotated[str, typer.Option("--target", help="The column to predict.", show_default=False)],
    train: Annotated[str, typer.Option("--train", help="Numbers of training rows.")] = "25,50,100,200",
    test: Annotated[int, typer.Option("--test", help="Rows to predict.", min=2)] = 500,
    seeds: Annotated[int, typer.Option("--seeds", help="Draws of the rows.", min=1)] = 5,
    as_json: Json = False,
) -> None:
    """Compare the engine's predictor with the mean, ridge, LightGBM and a Gaussian process on the same rows."""
    from rich.progress import Progress

    from nas.bench.predictor import BenchTable, bench_predictor, parse_counts, summarise

    counts = parse_counts(train)
    loaded = BenchTable.load(table)
    with Progress(console=stderr(), transient=True) as progress:
        task = progress.add_task(f"{loaded.name}: {target}", total=None)
        rows = list(
            bench_predictor(
                loaded, target, train=counts, test=test, seeds=seeds,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        )  # fmt: skip
    if as_json:
        return print_json([asdict(row) for row in rows])
    header = ["rows", "model", "MAPE", "Kendall tau", "90 % interval covers", "seconds to fit"]
    return print_table(header, summarise(rows))
