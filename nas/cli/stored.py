"""Commands about what a server stores: its data sets, hardware profiles, tasks and exports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import nas.jobs
from nas.cli.app import Json, ServerRunId, argument, command_group, option, with_server_client
from nas.cli.hardware import profiles
from nas.cli.output import print_list, print_result, progress_bar
from nas.cli.running import read_text
from nas.engine.formatting import counted, moment_text

if TYPE_CHECKING:
    from nas.service.client import NasClient
    from nas.service.client.uploads import UploadProgress

data = command_group("data", "Data sets that a server stores.", example="nas data list")
models = command_group("models", "Models that a server stores.", example="nas models list")
tasks = command_group("tasks", "Exports and measurements of a server.", example="nas tasks list")
exports = command_group("exports", "Exports that a server stores.", example="nas exports list digits-cnn-1")


@data.command("list", epilog="Example: nas data list")
@with_server_client
def list_data(client: NasClient, as_json: Json = False) -> None:
    """List the uploaded data sets."""
    data_sets = client.data_sets()
    rows = [
        [
            data_set.path,
            data_set.kind,
            counted(data_set.examples or data_set.images, data_set.noun),
            str(len(data_set.classes) or ""),
            _mib(data_set.bytes),
        ]
        for data_set in data_sets
    ]
    empty_text = f"no data sets at {client.server}; add one with: nas data add FILE or FOLDER"
    print_list(as_json, data_sets, ["data set", "kind", "examples", "classes", "MiB"], rows, empty_text=empty_text)


@data.command("add", epilog="Example: nas data add garments.zip")
@with_server_client
def add_data(
    client: NasClient,
    files: Annotated[
        list[str],
        argument(
            metavar="[NAME] FILE|FOLDER",
            help="Images in one folder a class, or beside the table of their labels; a table; or texts. A folder is packed.",
        ),
    ],
    name: Annotated[str | None, option("--name", help="The name of the data set; by default that of the file.")] = None,
    kind: Annotated[
        str,
        option(
            "--kind",
            help="The name of the data set in jobs, such as text-pairs; by default it is recognised.",
        ),
    ] = "",
    task: Annotated[
        str,
        option(
            "--task",
            help="classification, regression or multi-label; by default it is recognised by the labels of a table.",
        ),
    ] = "",
    options: Annotated[
        list[str] | None,
        option("--option", metavar="KEY=VALUE", help="As in a job's data section, such as label_column=stars."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Upload a data set.

    The server reads it as a job does before it stores it, and rejects what no job can be trained on.
    """
    stored_name, path = _named(files, name)
    with _progress() as on_progress:
        data_set = client.add_data(
            stored_name, path, kind=kind, task=task, options=_options(options or []), on_progress=on_progress
        )
    counts = counted(data_set.examples or data_set.images, data_set.noun)
    n_classes = len(data_set.classes)
    of_classes = f" of {n_classes} {'class' if n_classes == 1 else 'classes'}" if n_classes else ""
    section = nas.jobs.dump_inline({"name": data_set.kind, "path": data_set.path, **data_set.options})
    lines = [f"{counts}{of_classes} ({data_set.checked}); in the job file:", f"data: {section}"]
    lines += [] if data_set.task == "classification" else [f"task: {data_set.task}"]
    print_result(as_json, data_set, "\n".join(lines))


@data.command("delete", epilog="Example: nas data delete garments")
@with_server_client
def delete_data(
    client: NasClient,
    name: Annotated[str, argument(help="The name of the data set; `nas data list` lists them.")],
    as_json: Json = False,
) -> None:
    """Delete an uploaded data set; ended runs that used it can no longer be resumed or exported."""
    client.delete_data(name)
    print_result(as_json, {"deleted": name}, f"deleted {name}")


@models.command("list", epilog="Example: nas models list")
@with_server_client
def list_models(client: NasClient, as_json: Json = False) -> None:
    """List the captured models and pretrained networks."""
    stored_models = client.models()
    empty_text = f"no models at {client.server}; add one with: nas models add FILE or FOLDER"
    print_list(
        as_json,
        stored_models,
        ["model", "kind", "family", "MiB"],
        [[model.path, model.kind, model.family, _mib(model.bytes)] for model in stored_models],
        empty_text=empty_text,
    )


@models.command("add", epilog="Example: nas models add resnet18.capture")
@with_server_client
def add_model(
    client: NasClient,
    files: Annotated[
        list[str],
        argument(
            metavar="[NAME] FILE|FOLDER",
            help="A file that `nas capture` wrote; the folder of a pretrained network, which is packed; or a GGUF file.",
        ),
    ],
    name: Annotated[str | None, option("--name", help="The name of the model; by default that of the file.")] = None,
    as_json: Json = False,
) -> None:
    """Upload a model; nas submit uploads the captured one that its job names by itself."""
    stored_name, path = _named(files, name)
    with _progress() as on_progress:
        model = client.add_model(stored_name, path, on_progress=on_progress)
    keys = f"family: {model.family}, pretrained" if model.kind == "pretrained" else "model"
    print_result(as_json, model, f"in the job file: supernet: {{{keys}: {model.path}}}")


@models.command("delete", epilog="Example: nas models delete resnet18")
@with_server_client
def delete_model(
    client: NasClient,
    name: Annotated[str, argument(help="The name of the model; `nas models list` lists them.")],
    as_json: Json = False,
) -> None:
    """Delete a model; runs that have begun keep their copy of a captured one."""
    client.delete_model(name)
    print_result(as_json, {"deleted": name}, f"deleted {name}")


@profiles.command("list", epilog="Example: nas profiles list --server http://127.0.0.1:8700")
@with_server_client
def list_profiles(client: NasClient, as_json: Json = False) -> None:
    """List the hardware profiles of a server."""
    server_profiles = client.profiles()
    rows = [
        [p.name, str(p.threads), str(p.batch_size), p.provider, p.unavailable and f"not available: {p.unavailable}"]
        for p in server_profiles
    ]
    print_list(as_json, server_profiles, ["profile", "threads", "batch", "provider", "now"], rows)


@profiles.command("add", epilog="Example: nas profiles add my-board.yaml")
@with_server_client
def add_profile(
    client: NasClient,
    file: Annotated[Path, argument(help="The YAML file of a hardware profile.")],
    as_json: Json = False,
) -> None:
    """Add a hardware profile to a server, for jobs that name it."""
    profile = client.add_profile(read_text(file))
    warning = f"\nnot available now: {profile.unavailable}" if profile.unavailable else ""
    print_result(as_json, profile, f"added {profile.name}; in a job file: hardware: [{profile.name}]{warning}")


@profiles.command("delete", epilog="Example: nas profiles delete my-board")
@with_server_client
def delete_profile(
    client: NasClient,
    name: Annotated[str, argument(help="A profile that was added; `nas profiles list` lists them.")],
    as_json: Json = False,
) -> None:
    """Delete a hardware profile of a server."""
    client.delete_profile(name)
    print_result(as_json, {"deleted": name}, f"deleted {name}")


@tasks.command("list", epilog="Example: nas tasks list --all")
@with_server_client
def list_tasks(
    client: NasClient,
    all_: Annotated[bool, option("--all", help="Also those that have ended.")] = False,
    as_json: Json = False,
) -> None:
    """List the exports and measurements that wait or run, newest first."""
    server_tasks = [task for task in client.tasks() if all_ or task.status in ("queued", "running")]
    rows = [[task.task, task.of, task.status, moment_text(task.submitted), task.reason] for task in server_tasks]
    empty_text = f"no exports or measurements{'' if all_ else ' wait or run'} at {client.server}"
    print_list(as_json, server_tasks, ["task", "of", "status", "submitted", "reason"], rows, empty_text=empty_text)


@tasks.command("cancel", epilog="Example: nas tasks cancel TASK")
@with_server_client
def cancel_task(
    client: NasClient,
    task: Annotated[str, argument(help="The id of an export or a measurement; `nas tasks list` lists them.")],
    as_json: Json = False,
) -> None:
    """Cancel an export or a measurement."""
    cancelled_task = client.cancel_task(task)
    print_result(as_json, cancelled_task, f"{task}: {cancelled_task.reason or cancelled_task.status}")


@exports.command("list", epilog="Example: nas exports list digits-cnn-1")
@with_server_client
def list_exports(client: NasClient, run: ServerRunId, as_json: Json = False) -> None:
    """List the exports of a run, oldest first."""
    run_exports = client.exports(run)
    rows = [
        [
            export.export,
            export.status,
            moment_text(export.submitted),
            _mib(sum(f.bytes for f in export.files)),
            export.reason,
        ]
        for export in run_exports
    ]
    empty_text = f"no exports of {run}; make one with: nas fetch {run}"
    print_list(as_json, run_exports, ["export", "status", "submitted", "MiB", "reason"], rows, empty_text=empty_text)


@exports.command("delete", epilog="Example: nas exports delete digits-cnn-1 EXPORT")
@with_server_client
def delete_export(
    client: NasClient,
    run: ServerRunId,
    export: Annotated[str, argument(help="The id of an export; `nas exports list RUN` lists them.")],
    as_json: Json = False,
) -> None:
    """Delete an export that has ended, with its files on the server."""
    client.delete_export(run, export)
    print_result(as_json, {"deleted": export}, f"deleted {export}")


def _named(files: Sequence[str], name: str | None) -> tuple[str, Path]:
    """The name and the path of the arguments of `add`: a path, or a name and a path."""
    if len(files) > 2 or (len(files) == 2 and name is not None):
        raise typer.BadParameter(
            f"got {' '.join(files)}; expected one file or folder, with its name in --name or before it"
        )
    path = Path(files[-1])
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.resolve().stem).strip("-_")[:64]
    return name or (files[0] if len(files) == 2 else stem or "data"), path


def _options(options: Sequence[str]) -> dict[str, str | bool]:
    """The options of a data set by key; true and false are truth values."""
    for option_text in options:
        if "=" not in option_text:
            raise typer.BadParameter(f"--option {option_text!r}: expected KEY=VALUE, such as label_column=stars")
    pairs = [option_text.partition("=")[::2] for option_text in options]
    return {key.strip(): {"true": True, "false": False}.get(value, value) for key, value in pairs}


@contextmanager
def _progress() -> Iterator[UploadProgress]:
    """Shows the progress of an upload."""
    with progress_bar(of_bytes=True) as progress:
        task = progress.add_task("packing", total=None)
        yield lambda phase, done, total: progress.update(
            task,
            description="checking" if phase == "uploading" and done >= total else phase,
            completed=done,
            total=total,
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"
