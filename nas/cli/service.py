"""Commands that run the service: serve, token."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nas.cli.app import DEFAULT_RUNS, Json, Runs, app
from nas.cli.output import print_json, print_table
from nas.cli.running import folder

if TYPE_CHECKING:
    from nas.service.http.tokens import Tokens

token = typer.Typer(no_args_is_help=True, help="Tokens that clients of a server show.")

TokenName = Annotated[str, typer.Argument(help="Whose token it is.", show_default=False)]


@app.command()
def serve(
    runs: Runs = DEFAULT_RUNS,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8700,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name", help="A name by which clients reach the server, through a proxy too.", show_default=False
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="A PEM file, for TLS.", show_default=False)
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="The certificate's PEM file.", show_default=False)] = None,
    data_root: Annotated[
        list[Path] | None,
        typer.Option(
            "--data-root", exists=True, file_okay=False, show_default=False,
            help="A folder below which jobs may name data sets.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=100, help="Runs that are driven at the same time.")] = 1,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="A Ray cluster's head, HOST:PORT, in place of one of its own.", show_default=False
        ),
    ] = None,
    jobs_url: Annotated[
        str | None,
        typer.Option("--jobs-url", help="That cluster's job server, e.g. http://127.0.0.1:8265.", show_default=False),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option("--log-level", help="Of the lines on stderr.")
    ] = "info",
    stop_ray: Annotated[
        bool,
        typer.Option(
            "--stop-ray", help="Serve nothing: end the Ray that servers of this folder left running, and its jobs."
        ),
    ] = False,
) -> None:  # fmt: skip
    """Serve the API and the pages; submitted jobs run beside the server, and outlive it."""
    if stop_ray:
        return _stop_ray(runs)
    from nas.service.http.logs import log_to_stderr
    from nas.service.http.server import serve as serve_runs
    from nas.service.settings import ServiceSettings

    settings = ServiceSettings(
        folder(runs.absolute()),
        host=host,
        port=port,
        names=tuple(name or ()),
        certificate=certificate,
        key=key,
        data_roots=tuple(path.absolute() for path in data_root or ()),
        jobs_at_once=jobs,
        ray_address=address,
        ray_jobs_url=jobs_url,
    )
    log_to_stderr(log_level)
    return serve_runs(settings, lambda url: print(url, flush=True))


def _stop_ray(runs: Path) -> None:
    from nas.service.jobs.ray_head import end_head
    from nas.service.settings import ServiceSettings

    ended = end_head(ServiceSettings(folder(runs.absolute())).folder)
    print("ended Ray; runs go on where they were once a server starts it again" if ended else "no Ray was running")


app.add_typer(token, name="token")


@token.command("make")
def make_token(
    name: TokenName,
    runs: Runs = DEFAULT_RUNS,
    days: Annotated[float, typer.Option("--days", min=0, max=36_500, help="How long it is valid; 0 is for ever.")] = 90,
    as_json: Json = False,
) -> None:
    """Make a token, and print it: it is shown this once, and kept as a digest."""
    made = _tokens(runs).make(name, lifetime_s=days * 86400 or None)
    if as_json:
        return print_json({"name": name, "token": made, "days": days})
    return print(made)


@token.command("list")
def list_tokens(runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """List the tokens that were made, without what they are."""
    from time import time

    now, kept = time(), _tokens(runs).kept()
    rows = [
        {"name": t.name, "created": _date(t.created), "expires": _date(t.expires), "valid": t.valid(now)} for t in kept
    ]
    if as_json:
        return print_json(rows)
    if not rows:
        return print("no tokens; make one with: nas token make NAME")
    cells = [
        [str(row["name"]), str(row["created"]), str(row["expires"] or "never"), "yes" if row["valid"] else "no"]
        for row in rows
    ]
    return print_table(["token", "made", "expires", "valid"], cells)


@token.command("revoke")
def revoke_token(name: TokenName, runs: Runs = DEFAULT_RUNS) -> None:
    """Revoke a token; a server that runs refuses it from now on."""
    _tokens(runs).revoke(name)
    print(f"revoked {name}")


def _tokens(runs: Path) -> Tokens:
    from nas.service.http.tokens import Tokens
    from nas.service.settings import ServiceSettings

    return Tokens(ServiceSettings(folder(runs)).tokens_file)


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
