"""The Typer application and the options that several commands share."""

from __future__ import annotations

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

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]
Runs = Annotated[Path, typer.Option("--runs", envvar="NAS_RUNS", help="The folder of the runs.")]
Job = Annotated[Path, typer.Argument(help="A job file; `nas init` makes one.", show_default=False)]
RunId = Annotated[str, typer.Argument(help="A run; `nas runs` lists them.", show_default=False)]
Inline = Annotated[bool, typer.Option("--inline", help="Score in this process, without Ray.")]
Address = Annotated[str | None, typer.Option("--address", help="A running Ray cluster to join.", show_default=False)]
Store = Annotated[
    str | None,
    typer.Option(
        "--store", envvar="NAS_STORE", show_default=False,
        help="Store the run in this PostgreSQL database, postgresql+psycopg://user@host/database, instead of a file.",
    ),
]  # fmt: skip
Replay = Annotated[
    str | None,
    typer.Option("--replay", help="Reuse the measurements of this run of the same supernet.", show_default=False),
]
Select = Annotated[
    str | None,
    typer.Option(
        "--select",
        help='The most accurate measured network within limits, e.g. "latency_ms<=1.0"; the limits replace the job\'s '
        "constraints. For a training of nested networks: the largest within limits.",
        show_default=False,
    ),
]
Index = Annotated[int | None, typer.Option("--index", help="A member of the front by its number.", show_default=False)]
Knee = Annotated[bool, typer.Option("--knee", help="The knee of the front (the default).")]
LogTo = Annotated[
    list[str] | None,
    typer.Option(
        "--log-to", envvar="NAS_LOG_TO", show_default=False,
        help="Also log metrics to tensorboard:FOLDER or mlflow:URI; may be repeated.",
    ),
]  # fmt: skip
DEFAULT_RUNS = Path("runs")
INTERRUPTED = 130
"""The exit code after Ctrl-C."""
