"""Commands about the installation: doctor, upgrade, plugins."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Annotated

import typer

import nas.cli.doctor_checks
import nas.engine
import nas.jobs
from nas.cli.app import DEFAULT_RUNS, Address, Json, Runs, Token, TokenFile, app, option, server_client
from nas.cli.doctor_checks.finding import State
from nas.cli.output import print_json, print_list, print_table
from nas.engine.formatting import counted
from nas.engine.store.folder import RunsFolder
from nas.errors import RunHeldError, StoreError


@app.command(epilog="Example: nas doctor")
def doctor(
    runs: Runs = DEFAULT_RUNS,
    address: Address = None,
    jobs_url: Annotated[str | None, option("--jobs-url", help="Job server of that cluster, http://HOST:8265.")] = None,
    server: Annotated[str | None, option("--server", envvar="NAS_SERVER", help="Also check this server.")] = None,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Check the installation, the machine and the runs.

    Prints problems with their remedies, also of a Ray cluster and of a server; exit code 1 if anything is wrong.
    """
    with nullcontext() if server is None else server_client(server, token, token_file) as client:
        targets = nas.cli.doctor_checks.Targets(RunsFolder(runs), os.environ, address, jobs_url, client)
        findings = list(nas.cli.doctor_checks.examine(targets))
    if as_json:
        print_json([finding.to_json() for finding in findings])
    else:
        labels = {State.OK: "ok", State.WARNING: "warning", State.WRONG: "WRONG"}
        rows = [[labels[f.state], f.check, f.observation, f.remedy] for f in findings]
        print_table(["", "check", "result", "remedy"], rows)
        counts = [sum(f.state is state for f in findings) for state in (State.WRONG, State.WARNING)]
        print(f"{counts[0]} wrong, {counted(counts[1], 'warning')}" if any(counts) else "no problems found")
    if any(f.state is State.WRONG for f in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: nas upgrade --runs runs")
def upgrade(runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """Upgrade the databases of runs of earlier versions.

    Exit code 1 unless all are up to date afterwards.
    """
    result_by_run: dict[str, str] = {}
    failed = False
    RunsFolder(runs).check_exists()
    for run in RunsFolder(runs).list():
        try:
            result_by_run[run.id] = "brought up to date" if nas.engine.upgrade_store(run) else "is up to date"
        except RunHeldError:
            result_by_run[run.id] = "left to its live driver"
        except StoreError as error:
            result_by_run[run.id], failed = str(error), True
    if as_json:
        print_json(result_by_run)
    else:
        print_table(["run", "result"], [[run, result] for run, result in result_by_run.items()])
    if failed:
        raise typer.Exit(1)


@app.command(epilog="Example: nas plugins")
def plugins(as_json: Json = False) -> None:
    """List the plug-ins of installed packages.

    Each is loaded, and found to have what its kind needs. A job names one by its short name, or any class as module:Class.
    """
    installed = nas.jobs.installed_plugins(loaded=True)
    rows = [
        [p.kind, p.name, p.target, f"{p.package} {p.version}".strip(), "no" if p.error else "yes"] for p in installed
    ]
    header = ["kind", "name", "class", "package", "loads"]
    empty_text = "no installed package registers a plug-in (entry points of the groups subnet_nas.search, ...)"
    print_list(as_json, [plugin.to_json() for plugin in installed], header, rows, empty_text=empty_text)
    for plugin in installed:
        if plugin.error and not as_json:
            print(f"{plugin.name}: {plugin.error}")
