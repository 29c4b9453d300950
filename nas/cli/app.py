"""The Typer application, the options that several commands share, and the client of the selected server."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

import nas.service
from nas.cli.completion import export_formats, run_ids, selections
from nas.cli.panels import CommandGroup, NotingGroup, note_runs
from nas.engine.store.folder import DEFAULT_ROOT
from nas.errors import ServiceError
from nas.results.export.format_names import FORMATS
from supernets.files import check_regular

if TYPE_CHECKING:
    from nas.service.api.schemas import Artifact, RunSummary

# Heavy modules are imported inside the commands, which keeps `nas --help` fast.

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Neural architecture search: from a job file to the Pareto front of subnetworks measured on your hardware, "
    "and the one you choose as verified ONNX.",
    epilog="Example: nas init digits-cnn && nas search digits-cnn.yaml",
)

option = partial(typer.Option, show_default=False)
argument = partial(typer.Argument, show_default=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]


def _folder(text: str) -> Path:
    if not text:
        raise typer.BadParameter("an empty path; expected that of a folder, and . is the current one")
    return Path(text)


Runs = Annotated[
    Path,
    typer.Option(
        "--runs",
        envvar="NAS_RUNS",
        parser=_folder,
        metavar="<path>",
        callback=note_runs,
        help="The folder of the runs.",
    ),
]
Job = Annotated[Path, argument(help="A job file; `nas init` makes one.")]
RunId = Annotated[str, argument(help="A run; `nas runs` lists them.", autocompletion=run_ids)]
AcceptPluginVersions = Annotated[
    bool,
    typer.Option(
        "--accept-plugin-versions", help="Continue though the run's plug-ins are installed in other versions now."
    ),
]
Inline = Annotated[bool, typer.Option("--inline", help="Score in this process, without Ray.")]
Address = Annotated[str | None, option("--address", help="A running Ray cluster to join.")]
Store = Annotated[
    str | None,
    option(
        "--store",
        envvar="NAS_STORE",
        help="The URL of a PostgreSQL database for runs, in place of a file each: postgresql+psycopg://...",
    ),
]
Replay = Annotated[
    str | None,
    option("--replay", help="Reuse the measurements of this run of the same supernet.", autocompletion=run_ids),
]
Select = Annotated[
    str | None,
    option(
        "--select",
        help='The most accurate measured network within limits, e.g. "latency_ms<=1.0"; the limits replace the job\'s '
        "constraints. For a training of nested networks: the largest within limits. network=17: a network by its number.",
        autocompletion=selections,
    ),
]
Format = Annotated[
    str,
    option(
        "--format",
        help="; ".join(f"{name}: {text}" for name, text in FORMATS.items()) + ".",
        autocompletion=export_formats,
    ),
]
Index = Annotated[int | None, option("--index", help="A member of the run's front by its number, from 0.")]
Knee = Annotated[bool, typer.Option("--knee", help="The knee of the front (the default).")]
WithPreprocessing = Annotated[
    bool,
    typer.Option(
        "--with-preprocessing",
        help="Let the graph take decoded images of any size, and resize and normalise them itself.",
    ),
]
LogTo = Annotated[
    list[str] | None,
    option(
        "--log-to",
        envvar="NAS_LOG_TO",
        help="Also log metrics to tensorboard:FOLDER, mlflow:URI, wandb:PROJECT or trackio:PROJECT; may be repeated.",
    ),
]
ServerRunId = Annotated[str, argument(metavar="RUN", help="A run; `nas status` lists them.")]
Server = Annotated[
    str, typer.Option("--server", envvar="NAS_SERVER", help="The URL of a server; `nas serve` starts one.")
]
OnServer = Annotated[
    str | None, option("--server", help="Do it on this server, for one of its runs (NAS_SERVER is ignored here).")
]
Token = Annotated[
    str | None,
    option(
        "--token", help="The token for the server. Other users of this machine can see command lines: prefer NAS_TOKEN."
    ),
]
TokenFile = Annotated[Path | None, option("--token-file", help="A file with the token.")]
Decorator = Callable[[Callable[..., None]], Callable[..., None]]
DEFAULT_RUNS = DEFAULT_ROOT
DEFAULT_SERVER = "http://127.0.0.1:8700"


def command_group(name: str, help: str, *, example: str) -> typer.Typer:
    """A group of commands of the application, which prints its help where no command is given."""
    group = typer.Typer(cls=NotingGroup, no_args_is_help=True, help=help, epilog=f"Example: {example}")
    app.add_typer(group, name=name)
    return group


@contextmanager
def server_client(server: str, token: str | None, token_file: Path | None) -> Iterator[nas.service.NasClient]:
    """A client with the token from the option, the file or the environment."""
    if token is not None and token_file is not None:
        raise ServiceError("--token and --token-file exclude each other; give one", code="service.invalid-token")
    if token_file is not None:
        try:
            check_regular(token_file)
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            problem = f"--token-file {token_file}: cannot be read; expected a file with a token"
            raise ServiceError(problem, code="service.invalid-token") from None
        if not token:
            raise ServiceError(f"--token-file {token_file}: is empty", code="service.invalid-token")
    with nas.service.NasClient(server, token or os.environ.get("NAS_TOKEN") or None) as client:
        yield client


def print_change(artifact: Artifact) -> None:
    """Prints the status of a server's artifact that waits or is being made, on stderr."""
    if artifact.status in ("queued", "running"):
        print(f"{artifact.artifact}: {artifact.status}", file=sys.stderr)


def on_server(*local_options: str, server: Any = OnServer, default: str | None = None) -> Decorator:
    """A decorator of commands on runs of this machine, or of a server: their first argument is its client, or None.

    Args:
        local_options: Names of the command's parameters for this machine alone.
        server: The option that chooses a server.
        default: The server where none is chosen; None for this machine.
    """
    annotations = {"context": typer.Context, "server": server, "token": Token, "token_file": TokenFile}
    options = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation)
        for name, annotation in annotations.items()
    ]
    options[1] = options[1].replace(default=default)

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, localns={"NasClient": Any}, include_extras=True)
        _, *declared = inspect.signature(command).parameters.values()
        parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in declared]

        @wraps(command)
        def with_client(
            context: typer.Context, server: str | None, token: str | None, token_file: Path | None, **arguments: Any
        ) -> None:
            _check_place(context, server, local_options)
            with nullcontext() if server is None else server_client(server, token, token_file) as client:
                command(client, **arguments)

        signature = inspect.Signature([*parameters[:-1], *options, parameters[-1]])  # --json comes last
        with_client.__signature__ = signature  # type: ignore[attr-defined]  # Typer reads it
        with_client.__annotations__ = {name: about.annotation for name, about in signature.parameters.items()}
        return with_client

    return decorated


with_server_client = on_server(server=Server, default=DEFAULT_SERVER)
"""Decorates commands on a server, whose client they get as their first argument."""


def _check_place(context: typer.Context, server: str | None, local_options: Sequence[str]) -> None:
    """Raises `BadParameter` if an option is given that is for runs of the other place: this machine, or a server."""
    for name in ("token", "token_file") if server is None else local_options:
        origin = context.get_parameter_source(name)
        if origin is not None and origin.name == "COMMANDLINE":
            place = "a server" if server is None else "this machine"
            raise typer.BadParameter(f"--{name.replace('_', '-')} is for runs on {place}")


def status_text(summary: RunSummary) -> str:
    """The status of a run and its position in the queue, as all commands print it."""
    if summary.status == "queued" and summary.queue_position is not None:
        return f"queued, number {summary.queue_position}"
    return summary.status
