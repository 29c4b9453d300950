"""Validation accuracy of a front's members before and after `nas finetune`.

    python -m tests.benchmarks.finetune_front RUN [--runs runs] [--members 5] [--epochs 3]

Members are spread over the front by latency, or by cost. The command itself fine-tunes each in a run of its own; finished runs
of a previous call are reused, so that an interrupted call continues.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from nas import open_run
from nas.engine.store.folder import RunsFolder
from nas.jobs.schema import load_job

console = Console()


def main(
    run: str,
    runs: Path = Path("runs"),
    members: int = 5,
    epochs: int = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fine-tunes the members and prints their improvements."""
    front = open_run(run, runs).front
    chosen = np.unique(np.linspace(0, len(front) - 1, members).round().astype(int))
    rows = [_finetuned(run, runs, front[i].architecture.key, int(i), epochs) for i in chosen]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("member", "validation before", "after", "gain, points", "kept", title=f"Front of {run}")
    for i, row in zip(chosen, rows, strict=True):
        change = row["validation"]
        margin = f"{100 * change['gain']:+.2f} ± {100 * change['threshold']:.2f}"
        kept = f"epoch {row['best_epoch']} of {row['epochs']}" if row["improved"] else "as it was"
        table.add_row(str(i), f"{change['before']:.2%}", f"{change['after']:.2%}", margin, kept)
    console.print(table)


def _finetuned(run: str, runs: Path, network: str, index: int, epochs: int) -> dict[str, Any]:
    """The improvement of one member, in the JSON of `nas show`."""
    arguments = ["finetune", run, "--index", str(index), "--epochs", str(epochs), "--inline"]
    known = _known(run, runs, network, epochs)
    if known is not None:
        arguments = ["resume", known, "--inline"] if _improvement(known, runs) is None else []
    if arguments:
        console.print(f"nas {' '.join(arguments)}", style="dim")
        done = _nas(*arguments, "--json", runs=runs)
        known = str(json.loads(done)["run"])
    assert known is not None
    found = _improvement(known, runs)
    assert found is not None, f"{known} is finished without an improvement"
    return found


def _known(run: str, runs: Path, network: str, epochs: int) -> str | None:
    """The run of a previous call that fine-tunes this network for these epochs."""
    for folder in RunsFolder(runs).list():
        job = load_job(folder.job_file)
        if (job.supernet.from_, job.supernet.network, job.training.epochs) == (run, network, epochs):
            return str(folder.id)
    return None


def _improvement(run: str, runs: Path) -> dict[str, Any] | None:
    """The improvement of a run; None while it is unfinished."""
    gain: dict[str, Any] | None = json.loads(_nas("show", run, "--json", runs=runs)).get("gain")
    return gain


def _nas(*arguments: str, runs: Path) -> str:
    command = [sys.executable, "-m", "nas.cli", *arguments, "--runs", str(runs)]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return made.stdout


if __name__ == "__main__":
    typer.run(main)
