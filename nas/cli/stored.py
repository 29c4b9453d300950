"""Commands about what a server stores: its data sets, hardware profiles, tasks and exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import Json, RunThere, app, argument, of_server, option
from nas.cli.hardware import profiles
from nas.cli.output import print_json, print_table
from nas.cli.running import read_text

if TYPE_CHECKING:
    from nas.client import NasClient

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
@of_server
def list_data(client: NasClient, as_json: Json = False) -> None:
    """List the uploaded data sets."""
    found = client.data_sets()
    if as_json:
        return print_json(found)
    if not found:
        return print(f"no data sets at {client.server}; add one with: nas data add NAME ARCHIVE.zip")
    rows = [[one.path, str(one.images), str(len(one.classes)), _mib(one.bytes)] for one in found]
    return print_table(["data set", "images", "classes", "MiB"], rows)


@data.command("add", epilog="Example: nas data add garments garments.zip")
@of_server
def add_data(
    client: NasClient,
    name: Annotated[str, argument(help="The name of the data set.")],
    archive: Annotated[Path, argument(help="A zip archive of images, one folder per class.")],
    as_json: Json = False,
) -> None:
    """Upload a data set of images."""
    made = client.add_data(name, archive)
    if as_json:
        return print_json(made)
    return print(
        f"{made.images} images of {len(made.classes)} classes; in the job file:\n"
        f"data: {{name: image-folder, path: {made.path}}}"
    )


@data.command("delete", epilog="Example: nas data delete garments")
@of_server
def delete_data(
    client: NasClient,
    name: Annotated[str, argument(help="The name of the data set; `nas data list` lists them.")],
    as_json: Json = False,
) -> None:
    """Delete an uploaded data set; ended runs that used it can no longer be resumed or exported."""
    client.delete_data(name)
    _print_deleted(name, as_json)


@models.command("list", epilog="Example: nas models list")
@of_server
def list_models(client: NasClient, as_json: Json = False) -> None:
    """List the captured models."""
    found = client.models()
    if as_json:
        return print_json(found)
    if not found:
        return print(f"no models at {client.server}; add one with: nas models add NAME FILE")
    return print_table(["model", "MiB"], [[one.path, _mib(one.bytes)] for one in found])


@models.command("add", epilog="Example: nas models add resnet18 resnet18.capture")
@of_server
def add_model(
    client: NasClient,
    name: Annotated[str, argument(help="The name of the model.")],
    file: Annotated[Path, argument(help="A file that `nas capture` wrote.")],
    as_json: Json = False,
) -> None:
    """Upload a captured model; nas submit uploads the one that its job names by itself."""
    made = client.add_model(name, file)
    if as_json:
        return print_json(made)
    return print(f"in the job file: supernet: {{model: {made.path}}}")


@models.command("delete", epilog="Example: nas models delete resnet18")
@of_server
def delete_model(
    client: NasClient,
    name: Annotated[str, argument(help="The name of the model; `nas models list` lists them.")],
    as_json: Json = False,
) -> None:
    """Delete a captured model; runs that have begun keep theirs."""
    client.delete_model(name)
    _print_deleted(name, as_json)


@profiles.command("list", epilog="Example: nas profiles list --server http://127.0.0.1:8700")
@of_server
def list_profiles(client: NasClient, as_json: Json = False) -> None:
    """List the hardware profiles of a server."""
    found = client.profiles()
    if as_json:
        return print_json(found)
    rows = [
        [p.name, str(p.threads), str(p.batch_size), p.provider, p.unavailable and f"not available: {p.unavailable}"]
        for p in found
    ]
    return print_table(["profile", "threads", "batch", "provider", "now"], rows)


@profiles.command("add", epilog="Example: nas profiles add my-board.yaml")
@of_server
def add_profile(
    client: NasClient,
    file: Annotated[Path, argument(help="The YAML file of a hardware profile.")],
    as_json: Json = False,
) -> None:
    """Add a hardware profile to a server, for jobs that name it."""
    made = client.add_profile(read_text(file))
    if as_json:
        return print_json(made)
    warning = f"\nnot available now: {made.unavailable}" if made.unavailable else ""
    return print(f"added {made.name}; in a job file: hardware: [{made.name}]{warning}")


@profiles.command("delete", epilog="Example: nas profiles delete my-board")
@of_server
def delete_profile(
    client: NasClient,
    name: Annotated[str, argument(help="A profile that was added; `nas profiles list` lists them.")],
    as_json: Json = False,
) -> None:
    """Delete a hardware profile of a server."""
    client.delete_profile(name)
    _print_deleted(name, as_json)


@tasks.command("list", epilog="Example: nas tasks list --all")
@of_server
def list_tasks(
    client: NasClient,
    all_: Annotated[bool, option("--all", help="Also those that have ended.")] = False,
    as_json: Json = False,
) -> None:
    """List the exports and measurements that wait or run, newest first."""
    found = [task for task in client.tasks() if all_ or task.status in ("queued", "running")]
    if as_json:
        return print_json(found)
    if not found:
        return print(f"no exports or measurements{'' if all_ else ' wait or run'} at {client.server}")
    return print_table(
        ["task", "of", "status", "submitted", "reason"],
        [[task.task, task.of, task.status, f"{task.submitted:%Y-%m-%d %H:%M}", task.reason] for task in found],
    )


@tasks.command("cancel", epilog="Example: nas tasks cancel TASK")
@of_server
def cancel_task(
    client: NasClient,
    task: Annotated[str, argument(help="The id of an export or a measurement; `nas tasks list` lists them.")],
    as_json: Json = False,
) -> None:
    """Cancel an export or a measurement."""
    made = client.cancel_task(task)
    if as_json:
        return print_json(made)
    return print(f"{task}: {made.reason or made.status}")


@exports.command("list", epilog="Example: nas exports list digits-cnn-1")
@of_server
def list_exports(client: NasClient, run: RunThere, as_json: Json = False) -> None:
    """List the exports of a run, oldest first."""
    found = client.exports(run)
    if as_json:
        return print_json(found)
    if not found:
        return print(f"no exports of {run}; make one with: nas fetch {run}")
    rows = [
        [one.export, one.status, f"{one.submitted:%Y-%m-%d %H:%M}", _mib(sum(f.bytes for f in one.files)), one.reason]
        for one in found
    ]
    return print_table(["export", "status", "submitted", "MiB", "reason"], rows)


@exports.command("delete", epilog="Example: nas exports delete digits-cnn-1 EXPORT")
@of_server
def delete_export(
    client: NasClient,
    run: RunThere,
    export: Annotated[str, argument(help="The id of an export; `nas exports list RUN` lists them.")],
    as_json: Json = False,
) -> None:
    """Delete an export that has ended, with its files on the server."""
    client.delete_export(run, export)
    _print_deleted(export, as_json)


def _print_deleted(name: str, as_json: bool) -> None:
    return print_json({"deleted": name}) if as_json else print(f"deleted {name}")


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"
