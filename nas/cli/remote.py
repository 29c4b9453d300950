"""Commands against a server: submit, status, queue, watch, logs, cancel, fetch."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

import nas.engine
import nas.jobs
import nas.search
import nas.service
import supernets.networks.capture
from nas.cli.app import (
    Format,
    Index,
    Json,
    Select,
    ServerRunId,
    WithPreprocessing,
    app,
    argument,
    option,
    status_text,
    with_server_client,
)
from nas.cli.interruption import INTERRUPTED
from nas.cli.output import print_json, print_list, print_result, progress_bar
from nas.cli.running import check_format, check_one_choice, read_text
from nas.engine.formatting import moment_text
from nas.errors import JobError, ServiceError
from nas.results.export.format_names import ONNX, FormatName
from supernets.networks.capture.model_names import is_file, is_onnx

if TYPE_CHECKING:
    from nas.service.api.schemas import Artifact, Export, RunSummary
    from nas.service.client import NasClient

PriorityName = Literal["low", "normal", "high"]


@app.command(epilog="Example: nas submit digits-cnn.yaml --watch")
@with_server_client
def submit(
    client: NasClient,
    job: Annotated[Path | None, argument(metavar="JOB", help="A job file; `nas init` makes one.")] = None,
    from_: Annotated[
        str | None, option("--from", metavar="RUN", help="The job of this run of the server, in place of a file.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        option("--set", metavar="KEY=VALUE", help="Another value, e.g. search.evaluations=80; may be repeated."),
    ] = None,
    kind: Annotated[
        str | None, option("--kind", help="search (the default), or training (only trains the supernet).")
    ] = None,
    hardware: Annotated[
        list[str] | None, option("--hardware", help="A hardware profile that replaces the job's; may be repeated.")
    ] = None,
    priority: Annotated[
        PriorityName, typer.Option("--priority", help="Of the run in the queue; high is for administrators.")
    ] = "normal",
    notify: Annotated[
        str | None,
        option("--notify", metavar="URL", help="An address that is notified of the end of the run; see --secret-file."),
    ] = None,
    secret_file: Annotated[
        Path | None, option("--secret-file", help="With --notify: a file with the secret that signs the notification.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the run until it ends.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a job to a server, which queues and runs it.

    With --from: the job of a run again, with the values of --set. With --watch --json: one line of JSON per change.
    """
    if kind not in (None, "search", "training"):
        raise JobError(f"--kind {kind!r}: expected search or training", code="job.invalid-value")
    if (job is None) == (from_ is None):
        raise typer.BadParameter("name either a job file, or a run of the server with --from")
    if (notify is None) != (secret_file is None):
        raise typer.BadParameter("a notification needs both --notify and --secret-file; got one of them")
    webhook = None if notify is None or secret_file is None else (notify, read_text(secret_file).strip())
    changes = dict(map(_change, set_ or ()))
    if job is not None:
        text = read_text(job, hint="; `nas init` writes one")
        text = _with_uploaded_model(client, text, job.parent)
    else:
        origin = client.detail(str(from_))
        text, kind = origin.job, kind or origin.kind
    if changes:
        text = client.edit(text, changes)
    summary = client.submit(
        text,
        kind="training" if kind == "training" else "search",
        hardware=hardware,
        priority=priority,
        webhook=webhook,
    )
    if watch:
        print(f"submitted as {summary.run}", file=sys.stderr)
        return _watch(client, summary.run, as_json)
    return print_result(as_json, summary, f"{summary.run}: {status_text(summary)}\nnext: nas watch {summary.run}")


def _change(text: str) -> tuple[str, Any]:
    """The key and the value of ``KEY=VALUE``, whose value is YAML: a number, a text, a list or null."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise typer.BadParameter(f"--set {text}: expected KEY=VALUE, such as search.evaluations=80")
    return key.strip(), nas.jobs.parse_mapping(f"value: {value}", source=f"--set {text}", noun="value")["value"]


def _with_uploaded_model(client: NasClient, text: str, folder: Path) -> str:
    """The job with the server's name of its model (an ONNX file is captured), which is uploaded unless the server has it."""
    section = nas.jobs.parse_mapping(text, source="job", noun="job").get("supernet")
    supernet: dict[str, Any] = section if isinstance(section, dict) else {}
    model = supernet.get("model")
    if not isinstance(model, str) or not is_file(model) or not (file := folder / Path(model).expanduser()).is_file():
        return text
    with TemporaryDirectory() as temporary:
        upload = _capture_of_onnx(file, supernet.get("arguments"), Path(temporary)) if is_onnx(model) else file
        with upload.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()[:12]
        stem = re.sub(r"[^A-Za-z0-9-]+", "-", file.stem).strip("-")[:40]
        name = f"{stem or 'model'}-{digest}"
        if name not in {uploaded.name for uploaded in client.models()}:
            client.add_model(name, upload)
            print(f"uploaded {file} as the model {name}", file=sys.stderr)
    changes: dict[tuple[str, ...], str | None] = {("supernet", "model"): f"models/{name}"}
    if is_onnx(model) and "arguments" in supernet:
        changes["supernet", "arguments"] = None
    return nas.jobs.edit_job(text, changes, source="job")


def _capture_of_onnx(file: Path, arguments: object, folder: Path) -> Path:
    """The captured model of an ONNX file, which a server takes in its place.

    Raises:
        CaptureError: the file cannot be read, or the size of its images is dynamic.
    """
    opened = supernets.networks.capture.open_model(str(file), arguments if isinstance(arguments, dict) else None)
    path = folder / f"{file.stem}.capture"
    supernets.networks.capture.save_capture(path, supernets.networks.capture.captured_for(opened, None))
    return path


@app.command(epilog="Example: nas status digits-cnn-1")
@with_server_client
def status(
    client: NasClient,
    run: Annotated[str | None, argument(metavar="[RUN]", help="A run; all runs by default.")] = None,
    tag: Annotated[str | None, option("--tag", help="Only runs with this tag; `nas label` adds tags.")] = None,
    data: Annotated[str | None, option("--data", help="Only runs on data of this name.")] = None,
    submitter: Annotated[str | None, option("--by", help="Only runs that a token of this name submitted.")] = None,
    as_json: Json = False,
) -> None:
    """Show the status of a server's runs, or of one run.

    The newest run is first.
    """
    wanted = {"tag": tag, "data": data, "submitter": submitter}
    if run is not None and any(wanted.values()):
        raise typer.BadParameter("--tag, --data and --by select from all runs; leave out the run")
    summaries = [client.status(run)] if run is not None else list(_all_runs(client, **wanted))
    header = ["run", "kind", "status", "progress", "submitted by", "reason", "next"]
    rows = [
        [s.run, s.kind, status_text(s), _progress(s), s.submitter, s.reason, _next(s, client.server)] for s in summaries
    ]
    empty_text = f"no runs at {client.server}; submit one with: nas submit JOB.yaml"
    if any(wanted.values()):
        empty_text = f"no run at {client.server} is so; nas status lists all"
    print_list(as_json, summaries if run is None else summaries[0], header, rows, empty_text=empty_text)


@app.command(epilog="Example: nas queue digits-cnn-2 --position 1")
@with_server_client
def queue(
    client: NasClient,
    run: Annotated[str | None, argument(metavar="[RUN]", help="A run that waits, to change its order.")] = None,
    priority: Annotated[
        PriorityName | None, typer.Option("--priority", help="Its new priority; administrators may raise it.")
    ] = None,
    position: Annotated[
        int | None, typer.Option("--position", min=0, help="Its place from 1; 0 for its turn. For administrators.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a server's queue, or change its order."""
    if (run is None) != (priority is None and position is None):
        text = "a change needs a run, and --priority or --position; without any of them, the queue is shown"
        raise ServiceError(text, code="option.invalid")
    if run is not None and priority is not None:
        client.set_priority(run, priority)
    if run is not None and position is not None:
        client.move(run, position)
    shown = client.queue()
    rows = [["runs", r.run, r.submitter, "", f"ends {_moment(r.expected_end)}", r.basis] for r in shown.active]
    rows += [
        [
            f"{r.position}{' placed' if r.placed else ''}",
            r.run,
            r.submitter,
            r.priority,
            _moment(r.expected_start),
            r.basis,
        ]
        for r in shown.waiting
    ]
    header = ["position", "run", "by", "priority", "expected start", "based on"]
    print_list(as_json, shown, header, rows, empty_text=f"no run waits or runs at {client.server}")


def _moment(time: datetime | None) -> str:
    return "not known" if time is None else moment_text(time)


@app.command(epilog="Example: nas watch digits-cnn-1")
@with_server_client
def watch(client: NasClient, run: ServerRunId, as_json: Json = False) -> None:
    """Follow a run on a server until it ends.

    Exit code 1 unless it finished. With --json: one line of JSON per change.
    """
    _watch(client, run, as_json)


@app.command(epilog="Example: nas logs digits-cnn-1 --follow")
@with_server_client
def logs(
    client: NasClient,
    run: ServerRunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log until the run ends.")] = False,
    as_json: Json = False,
) -> None:
    """Print the log of a run on a server.

    With --json: {"run": ..., "logs": ...}, with --follow one a line for each piece.
    """
    with _detached(run, "nas logs --follow"):
        if not follow:
            text = client.logs(run)
            return print_json({"run": run, "logs": text}) if as_json else print(text, end="")
        for piece in client.follow_logs(
            run, on_gone=lambda error: print(_unreachable_text(run, error), file=sys.stderr)
        ):
            if as_json:
                print(json.dumps({"run": run, "logs": piece}), flush=True)
            else:
                print(piece, end="", flush=True)
    return None


@app.command(epilog="Example: nas cancel digits-cnn-1")
@with_server_client
def cancel(client: NasClient, run: ServerRunId, as_json: Json = False) -> None:
    """Cancel a run on a server.

    Its measurements are kept, and it can be resumed.
    """
    summary = client.cancel(run)
    # Its driver may take some seconds to end.
    end = summary.status if summary.status in ("finished", "failed", "cancelled") else "is being cancelled"
    following = f"nas resume {summary.run} --server {client.server}"
    print_result(as_json, summary, f"{summary.run}: {end}; its measurements are kept\nnext: {following}")


@app.command(epilog="Example: nas delete digits-cnn-1 digits-cnn-2")
@with_server_client
def delete(
    client: NasClient,
    runs: Annotated[list[str], argument(metavar="RUN...", help="One or several runs; `nas status` lists them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Delete runs of a server, after a question.

    With their measurements, networks and exports. Runs that wait or run, or that others need, are not deleted.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("without a terminal to ask in, deleting needs --yes")
        typer.confirm(f"Delete {', '.join(runs)} from {client.server}? This cannot be undone.", abort=True, err=True)
    deleted, problems = [], []
    for run in runs:
        try:
            client.delete(run)
            deleted.append(run)
        except ServiceError as error:
            if error.code == "service.unreachable":
                raise
            problems.append(f"{run}: {error}")
    if deleted or as_json:
        print_result(
            as_json, {"deleted": deleted, "problems": problems}, "\n".join(f"deleted {run}" for run in deleted)
        )
    if problems:
        raise ServiceError("\n".join(problems), code="run.not-deleted")


@app.command(epilog='Example: nas fetch digits-cnn-1 --select "latency_ms<=0.05"')
@with_server_client
def fetch(
    client: NasClient,
    run: ServerRunId,
    output: Annotated[
        Path | None, option("-o", "--output", help="The folder to write to; the run's id by default.")
    ] = None,
    select: Select = None,
    index: Index = None,
    format: Format = ONNX,
    with_preprocessing: WithPreprocessing = False,
    archive: Annotated[
        bool,
        typer.Option("--archive", help="Everything of the run as one zip file: job, results, log, plots, exports."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Export a network on a server and download it.

    The files are those of `nas export` (of the knee by default). With --archive, nothing is exported:
    what the server has of the run is downloaded as RUN.zip, or as the file --output.
    """
    check_one_choice(select, index)
    check_format(format, with_preprocessing=with_preprocessing)
    if archive:
        if select is not None or index is not None or format != ONNX or with_preprocessing:
            raise typer.BadParameter(
                "--archive downloads what the server has; --select, --index, --format and "
                "--with-preprocessing are for the export of one network"
            )
        with progress_bar(of_bytes=True) as progress:
            task = progress.add_task("downloading", total=None)
            path = client.archive(
                run, output or Path(f"{run}.zip"), on_progress=lambda done: progress.update(task, completed=done)
            )
        return print_result(as_json, {"run": run, "path": str(path)}, f"wrote {path}")
    with _detached(run, "nas fetch"):
        export = client.export(
            run,
            select=select,
            index=index,
            format=cast(FormatName, format),
            with_preprocessing=with_preprocessing,
            on_change=_print_status,
        )
        paths = downloaded(client, export, output or Path(run))
    data = {**export.model_dump(mode="json"), "paths": [str(path) for path in paths]}
    return print_result(as_json, data, "\n".join(f"wrote {path}" for path in paths))


def _print_status(export: Export) -> None:
    if export.status in ("queued", "running"):
        print(f"export {export.export}: {export.status}", file=sys.stderr)


def downloaded(client: NasClient, export: Export | Artifact, folder: Path) -> tuple[Path, ...]:
    """Downloads the files of an export or an artifact with a progress bar; returns their paths."""
    with progress_bar(of_bytes=True) as progress:
        task = progress.add_task("downloading", total=None)
        return client.fetch(
            export, folder, on_progress=lambda done, total: progress.update(task, completed=done, total=total)
        )


@contextmanager
def _detached(run: str, again: str) -> Iterator[None]:
    """On Ctrl-C, prints that the run continues on the server."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"{run} continues on the server; follow it again with: {again} {run}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _all_runs(
    client: NasClient, *, tag: str | None = None, data: str | None = None, submitter: str | None = None
) -> Iterator[RunSummary]:
    offset = 0
    while True:
        page = client.runs(tag=tag, data=data, submitter=submitter, offset=offset, limit=200)
        yield from page.runs
        offset += len(page.runs)
        if not page.runs or offset >= page.total:
            return


def _watch(client: NasClient, run: str, as_json: bool) -> None:
    """Shows the status of a run until it ends; raises unless it finished."""
    with _detached(run, "nas watch"):
        last = _follow(client, run, as_json)
    if last is None or last.status != "finished":
        end = "no status received" if last is None else last.status
        reason = f": {last.reason}" if last is not None and last.reason else ""
        error = ServiceError(f"{run}: {end}{reason}", code="run.not-finished")
        if last is not None and (following := _next(last, client.server)):
            error.add_note(f"next: {following} (its log: nas logs {run})")
        raise error
    if not as_json:
        print(f"{run}: finished, {_progress(last)}\nnext: nas fetch {run}")


def _next(summary: RunSummary, server: str) -> str:
    """The command that continues a run that ended without finishing; "" for any other."""
    ended = summary.status in ("failed", "cancelled") and not summary.damaged
    return f"nas resume {summary.run} --server {server}" if ended else ""


def _unreachable_text(run: str, error: ServiceError) -> str:
    return f"{run} continues; waiting up to {nas.service.PATIENCE_S / 60:g} minutes for its server: {error}"


def _follow(client: NasClient, run: str, as_json: bool) -> RunSummary | None:
    """Shows progress on stderr or JSON on stdout; returns the last summary."""
    last: RunSummary | None = None
    with nas.engine.ConsoleProgress() as observer:
        for summary in client.watch(run, on_gone=lambda error: observer.note(_unreachable_text(run, error))):
            if as_json:
                print(json.dumps(summary.model_dump(mode="json")), flush=True)
            elif last is None or status_text(last) != status_text(summary) or last.reason != summary.reason:
                reason = f" ({summary.reason})" if summary.reason else ""
                observer.note(f"{summary.run}: {status_text(summary)}{reason}")
            if not as_json and summary.epochs and summary.status != "queued":
                observer.count("training, epoch", summary.epoch, summary.epochs)
            if not as_json and summary.kind == "search" and summary.evaluations:
                observer.count("searching", summary.evaluations, summary.evaluations_wanted)
            last = summary
    return last


def _progress(summary: RunSummary) -> str:
    if summary.kind == "training" or summary.epoch < summary.epochs:
        return f"{summary.epoch} of {summary.epochs} epochs"
    counts = nas.search.EvaluationCounts(**summary.counts.model_dump())
    text = nas.search.evaluations_text(summary.evaluations_wanted, counts, n_known=summary.known)
    return f"{summary.evaluations} of {text}"
