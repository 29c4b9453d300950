"""The Typer application and the options that several commands share."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

# Heavy modules are imported inside the commands, which keeps `nas --help` fast.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Neural architecture search: from a job file to the Pareto front of subnetworks measured on your hardware, "
    "and the one you choose as verified ONNX.",
)

option = partial(typer.Option, show_default=False)
argument = partial(typer.Argument, show_default=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]
Runs = Annotated[Path, typer.Option("--runs", envvar="NAS_RUNS", help="The folder of the runs.")]
Job = Annotated[Path, argument(help="A job file; `nas init` makes one.")]
RunId = Annotated[str, argument(help="A run; `nas runs` lists them.")]
Inline = Annotated[bool, typer.Option("--inline", help="Score in this process, without Ray.")]
Address = Annotated[str | None, option("--address", help="A running Ray cluster to join.")]
Store = Annotated[
    str | None,
    option(
        "--store",
        envvar="NAS_STORE",
        help="PostgreSQL database of the run instead of a file: postgresql+psycopg://user@host/database.",
    ),
]
Replay = Annotated[str | None, option("--replay", help="Reuse the measurements of this run of the same supernet.")]
Select = Annotated[
    str | None,
    option(
        "--select",
        help='The most accurate measured network within limits, e.g. "latency_ms<=1.0"; the limits replace the job\'s '
        "constraints. For a training of nested networks: the largest within limits.",
    ),
]
Index = Annotated[int | None, option("--index", help="A member of the front by its number.")]
Knee = Annotated[bool, typer.Option("--knee", help="The knee of the front (the default).")]
LogTo = Annotated[
    list[str] | None,
    option(
        "--log-to", envvar="NAS_LOG_TO", help="Also log metrics to tensorboard:FOLDER or mlflow:URI; may be repeated."
    ),
]
DEFAULT_RUNS = Path("runs")
INTERRUPTED = 130
"""The exit code after Ctrl-C."""
