"""Runs a driver from a command: progress on stderr, signal handling, final output."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

import nas.engine
import nas.jobs
import nas.results
import nas.runs
from nas.cli.interruption import INTERRUPTED, INTERRUPTION
from nas.cli.output import print_improvement, print_json, print_report, print_training, print_usage
from nas.cli.remedies import remedy_text, run_command
from nas.engine.evaluation.cluster import check_address
from nas.engine.progress import CompositeObserver
from nas.engine.store.folder import RunsFolder
from nas.errors import JobError, OutdatedStoreError, SelectionError, StoreAwayError, remedy_of
from nas.jobs.run.run_options import RunOptions
from nas.plugins.parts import has, install
from nas.results.export.format_names import FORMATS, ONNX
from supernets.files import check_regular

if TYPE_CHECKING:
    from nas.engine.store.run_facts import Kind
    from nas.jobs.resolve.resolved_job import ResolvedJob


def loaded_job(
    path: Path, runs: Path, *, kind: Kind | None, replay: str | None = None, inline: bool = False
) -> ResolvedJob:
    """The job of a file, whose names and paths exist: found before anything is imported that takes longer.

    Args:
        kind: the kind of the run that the command starts or plans; None for a command that does not train.
    """
    job = nas.jobs.ResolvedJob(nas.load_job(path), RunsFolder(runs), str(path))
    nas.jobs.check_references(job, replay=replay)
    if kind is not None:
        nas.jobs.check_training(job, kind, inline=inline)
    return job


def opened_run(runs: Path, run: str) -> nas.Run:
    """A run, for reading; `UnknownNameError` where there is none, before anything is imported that takes longer."""
    RunsFolder(runs).get(run)
    return nas.Run.open(RunsFolder(runs), run)


def read_text(path: Path, *, hint: str = "") -> str:
    """The text of a user's file.

    Args:
        hint: ends the message where it cannot be read.
    """
    try:
        check_regular(path)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise JobError(f"{path}: cannot be read: {why}{hint}", code="file.not-readable") from None


def check_choice(
    run: nas.Run, select: str | None, index: int | None, *, largest: bool = False
) -> nas.results.Point | None:
    """The network of a run that is selected, found before anything is imported that takes longer.

    None for a training, of which the limits alone are checked: its networks are in its checkpoint.

    Args:
        largest: whether a training's largest network is selected without limits.
    """
    nas.jobs.stored_job(run)  # raises where the run's job file is missing or damaged
    if run.kind == "training" and select is not None:
        if "latency_ms" not in select:  # whose profiles are not read yet
            nas.results.parse_cost_limits(select)
    elif run.kind != "training" or index is not None or not largest:
        return nas.results.choose(run.report, select, index)
    return None


def check_resumable(runs: Path, run: str, *, evaluations: str | None, minutes: str | None, retry_failed: bool) -> None:
    """Raises `NasError` for a run that cannot continue so: before anything is imported that takes longer."""
    opened = nas.engine.StoredRun.open(RunsFolder(runs), run)
    more = nas.engine.Resumption(evaluations, minutes, retry_failed=retry_failed)
    if nas.engine.is_held(opened.folder):
        return  # the driver says so
    nas.jobs.stored_job(opened)  # raises where the run's job file is missing or damaged
    # A driver brings the tables up to date, and waits for a database server.
    with suppress(OutdatedStoreError, StoreAwayError), opened.store() as store:
        nas.engine.check_ended(opened.folder, store, more)
        if more:
            more.check(store, run)


def check_one_choice(select: str | None, index: int | None, knee: bool = False) -> None:
    """Raises `SelectionError` if a network is selected in more than one way."""
    if (select is not None) + (index is not None) + knee > 1:
        raise SelectionError("--select, --index and --knee exclude each other; give one", code="selection.ambiguous")


def check_format(format: str, *, with_preprocessing: bool) -> None:
    """Raises `BadParameter` for a format of exports that is none, or that has no graph to preprocess in."""
    if format not in FORMATS:
        raise typer.BadParameter(f"--format {format}: expected one of {', '.join(FORMATS)}")
    if format != ONNX and with_preprocessing:
        raise typer.BadParameter("--with-preprocessing is for --format onnx: networks of other formats take tensors")


def no_collector() -> None:
    """Turns garbage collection off for a short command, which loads many objects and then ends.

    Call it before modules are loaded.
    """
    gc.freeze()
    gc.set_threshold(1_000_000)
    atexit.register(gc.freeze)


@contextmanager
def driving(
    runs: Path,
    *,
    inline: bool = False,
    address: str | None = None,
    replay: str | None = None,
    store: str | None = None,
    log_to: Sequence[str] | None = None,
    accept_plugin_versions: bool = False,
    interruption_note: str = "all finished measurements are kept",
) -> Iterator[RunOptions]:
    """Options of a driver that shows progress; SIGTERM interrupts it like Ctrl-C, and the run can be resumed.

    Args:
        interruption_note: Text that is printed after an interruption; "" prints none.
    """
    if address is not None:
        check_address(address)
    if store is not None:
        nas.engine.parse_url(store)
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "subnet-nas")
    INTERRUPTION.handle(signal.SIGINT, signal.SIGTERM)
    # Ray reports dead workers on stdout, which is reserved for data.
    try:
        with (
            redirect_stdout(sys.stderr),
            nas.engine.ConsoleProgress() as console,
            nas.engine.open_loggers(log_to or (), console.note, experiment=experiment) as loggers,
        ):
            observer = CompositeObserver([console, *loggers, INTERRUPTION])
            yield RunOptions(
                RunsFolder(runs),
                inline=inline,
                address=address,
                replay=replay,
                store=store,
                observer=observer,
                accept_plugin_versions=accept_plugin_versions,
                is_command=True,
            )
    except KeyboardInterrupt as interruption:
        remedy = remedy_of(interruption)
        if interruption_note and remedy is not None:
            print(interruption_note, file=sys.stderr)
        if remedy is not None:
            print(f"next: {remedy_text(remedy, runs)}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def finish(run: nas.Run, as_json: bool) -> None:
    """Prints the result of a run: the training, the improvement by fine-tuning, or the front and its plots."""
    if run.kind == "training":
        training = nas.engine.training_json(run)
        return print_json(training) if as_json else print_training(training)
    if nas.runs.is_finetuning(run):
        return _print_finetuning(run, as_json)
    before = time.perf_counter()
    report = run.report
    plots = has("plots")
    paths = run.plot() if plots else []
    if not plots:
        again = f"{install('plots')}, then {run_command('plot', run.id, run.runs.root)}"
        print(f"no plots were made, since their part is not installed; for plots: {again}", file=sys.stderr)
    usage = run.usage
    usage["time"]["report"] = time.perf_counter() - before
    if as_json:
        return print_json({**nas.results.search_json(report), "plots": [str(path) for path in paths], "usage": usage})
    print_report(run, report)
    print_usage(usage)
    for path in paths:
        print(path)
    if not report.front:
        show = run_command("show", run.id, run.runs.root)
        return print(f'next: {show} --select "LIMITS" (to relax the limits), or change the job')
    return print(f"next: {run_command('export', run.id, run.runs.root)}")


def _print_finetuning(run: nas.Run, as_json: bool) -> None:
    improvement = nas.runs.improvement_of(run)
    origin = nas.Run.open(run.runs, improvement.of.run)
    report = origin.report if origin.kind == "search" else None
    if as_json:
        stored_finetuning = next(finetuning for finetuning in origin.finetunings(report) if finetuning.run == run.id)
        record = replace(
            stored_finetuning, improvement=improvement
        ).to_json()  # missing if the original run is a training
        search = nas.results.search_json(run.report)
        return print_json({**search, "gain": improvement.to_json(), "finetuning": record})
    if report is not None:
        print_report(origin, report)
        print()
    print_improvement(run.id, improvement)
    if report is not None:
        print(f"plot it with the front: {run_command('plot', origin.id, origin.runs.root)}")
    return print(f"next: {run_command('export', run.id, run.runs.root)}") if improvement.improved else None
