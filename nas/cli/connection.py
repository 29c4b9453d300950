"""The options that select a server, and the client for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import option

if TYPE_CHECKING:
    from nas.api.schemas import RunSummary
    from nas.client import NasClient

DEFAULT_SERVER = "http://127.0.0.1:8700"

Server = Annotated[
    str, typer.Option("--server", envvar="NAS_SERVER", help="The URL of a server; `nas serve` starts one.")
]
Token = Annotated[
    str | None,
    option(
        "--token", help="The token for the server. Other users of this machine can see command lines: prefer NAS_TOKEN."
    ),
]
TokenFile = Annotated[Path | None, option("--token-file", help="A file with the token.")]


@contextmanager
def server_client(server: str, token: str | None, token_file: Path | None) -> Iterator[NasClient]:
    """A client with the token from the option, the file or the environment."""
    from nas.client import NasClient
    from nas.errors import ServiceError

    if token is not None and token_file is not None:
        raise ServiceError("--token and --token-file exclude each other; give one", code="service.invalid-token")
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ServiceError(
                f"--token-file {token_file}: cannot be read; expected a file with a token", code="service.invalid-token"
            ) from None
        if not token:
            raise ServiceError(f"--token-file {token_file}: is empty", code="service.invalid-token")
    with NasClient(server, token or os.environ.get("NAS_TOKEN") or None) as client:
        yield client


def status_text(summary: RunSummary) -> str:
    """The status of a run and its position in the queue, as all commands print it."""
    if summary.status == "queued" and summary.queue_position is not None:
        return f"queued, number {summary.queue_position}"
    return summary.status
