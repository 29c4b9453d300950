"""Hidden commands that the service runs: drive, task."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

import nas.engine
import nas.runs
from nas.cli.app import DEFAULT_RUNS, Address, Inline, LogTo, RunId, Runs, app
from nas.cli.running import driving
from nas.service.jobs.task_process import run_task


@app.command(hidden=True)
def drive(
    run: RunId,
    runs: Runs = DEFAULT_RUNS,
    inline: Inline = False,
    address: Address = None,
    kind: Annotated[Literal["search", "training"], typer.Option(help="The kind of run to create.")] = "search",
    evaluations: Annotated[str | None, typer.Option(help="A new total of evaluations, or +N.")] = None,
    minutes: Annotated[str | None, typer.Option(help="A new total of minutes, or +N.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Measure again what failed.")] = False,
    extension: Annotated[
        str, typer.Option(help="Id of these changes; changes with the same id are applied once.")
    ] = "",
    log_to: LogTo = None,
) -> None:
    """Drive a queued or abandoned run from its current state; do nothing if it has ended."""
    with driving(runs, inline=inline, address=address, log_to=log_to) as options:
        more = nas.engine.Resumption(evaluations, minutes, retry_failed=retry_failed, id=extension)
        driven = nas.runs.drive(run, options, kind=kind, more=more)
        with driven.store() as store:
            reason = store.reason()
            options.observer.note(f"{run}: {store.status()}" + (f"; {reason}" if reason else ""))


@app.command(hidden=True)
def task(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, after --.")],
    result: Annotated[Path, typer.Option(help="The file for its output and exit code.")],
    time_limit: Annotated[float, typer.Option(help="Time limit in seconds.")] = 3600.0,
) -> None:
    """Run a command and write its output and exit code to a file."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    outcome = run_task(result, command, time_limit_s=time_limit)
    if outcome.exit_code != 0:
        typer.echo(outcome.reason, err=True)
    raise typer.Exit(0 if outcome.exit_code == 0 else 1)
