"""Commands that run the service: serve, token."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Annotated, Literal

import typer

import nas.service
from nas.cli.app import DEFAULT_RUNS, Json, Runs, Store, app, argument, command_group, option
from nas.cli.output import print_list, print_result
from nas.cli.running import read_text
from nas.engine.formatting import moment_text
from nas.engine.store.folder import RunsFolder
from nas.errors import NasError
from nas.plugins.parts import require
from nas.service.people import Role
from nas.service.server_lock import exclusive
from nas.service.settings import Limits, ServiceSettings, Webhook
from nas.service.sign_on.settings import RoleRule, SignOnSettings

token = command_group("token", "Access tokens for clients of a server.", example="nas token make ada")

TokenName = Annotated[str, argument(help="The owner of the token.")]


@app.command(epilog="Example: nas serve --runs runs --port 8700")
def serve(
    runs: Runs = DEFAULT_RUNS,
    host: Annotated[
        str,
        typer.Option("--host", help="The address to listen on; clients of any but a loopback address need a token."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 selects a free port.")] = 8700,
    name: Annotated[
        list[str] | None, option("--name", help="A host name by which clients reach the server, e.g. through a proxy.")
    ] = None,
    root_path: Annotated[
        str, option("--root-path", help="The path below which a proxy has the server, such as /nas.")
    ] = "",
    certificate: Annotated[Path | None, option("--certificate", help="TLS certificate, a PEM file.")] = None,
    key: Annotated[Path | None, option("--key", help="Its private key, a PEM file.")] = None,
    public_url: Annotated[
        str | None,
        option(
            "--public-url", help="The address at which browsers reach the server: for single sign-on and notifications."
        ),
    ] = None,
    oidc_issuer: Annotated[
        str | None, option("--oidc-issuer", help="The URL of an OpenID provider, with which people sign in.")
    ] = None,
    oidc_client: Annotated[
        str, option("--oidc-client", help="The id of this server at the provider; its secret: NAS_OIDC_SECRET.")
    ] = "",
    oidc_secret_file: Annotated[
        Path | None, option("--oidc-secret-file", help="A file with the secret, in place of NAS_OIDC_SECRET.")
    ] = None,
    oidc_person: Annotated[
        str, typer.Option("--oidc-person", help="The claim with a person's name, who owns runs by it.")
    ] = "preferred_username",
    oidc_role: Annotated[
        list[str] | None,
        option(
            "--oidc-role",
            metavar="CLAIM=VALUE:ROLE",
            help="A role of those who have a value in a claim; without any, all who sign in are members.",
        ),
    ] = None,
    oidc_hours: Annotated[
        float, typer.Option("--oidc-hours", min=0.1, max=720, help="Hours until a person has to sign in again.")
    ] = 12,
    oidc_trust_email: Annotated[
        bool, typer.Option("--oidc-trust-email", help="Accept the addresses of a provider without email_verified.")
    ] = False,
    data_root: Annotated[
        list[Path] | None,
        option("--data-root", exists=True, file_okay=False, help="A folder whose data sets jobs may use."),
    ] = None,
    allow_plugin: Annotated[
        list[str] | None,
        option("--allow-plugin", metavar="MODULE:CLASS", help="A class that submitted jobs may name as a plug-in."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Hide from each person what belongs to others; administrators see all.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=100, help="Number of concurrent runs.")] = 1,
    running_per_person: Annotated[
        int | None,
        typer.Option("--running-per-person", min=1, help="Of them, those of one person; no limit by default."),
    ] = None,
    waiting_per_person: Annotated[
        int, typer.Option("--waiting-per-person", min=1, max=200, help="Runs of one person that may wait.")
    ] = 50,
    address: Annotated[
        str | None, option("--address", help="Head of an existing Ray cluster, HOST:PORT, instead of an own one.")
    ] = None,
    jobs_url: Annotated[
        str | None, option("--jobs-url", help="Job server of that cluster, e.g. http://127.0.0.1:8265.")
    ] = None,
    store: Store = None,
    task_minutes: Annotated[
        float, typer.Option("--task-minutes", min=0.1, max=1440, help="Time limit of an export, and of a measurement.")
    ] = 30,
    data_gib: Annotated[
        float, typer.Option("--data-gib", min=0, help="Most space of all uploaded data sets together, in GiB.")
    ] = 20,
    upload_mib: Annotated[
        int, typer.Option("--upload-mib", min=1, max=10**6, help="Most size of one uploaded file, in MiB.")
    ] = 256,
    webhook: Annotated[
        str | None, option("--webhook", metavar="URL", help="An address that is notified of the end of each run.")
    ] = None,
    webhook_secret_file: Annotated[
        Path | None, option("--webhook-secret-file", help="A file with the secret that signs these notifications.")
    ] = None,
    private_webhooks: Annotated[
        bool, typer.Option("--private-webhooks", help="Let submissions name webhooks in private networks.")
    ] = False,
    keep_runs_days: Annotated[
        float | None,
        option(
            "--keep-runs-days", min=1, help="Delete submitted runs so long after their end; those tagged keep stay."
        ),
    ] = None,
    keep_logs_days: Annotated[
        float | None,
        option("--keep-logs-days", min=1, help="Delete the logs of submitted runs so long after their end."),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option("--log-level", help="Log level on stderr.")
    ] = "info",
    stop_ray: Annotated[
        bool,
        typer.Option(
            "--stop-ray", help="Only stop the Ray cluster that servers of this folder started, with its jobs."
        ),
    ] = False,
) -> None:
    """Serve the REST API and the web pages.

    Submitted jobs run in processes of their own and survive the server.
    """
    if stop_ray:
        return _stop_ray(runs)
    require("service", "nas serve")
    require("ray", "nas serve")
    sign_on = None
    if oidc_issuer is not None:
        sign_on = SignOnSettings(
            oidc_issuer,
            oidc_client,
            public_url or "",
            _client_secret(oidc_secret_file),
            oidc_person,
            tuple(RoleRule.parse(text) for text in oidc_role or ()),
            oidc_hours * 3600,
            oidc_trust_email,
        )
        name = [*(name or ()), sign_on.host]
    settings = ServiceSettings(
        RunsFolder(runs.absolute()),
        limits=Limits(
            task_s=60 * task_minutes,
            data_bytes=int(data_gib * 2**30),
            upload_bytes=upload_mib * 2**20,
            archive_bytes=max(Limits().archive_bytes, 2 * upload_mib * 2**20),
            queued_of_person=waiting_per_person,
        ),
        host=host,
        port=port,
        names=tuple(name or ()),
        root_path=root_path.rstrip("/"),
        certificate=certificate,
        key=key,
        sign_on=sign_on,
        data_roots=tuple(path.absolute() for path in data_root or ()),
        allowed_plugins=tuple(allow_plugin or ()),
        private=private,
        jobs_at_once=jobs,
        store=store,
        running_per_person=running_per_person,
        ray_address=address,
        ray_jobs_url=jobs_url,
        webhook=_webhook(webhook, webhook_secret_file),
        private_webhooks=private_webhooks,
        public_url=(public_url or "").rstrip("/"),
        keep_runs_days=keep_runs_days,
        keep_logs_days=keep_logs_days,
    )
    nas.service.log_to_stderr(log_level)
    return nas.service.serve(settings, lambda url: print(url, flush=True))


def _client_secret(file: Path | None) -> str | None:
    """The secret of the server at the provider, from a file or the environment; None for a public client."""
    if file is None:
        return os.environ.get("NAS_OIDC_SECRET") or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        text = f"--oidc-secret-file {file}: cannot be read; expected a file with the secret of the client"
        raise NasError(text, code="server.settings-invalid") from None


def _webhook(url: str | None, secret_file: Path | None) -> Webhook | None:
    """The server's webhook; None without one."""
    if url is None and secret_file is None:
        return None
    if url is None or secret_file is None:
        raise typer.BadParameter("a webhook needs both --webhook and --webhook-secret-file; got one of them")
    return nas.service.checked_webhook(url, read_text(secret_file).strip(), allow_private=True)


def _stop_ray(runs: Path) -> None:
    settings = ServiceSettings(RunsFolder(runs.absolute()))
    ended = False
    if settings.folder.is_dir():
        with exclusive(settings):  # a server that runs would start Ray again
            ended = nas.service.end_head(settings.folder)
    print("stopped Ray; runs continue when a server starts it again" if ended else "Ray was not running")


@token.command("make", epilog="Example: nas token make ada --days 30")
def make_token(
    name: TokenName,
    runs: Runs = DEFAULT_RUNS,
    days: Annotated[float, typer.Option("--days", min=0, max=36_500, help="Days until it expires; 0 for never.")] = 90,
    role: Annotated[
        Role,
        option(
            "--role", help="A reader changes nothing, a member own things, an administrator all; member by default."
        ),
    ] = Role.MEMBER,
    as_json: Json = False,
) -> None:
    """Create a token and print it once; only its digest is stored."""
    secret = _tokens(runs).make(name, lifetime_s=days * 86400 or None, role=role)
    _record(runs, f"make {role} token", name)
    print_result(as_json, {"name": name, "token": secret, "days": days, "role": role}, secret)


@token.command("list", epilog="Example: nas token list")
def list_tokens(runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """List the tokens by owner, without their values."""
    now, tokens = time(), _tokens(runs).entries()
    rows, cells = [], []
    for t in tokens:
        times = {"created": _iso(t.created), "expires": _iso(t.expires)}
        rows.append({"name": t.name, "role": str(t.role), **times, "valid": t.valid(now)})
        shown = [_clock(t.created), _clock(t.expires) or "never", "yes" if t.valid(now) else "no"]
        cells.append([t.name, str(t.role), *shown])
    empty_text = "no tokens; make one with: nas token make NAME"
    print_list(as_json, rows, ["token", "role", "made", "expires", "valid"], cells, empty_text=empty_text)


@token.command("revoke", epilog="Example: nas token revoke ada")
def revoke_token(name: TokenName, runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """Revoke a token; a running server rejects it from now on."""
    _tokens(runs).revoke(name)
    _record(runs, "revoke token", name)
    print_result(as_json, {"revoked": name}, f"revoked {name}")


def _tokens(runs: Path) -> nas.service.Tokens:
    return nas.service.Tokens(ServiceSettings(RunsFolder(runs)).tokens_file)


def _record(runs: Path, action: str, name: str) -> None:
    """Writes into the audit log what the user of the operating system did to a token."""
    log = nas.service.AuditLog(ServiceSettings(RunsFolder(runs)).audit_file)
    log.record(getpass.getuser(), str(Role.ADMINISTRATOR), action, name)


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else moment_text(datetime.fromtimestamp(seconds, UTC))
