"""Commands that benchmark predictors and search algorithms on published tables: bench predictor, bench search."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

import nas.results
import nas.runs.bench
from nas.cli.app import Json, argument, command_group, option
from nas.cli.models import check_plot
from nas.cli.output import print_json, print_table, progress_bar
from nas.engine.formatting import counted
from nas.errors import SelectionError

bench = command_group(
    "bench",
    "Benchmark predictors and searches on tables.",
    example="nas bench predictor table.yaml --target latency_ms",
)

Results = Annotated[
    Path | None,
    option(
        "--results", metavar="FILE", help="Store each result in this file when it is done; repeat none that it has."
    ),
]
TablePath = Annotated[Path, argument(metavar="TABLE", help="A table's .yaml file, beside its .csv(.gz).")]


@bench.command(epilog="Example: nas bench predictor table.yaml --target latency_ms")
def predictor(
    table: TablePath,
    target: Annotated[str, option("--target", help="The column to predict.")],
    train: Annotated[str, typer.Option("--train", help="Numbers of training rows.")] = "25,50,100,200",
    test: Annotated[int, typer.Option("--test", help="Rows to predict.")] = 500,
    seeds: Annotated[int, typer.Option("--seeds", help="Random splits of the rows.")] = 5,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Compare the search's predictor with other models.

    With the mean, ridge, LightGBM and a Gaussian process, on the same rows of a table of measurements.
    """
    loaded, counts = nas.runs.bench.Table.load(table), _counts(train)
    with progress_bar() as progress:
        task = progress.add_task(f"{loaded.name}: {target}", total=None)
        rows = list(
            nas.runs.bench.bench_predictor(
                loaded,
                target,
                train=counts,
                test=test,
                seeds=seeds,
                results=None if results is None else nas.runs.bench.ResultsFile(results, nas.runs.bench.PredictorRow),
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        )
    if as_json:
        return print_json(list(map(asdict, rows)))
    header = ["training rows", "model", "MAPE", "Kendall tau", "90 % interval covers", "CPU s to fit"]
    return print_table(header, _summary(rows))


@bench.command(epilog="Example: nas bench search table.yaml --maximize accuracy --minimize macs")
def search(
    table: TablePath,
    maximize: Annotated[
        list[str] | None, option("--maximize", metavar="COL[,COL]", help="Columns to maximize.")
    ] = None,
    minimize: Annotated[
        list[str] | None, option("--minimize", metavar="COL[,COL]", help="Columns to minimize.")
    ] = None,
    exact: Annotated[
        list[str] | None,
        option("--exact", metavar="COL[,COL]", help="Columns (parameters, MACs) known for every architecture."),
    ] = None,
    algorithms: Annotated[
        str, typer.Option("--algorithms", metavar="A,B", help="Names as in job files, or module:Class.")
    ] = "guided,nsga2,random",
    evaluations: Annotated[int, typer.Option("--evaluations", help="Most evaluations per run.")] = 400,
    seeds: Annotated[int, typer.Option("--seeds", help="Runs of each algorithm.")] = 5,
    target: Annotated[
        float | None, option("--target", help="Stop a run at this share of the exact front's hypervolume, e.g. 0.99.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Evaluations per batch.")] = 10,
    results: Results = None,
    plot: Annotated[Path | None, option("--plot", metavar="FILE", help="Plot to this file: .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Compare search algorithms on a complete table.

    Counts the evaluations that they need to find the front of the table.
    """
    check_plot(plot, "nas bench search")
    columns = {name: _names(texts, name) for name, texts in (("maximize", maximize), ("minimize", minimize))}
    replay = nas.runs.bench.Replay.from_table(nas.runs.bench.Table.load(table), **columns, exact=_names(exact, "exact"))
    names = _names([algorithms], "algorithms")
    with _progress(evaluations) as (update, end):
        rows = []
        for row in nas.runs.bench.bench_search(
            replay,
            names,
            evaluations=evaluations,
            seeds=seeds,
            target=target,
            batch=batch,
            results=None if results is None else nas.runs.bench.ResultsFile(results, nas.runs.bench.Row),
            on_progress=update,
        ):
            rows.append(row)
            end(row)
    line = f"{replay.table.name}: {', '.join(o.name for o in replay.objectives)}"
    if as_json:
        print_json(list(map(asdict, rows)))
    else:
        over = f"medians of {seeds} seeds (quartiles)" if seeds > 1 else "one seed"
        print(
            f"{line}; {replay.n_front} points on the exact front\n"
            f"Evaluations to a share of its hypervolume, then the share and CPU time at the end: {over}"
        )
        shares = list(rows[0].evaluations_to)
        header = ["algorithm", *(f"to {100 * float(share):g} %" for share in shares), "share", "seconds"]
        print_table(header, _search_summary(rows, shares))
    if plot is not None:  # last: a full disk must not lose hours of results
        nas.results.write_picture(plot, nas.runs.bench.search_chart(rows, line))
        print(f"wrote {plot}", file=sys.stderr)


@contextmanager
def _progress(
    evaluations: int,
) -> Iterator[tuple[Callable[[str, int, int, float], None], Callable[[nas.runs.bench.Row], None]]]:
    """Callbacks that show a run in progress and a finished run: a bar on a terminal, else a line per run."""
    with progress_bar() as progress:
        task = progress.add_task("", total=evaluations)

        def update(algorithm: str, seed: int, done: int, share: float) -> None:
            progress.update(task, completed=done, description=f"{algorithm}, seed {seed}: {share:.2%}")

        def end(row: nas.runs.bench.Row) -> None:
            line = f"{row.algorithm}, seed {row.seed}: {row.share:.2%} after {counted(row.evaluations, 'evaluation')}"
            print(f"{line}, {row.own_seconds:.1f} s", file=sys.stderr)

        yield update, end


def _names(texts: list[str] | None, option: str) -> list[str]:
    """Names from ``A,B``; the option may be repeated."""
    names = [name.strip() for text in texts or () for name in text.split(",")]
    if "" in names:
        problem = f"--{option} {','.join(texts or ())!r}: expected names separated by commas, as in A,B"
        raise SelectionError(problem, code="option.invalid")
    return names


def _search_summary(rows: list[nas.runs.bench.Row], shares: list[str]) -> list[list[str]]:
    """Medians and quartiles over the seeds, by algorithm."""
    cells = []
    for name in dict.fromkeys(row.algorithm for row in rows):
        algorithm_rows = [row for row in rows if row.algorithm == name]
        max_evaluations = max(row.evaluations for row in algorithm_rows)
        counts = [
            _spread(nas.runs.bench.quartiles([row.evaluations_to[share] for row in algorithm_rows]), max_evaluations)
            for share in shares
        ]
        end = f"{median(row.share for row in algorithm_rows):.2%}"
        cells.append([name, *counts, end, f"{median(row.own_seconds for row in algorithm_rows):.2f}"])
    return cells


def _spread(quartiles: tuple[float, float, float], max_evaluations: int) -> str:
    """A median with its quartiles; a share that was not reached counts as more than all evaluations."""
    low, middle, high = (f"{number:.0f}" if number < float("inf") else f"> {max_evaluations}" for number in quartiles)
    return middle if low == high else f"{middle} ({low} to {high})"


def _counts(text: str) -> list[int]:
    """Numbers from ``25,50,100``."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        problem = f"--train {text!r}: expected whole numbers separated by commas, as in 25,50,100"
        raise SelectionError(problem, code="option.invalid") from None


def _summary(rows: list[nas.runs.bench.PredictorRow]) -> list[list[str]]:
    """Means over the seeds, by number of training rows and model."""
    cells = []
    for n in dict.fromkeys(row.train for row in rows):
        for model in dict.fromkeys(row.model for row in rows):
            model_rows = [row for row in rows if (row.train, row.model) == (n, model)]
            values = [
                _mean([row.mape for row in model_rows], ".2%"),
                _mean([row.kendall_tau for row in model_rows], ".3f"),
                _mean([row.coverage for row in model_rows], ".1%"),
                _mean([row.fit_s for row in model_rows], ".2f"),
            ]
            cells.append([str(n), model, *values])
    return cells


def _mean(values: list[float] | list[float | None], form: str) -> str:
    numbers = [value for value in values if value is not None]
    return format(sum(numbers) / len(numbers), form) if numbers else "–"
