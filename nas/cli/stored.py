"""Commands about what a server stores: its data sets, hardware profiles, tasks and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import DEFAULT_SERVER, Json, RunThere, Server, Token, TokenFile, app, argument, option, server_client
from nas.cli.hardware import profiles
from nas.cli.output import print_json, print_table
from nas.cli.running import read_text

data = typer.Typer(no_args_is_help=True, help="Data sets that a server stores.", epilog="Example: nas data list")
models = typer.Typer(
    no_args_is_help=True, help="Captured models that a server stores.", epilog="Example: nas models list"
)
tasks = typer.Typer(
    no_args_is_help=True, help="Exports and measurements of a server.", epilog="Example: nas tasks list"
)
exports = typer.Typer(
    no_args_is_help=True, help="Exports that a server stores.", epilog="Example: nas exports list digits-cnn-1"
)
app.add_typer(data, name="data")
app.add_typer(models, name="models")
app.add_typer(tasks, name="tasks")
app.add_typer(exports, name="exports")


@data.command("list", epilog="Example: nas data list")
def list_data(
    server: Server = DEFAULT_SERVER, token: Token = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """List the uploaded data sets."""
    with server_client(server, token, token_file) as client:
        found = client.data_sets()
    if as_json:
        return print_json([one.model_dump(mode="json") for one in found])
    if not found:
        return print(f"no data sets at {server}; add one with: nas data add NAME ARCHIVE.zip")
    rows = [[one.path, str(one.images), str(len(one.classes)), _mib(one.bytes)] for one in found]
    return print_table(["data set", "images", "classes", "MiB"], rows)


@data.command("add", epilog="Example: nas data add garments garments.zip")
def add_data(
    name: Annotated[str, argument(help="The name of the data set.")],
    archive: Annotated[Path, argument(help="A zip archive of images, one folder per class.")],
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Upload a data set of images."""
    with server_client(server, token, token_file) as client:
        made = client.add_data(name, archive)
    if as_json:
        return print_json(made.model_dump(mode="json"))
    return print(
        f"{made.images} images of {len(made.classes)} classes; in the job file:\n"
        f"data: {{name: image-folder, path: {made.path}}}"
    )


@data.command("delete", epilog="Example: nas data delete garments")
def delete_data(
    name: Annotated[str, argument(help="The name of the data set; `nas data list` lists them.")],
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Delete an uploaded data set; ended runs that used it can no longer be resumed or exported."""
    with server_client(server, token, token_file) as client:
        client.delete_data(name)
    _print_deleted(name, as_json)


@models.command("list", epilog="Example: nas models list")
def list_models(
    server: Server = DEFAULT_SERVER, token: Token = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """List the captured models."""
    with server_client(server, token, token_file) as client:
        found = client.models()
    if as_json:
        return print_json([one.model_dump(mode="json") for one in found])
    if not found:
        return print(f"no models at {server}; add one with: nas models add NAME FILE")
    return print_table(["model", "MiB"], [[one.path, _mib(one.bytes)] for one in found])


@models.command("add", epilog="Example: nas models add resnet18 resnet18.capture")
def add_model(
    name: Annotated[str, argument(help="The name of the model.")],
    file: Annotated[Path, argument(help="A file that `nas capture` wrote.")],
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Upload a captured model; nas submit uploads the one that its job names by itself."""
    with server_client(server, token, token_file) as client:
        made = client.add_model(name, file)
    if as_json:
        return print_json(made.model_dump(mode="json"))
    return print(f"in the job file: supernet: {{model: {made.path}}}")


@models.command("delete", epilog="Example: nas models delete resnet18")
def delete_model(
    name: Annotated[str, argument(help="The name of the model; `nas models list` lists them.")],
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Delete a captured model; runs that have begun keep theirs."""
    with server_client(server, token, token_file) as client:
        client.delete_model(name)
    _print_deleted(name, as_json)


@profiles.command("list", epilog="Example: nas profiles list --server http://127.0.0.1:8700")
def list_profiles(
    server: Server = DEFAULT_SERVER, token: Token = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """List the hardware profiles of a server."""
    with server_client(server, token, token_file) as client:
        found = client.profiles()
    if as_json:
        return print_json([one.model_dump(mode="json") for one in found])
    rows = [
        [p.name, str(p.threads), str(p.batch_size), p.provider, p.unavailable and f"not available: {p.unavailable}"]
        for p in found
    ]
    return print_table(["profile", "threads", "batch", "provider", "now"], rows)


@profiles.command("add", epilog="Example: nas profiles add my-board.yaml")
def add_profile(
    file: Annotated[Path, argument(help="The YAML file of a hardware profile.")],
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Add a hardware profile to a server, for jobs that name it."""
    with server_client(server, token, token_file) as client:
        made = client.add_profile(read_text(file))
    if as_json:
        return print_json(made.model_dump(mode="json"))
    warning = f"\nnot available now: {made.unavailable}" if made.unavailable else ""
    return print(f"added {made.name}; in a job file: hardware: [{made.name}]{warning}")


@profiles.command("delete", epilog="Example: nas profiles delete my-board")
def delete_profile(
    name: Annotated[str, argument(help="A profile that was added; `nas profiles list` lists them.")],
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Delete a hardware profile of a server."""
    with server_client(server, token, token_file) as client:
        client.delete_profile(name)
    _print_deleted(name, as_json)


@tasks.command("list", epilog="Example: nas tasks list --all")
def list_tasks(
    all_: Annotated[bool, option("--all", help="Also those that have ended.")] = False,
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List the exports and measurements that wait or run, newest first."""
    with server_client(server, token, token_file) as client:
        found = [task for task in client.tasks() if all_ or task.status in ("queued", "running")]
    if as_json:
        return print_json([task.model_dump(mode="json") for task in found])
    if not found:
        return print(f"no exports or measurements{'' if all_ else ' wait or run'} at {server}")
    return print_table(
        ["task", "of", "status", "submitted", "reason"],
        [[task.task, task.of, task.status, f"{task.submitted:%Y-%m-%d %H:%M}", task.reason] for task in found],
    )


@tasks.command("cancel", epilog="Example: nas tasks cancel TASK")
def cancel_task(
    task: Annotated[str, argument(help="The id of an export or a measurement; `nas tasks list` lists them.")],
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Cancel an export or a measurement."""
    with server_client(server, token, token_file) as client:
        made = client.cancel_task(task)
    if as_json:
        return print_json(made.model_dump(mode="json"))
    return print(f"{task}: {made.reason or made.status}")


@exports.command("list", epilog="Example: nas exports list digits-cnn-1")
def list_exports(
    run: RunThere,
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List the exports of a run, oldest first."""
    with server_client(server, token, token_file) as client:
        found = client.exports(run)
    if as_json:
        return print_json([one.model_dump(mode="json") for one in found])
    if not found:
        return print(f"no exports of {run}; make one with: nas fetch {run}")
    rows = [
        [one.export, one.status, f"{one.submitted:%Y-%m-%d %H:%M}", _mib(sum(f.bytes for f in one.files)), one.reason]
        for one in found
    ]
    return print_table(["export", "status", "submitted", "MiB", "reason"], rows)


@exports.command("delete", epilog="Example: nas exports delete digits-cnn-1 EXPORT")
def delete_export(
    run: RunThere,
    export: Annotated[str, argument(help="The id of an export; `nas exports list RUN` lists them.")],
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Delete an export that has ended, with its files on the server."""
    with server_client(server, token, token_file) as client:
        client.delete_export(run, export)
    _print_deleted(export, as_json)


def _print_deleted(name: str, as_json: bool) -> None:
    return print_json({"deleted": name}) if as_json else print(f"deleted {name}")


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"
