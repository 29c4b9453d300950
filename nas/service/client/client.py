"""The client of one server: every call of the API as a method."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel

from nas.errors import ServiceError
from nas.service.api import schemas
from nas.service.client.files import DownloadProgress, download, download_archive
from nas.service.client.following import PATIENCE_S, OnGone, Patience, finished, followed_log, watched
from nas.service.client.transport import UPLOAD_S, T, Transport, checked, quoted
from nas.service.client.uploads import UploadProgress, opened_upload
from supernets.networks.formats.pretrained import is_of_pretrained


class NasClient:
    """A client of one server; safe to use from several threads; a context manager.

    Every call raises `nas.service.client.RefusedError` if the server rejects it (an unknown run included),
    `nas.service.client.UnreachableError` if no server answers, and their base `nas.errors.ServiceError` for values that no
    server accepts.

    Args:
        server: its URL, e.g. ``http://127.0.0.1:8700``.
        token: sent with every request; None sends none.
        wait: sleeps for a number of seconds.
        through: an httpx transport to use instead of the network.
    """

    def __init__(
        self,
        server: str,
        token: str | None = None,
        *,
        wait: Callable[[float], None] = time.sleep,
        through: httpx.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(server, token, wait=wait, through=through)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; idempotent."""
        self._transport.close()

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._transport.server

    @property
    def on_loopback(self) -> bool:
        """True if the server is on this machine."""
        return self._transport.on_loopback

    # Jobs before they are runs

    def job_schema(self) -> dict[str, Any]:
        """The JSON schema of job files."""
        return self._transport.get("jobs/schema", dict[str, Any])

    def check(self, job: str | dict[str, Any], *, hardware: Sequence[str] | None = None) -> schemas.JobCheck:
        """Problems of a job by field, or its usual settings; the job is not kept.

        Args:
            job: Text of a job file (YAML), or its content as a mapping.
            hardware: Names of at most 16 hardware profiles of the server that replace the job's; None keeps the job's.
        """
        return self._transport.post("jobs/check", schemas.JobCheck, body=_submission(job, "search", hardware))

    def edit(self, job: str, changes: Mapping[str, Any]) -> str:
        """The text of a job file with other values by path, e.g. ``{"search.evaluations": 80}``; comments stay.

        Args:
            job: Text of a job file (YAML).
            changes: New values by the path of their key, at most 20; None removes the key.
        """
        body = checked(schemas.JobEdit, {"job": job, "changes": dict(changes)})
        return self._transport.post("jobs/edit", schemas.EditedJob, body=body).job

    def plan(
        self,
        job: str | dict[str, Any],
        *,
        hardware: Sequence[str] | None = None,
        on_change: Callable[[schemas.JobPlan], None] | None = None,
    ) -> schemas.JobPlan:
        """The plan of a job that is not submitted: the size and costs of its space, and an estimate of the time.

        Args:
            job: The text of a job file, or its content.
            hardware: Names of profiles that replace the job's.
            on_change: Called with the plan after each change of its status.

        Raises:
            ServiceError: it failed; the message gives the reason.
        """
        plan = self._transport.post("jobs/plans", schemas.JobPlan, body=_submission(job, "search", hardware))
        return finished(self._transport, plan, f"jobs/plans/{quoted(plan.plan)}", on_change, subject="the plan")

    # Runs

    def submit(
        self,
        job: str | dict[str, Any],
        *,
        kind: schemas.RunKind = "search",
        hardware: Sequence[str] | None = None,
        priority: schemas.PriorityName = "normal",
        webhook: tuple[str, str] | None = None,
    ) -> schemas.RunSummary:
        """Submits a job; returns its run.

        Args:
            job: the text of a job file, or its content.
            kind: a search, or only the training of its supernet.
            hardware: profiles that replace the job's.
            priority: of the run in the queue; ``high`` is for administrators.
            webhook: An address that is notified of the end of the run, and the secret that signs the notification.
        """
        # Earlier servers know no priorities.
        submission = _submission(job, kind, hardware, None if priority == "normal" else priority)
        if webhook is not None:
            body = checked(schemas.WebhookRequest, dict(zip(("url", "secret"), webhook, strict=True)))
            submission = submission.model_copy(update={"webhook": body})
        return self._transport.post("runs", schemas.RunSummary, body=submission)

    def queue(self) -> schemas.Queue:
        """The runs that run and wait, those that wait in the order in which they start, with expected starts."""
        return self._transport.get("queue", schemas.Queue)

    def set_priority(self, run: str, priority: schemas.PriorityName) -> schemas.RunSummary:
        """Changes the priority of a run that waits; a higher one is for administrators.

        Args:
            run: Id of the run.
            priority: its new priority.
        """
        return self._reorder(run, {"priority": priority})

    def move(self, run: str, position: int) -> schemas.RunSummary:
        """Puts a run that waits at a position of the queue; for administrators.

        Args:
            run: Id of the run.
            position: 1 for the run that starts next; 0 returns the run to its turn.
        """
        return self._reorder(run, {"position": position})

    def _reorder(self, run: str, values: Mapping[str, Any]) -> schemas.RunSummary:
        change = checked(schemas.QueueChange, values)
        answer = self._transport.send("PUT", f"{_path_of(run)}/queue", body=change)
        return self._transport.parsed(answer, schemas.RunSummary)

    def runs(
        self,
        *,
        status: schemas.RunStatusName | None = None,
        kind: schemas.RunKind | None = None,
        name: str | None = None,
        tag: str | None = None,
        data: str | None = None,
        submitter: str | None = None,
        min_accuracy: float | None = None,
        max_latency_ms: float | None = None,
        sort: schemas.RunOrder | None = None,
        descending: bool = False,
        offset: int = 0,
        limit: int = 50,
    ) -> schemas.RunsPage:
        """A page of the runs, newest first unless sorted; `name` may be a part of a run's name.

        Args:
            status: Only runs of this status; None for all.
            kind: Only searches, or only trainings of a supernet; None for both.
            name: Part of a run's id, in upper or lower case; at most 80 characters, None for all runs.
            tag: Only runs with exactly this tag; at most 40 characters, None for all runs.
            data: Only runs on data of this name; None for all runs.
            submitter: Only runs that a token of this name submitted; None for all runs.
            min_accuracy: Smallest best accuracy of a run's front, 0 to 1; None for all runs.
            max_latency_ms: Largest best latency of a run's front; None for all runs.
            sort: Value to sort by, see `nas.service.api.schemas.RunOrder`; None for the newest first.
            descending: Whether the largest value (by ``accuracy``, the best one) is first; has no effect unless `sort` is set.
                Runs without the value come last in both directions.
            offset: Number of runs before the page, at least 0.
            limit: Largest number of runs of the page, 1 to 1,000.
        """
        params = {
            "status": status,
            "kind": kind,
            "name": name,
            "tag": tag,
            "data": data,
            "submitter": submitter,
            "min_accuracy": min_accuracy,
            "max_latency_ms": max_latency_ms,
            "sort": sort,
            "descending": descending or None,
            "offset": offset,
            "limit": limit,
        }
        return self._transport.get("runs", schemas.RunsPage, params)

    def status(self, run: str) -> schemas.RunSummary:
        """The status of a run.

        Args:
            run: Id of a run, e.g. ``digits-cnn-1``.
        """
        return self._transport.get(f"{_path_of(run)}/status", schemas.RunSummary)

    def detail(self, run: str) -> schemas.RunDetail:
        """A run with its objectives, profiles and settings.

        Args:
            run: Id of a run.
        """
        return self._transport.get(_path_of(run), schemas.RunDetail)

    def watch(
        self, run: str, *, patience_s: float = PATIENCE_S, on_gone: OnGone | None = None
    ) -> Iterator[schemas.RunSummary]:
        """The status of a run, now and after each change, until the run has ended.

        Args:
            run: Id of a run.
            patience_s: seconds that the server may be unreachable.
            on_gone: called with the error when it becomes unreachable.
        """
        return watched(self._transport, _path_of(run), Patience(patience_s, on_gone=on_gone))

    def logs(self, run: str) -> str:
        """The log of the run's drivers, oldest line first.

        Args:
            run: Id of a run, whose log is cut to its last million bytes.
        """
        return self._transport.read(f"{_path_of(run)}/logs").text

    def follow_logs(self, run: str, *, patience_s: float = PATIENCE_S, on_gone: OnGone | None = None) -> Iterator[str]:
        """The log in pieces as they are written, until the run has ended; see `watch`.

        Args:
            run: Id of a run.
            patience_s: Seconds that the server may be unreachable after its last answer; then the error is raised.
            on_gone: Called with the error once each time that the server becomes unreachable; None for no call.
        """
        return followed_log(self._transport, _path_of(run), Patience(patience_s, on_gone=on_gone))

    def cancel(self, run: str) -> schemas.RunSummary:
        """Cancels a run; it can be resumed.

        Args:
            run: Id of a run that is queued or running, and that was submitted to this server.
        """
        return self._transport.post(f"{_path_of(run)}/cancel", schemas.RunSummary)

    def resume(
        self,
        run: str,
        *,
        evaluations: str | int | None = None,
        minutes: str | float | None = None,
        retry_failed: bool = False,
    ) -> schemas.RunSummary:
        """Queues a run that has ended once more.

        Args:
            run: Id of a run that has ended.
            evaluations: a new total (``150``) or an addition (``"+50"``); a finished run continues with it.
            minutes: likewise.
            retry_failed: measure again what failed or was too noisy, also in a finished run.
        """
        budget = {"evaluations": evaluations, "minutes": minutes}
        texts = {name: None if value is None else str(value) for name, value in budget.items()}
        # Only where it is wanted: an earlier server knows no such field.
        retry = {"retry_failed": True} if retry_failed else {}
        request = checked(schemas.ResumeRequest, {**texts, **retry})
        return self._transport.post(f"{_path_of(run)}/resume", schemas.RunSummary, body=request)

    def label(self, run: str, *, tags: Sequence[str] | None = None, note: str | None = None) -> schemas.RunSummary:
        """Replaces the tags of a run, its note, or both; what is None stays.

        Args:
            run: Id of a run.
            tags: All tags that the run then has: at most 20 distinct words of at most 40 letters, digits and ``. _ + -``; None
                keeps its tags.
            note: Text of at most 2,000 characters; "" removes the note, and None keeps it.
        """
        if tags is None or note is None:
            now = self.status(run)
            tags, note = now.tags if tags is None else tags, now.note if note is None else note
        labels = checked(schemas.RunLabels, {"tags": tuple(tags), "note": note})
        answer = self._transport.send("PUT", f"{_path_of(run)}/labels", body=labels)
        return self._transport.parsed(answer, schemas.RunSummary)

    def delete(self, run: str) -> None:
        """Deletes a run that no driver holds, with all its files.

        Args:
            run: Id of a run that neither waits nor runs, and that no open run needs.
        """
        self._transport.send("DELETE", _path_of(run))

    # Fronts, evaluations, predictions and exports

    def front(self, run: str, *, profile: str | None = None, select: str | None = None) -> schemas.Front:
        """The Pareto front of a search.

        Args:
            run: Id of a search.
            profile: of this hardware profile only.
            select: limits that replace the job's constraints, e.g. ``latency_ms<=1.0``.
        """
        return self._transport.get(f"{_path_of(run)}/front", schemas.Front, {"profile": profile, "select": select})

    def evaluations(
        self,
        run: str,
        *,
        status: schemas.NetworkStatus | None = None,
        select: str | None = None,
        sort: str | None = None,
        descending: bool = False,
        page: int = 1000,
    ) -> Iterator[schemas.Network]:
        """All evaluated networks, fetched `page` at a time, sorted by a metric or else in the order evaluated.

        Args:
            run: Id of a search.
            status: Only networks of this status; None for all that have a value of every metric.
            select: Limits that they satisfy, e.g. ``latency_ms<=1.0``.
            sort: Metric to sort by, or ``test``; None for the order of evaluation.
            descending: Whether the largest value, or the last network, is first.
            page: Number of networks of each request.
        """
        offset, order = 0, {"status": status, "select": select, "sort": sort, "descending": descending}
        while True:
            params = {"offset": offset, "limit": page, **order}
            networks_page = self._transport.get(f"{_path_of(run)}/evaluations", schemas.NetworksPage, params)
            yield from networks_page.networks
            offset += len(networks_page.networks)
            if not networks_page.networks or offset >= networks_page.total:
                return

    def predicted(self, run: str, *, limit: int = 2000) -> schemas.NetworksPage:
        """Networks with predicted values that were never measured.

        Args:
            run: Id of a search.
            limit: Largest number of networks, 1 to 10,000; the page's ``total`` counts all.
        """
        return self._transport.get(f"{_path_of(run)}/predicted", schemas.NetworksPage, {"limit": limit})

    def training(self, run: str) -> schemas.Training:
        """The training of a run's supernet, by epoch.

        Args:
            run: Id of a run of either kind.
        """
        return self._transport.get(f"{_path_of(run)}/training", schemas.Training)

    def predictors(self, run: str) -> tuple[schemas.PredictorInfo, ...]:
        """The quality of each objective's predictor.

        Args:
            run: Id of a search.
        """
        return self._transport.get(f"{_path_of(run)}/predictors", tuple[schemas.PredictorInfo, ...])

    def steps(self, run: str, *, offset: int = 0, limit: int = 1000) -> schemas.SearchSteps:
        """How each step of a search chose its networks, and by which models.

        Args:
            run: Id of a search.
            offset: Number of steps to skip.
            limit: Largest number of steps, 1 to 1,000; ``total`` counts all.
        """
        return self._transport.get(f"{_path_of(run)}/steps", schemas.SearchSteps, {"offset": offset, "limit": limit})

    def convergence(self, run: str) -> tuple[tuple[int, float], ...]:
        """Pairs of (evaluations, hypervolume) over the search.

        Args:
            run: Id of a search.
        """
        return self._transport.get(f"{_path_of(run)}/convergence", tuple[tuple[int, float], ...])

    def pick(self, run: str, select: str, *, profile: str | None = None) -> schemas.Network:
        """The most accurate measured network within limits, e.g. ``latency_ms<=1.0``.

        Args:
            run: Id of a search.
            select: Limits that the network satisfies, separated by commas, e.g. ``latency_ms<=1.0, accuracy>=0.9``; at most 500
                characters.
            profile: Hardware profile whose objectives alone count; None for all profiles of the search.
        """
        return self._transport.get(f"{_path_of(run)}/pick", schemas.Network, {"select": select, "profile": profile})

    def compare(self, runs: Sequence[str]) -> schemas.Comparison:
        """Searches compared in the objectives that they share.

        Args:
            runs: 1 to 16 ids of searches; a repeated one is compared once.
        """
        return self._transport.get("compare", schemas.Comparison, {"run": list(runs)})

    def export(
        self,
        run: str,
        *,
        select: str | None = None,
        index: int | None = None,
        with_preprocessing: bool = False,
        on_change: Callable[[schemas.Export], None] | None = None,
    ) -> schemas.Export:
        """Exports a network as verified ONNX and waits for it; `fetch` downloads the files.

        Args:
            run: Id of a search; or of a training, with `select`.
            select: the most accurate measured network within limits; or ``key=0-2-1``, the measured network of this key.
            index: a member of the front; without either, the knee.
            with_preprocessing: whether the graph takes decoded images of any size, and resizes and normalises them itself.
            on_change: called with the export after each change of its status.

        Raises:
            ServiceError: the export failed; the message gives the reason.
        """
        fields: dict[str, Any] = {"select": select, "index": index}
        if with_preprocessing:  # left out otherwise, for servers that do not know it
            fields["with_preprocessing"] = True
        request, path = checked(schemas.ExportRequest, fields), f"{_path_of(run)}/exports"
        export = self._transport.post(path, schemas.Export, body=request)
        return finished(
            self._transport, export, f"{path}/{quoted(export.export)}", on_change, subject=f"{run}: the export"
        )

    def exports(self, run: str) -> tuple[schemas.Export, ...]:
        """All exports of a run, oldest first.

        Args:
            run: Id of a run.
        """
        return self._transport.get(f"{_path_of(run)}/exports", tuple[schemas.Export, ...])

    def archive(self, run: str, path: Path, *, on_progress: Callable[[int], None] | None = None) -> Path:
        """Downloads the job, results, log, plots, exports and artifacts of a run as one zip file; returns its path.

        Args:
            run: Id of a run.
            path: Path of the file, which must not exist.
            on_progress: Called with the bytes received so far, after each part; None for no call.

        Raises:
            ServiceError: the file exists or cannot be written, or the connection broke.
        """
        return download_archive(self._transport, f"{_path_of(run)}/archive", path, on_progress=on_progress)

    def delete_export(self, run: str, export: str) -> None:
        """Deletes an export that has ended, with its files on the server.

        Args:
            run: Id of the run that was exported.
            export: Id of an export that is finished, failed or cancelled, as in `schemas.Export.export`.
        """
        self._transport.send("DELETE", f"{_path_of(run)}/exports/{quoted(export)}")

    def finetune(
        self,
        run: str,
        *,
        select: str | None = None,
        index: int | None = None,
        epochs: int = 5,
        learning_rate: float | None = None,
    ) -> schemas.RunSummary:
        """Queues a new run that fine-tunes a network of a search and measures it again.

        Args:
            run: Id of a search.
            select, index: The network, as for `export`; without either, the knee of the front.
            epochs: Number of epochs.
            learning_rate: The peak; None for a tenth of the supernet's.
        """
        fields = {"select": select, "index": index, "epochs": epochs, "learning_rate": learning_rate}
        body = checked(schemas.FinetuningRequest, fields)
        return self._transport.post(f"{_path_of(run)}/finetunings", schemas.RunSummary, body=body)

    def cascade(
        self,
        run: str,
        *,
        profile: str | None = None,
        row: int | None = None,
        test: bool = False,
        on_change: Callable[[schemas.Artifact], None] | None = None,
    ) -> schemas.Artifact:
        """The cascades of two networks of a front; waits for them. With a row, `fetch` downloads its export.

        Args:
            run: Id of a finished search of a classification.
            profile: Hardware profile whose latencies count; None for that of the first latency objective.
            row: A cascade of the table by its number, which is exported as ONNX.
            test: Whether that cascade is scored on the test part, too.
            on_change: Called with the artifact after each change of its status.

        Raises:
            ServiceError: it failed; the message gives the reason.
        """
        fields = {"kind": "cascade", "profile": profile, "row": row, "test": test}
        return self._artifact(run, checked(schemas.CascadeRequest, fields), on_change)

    def plot(
        self,
        run: str,
        *,
        select: str | None = None,
        experts: bool = False,
        on_change: Callable[[schemas.Artifact], None] | None = None,
    ) -> schemas.Artifact:
        """The pictures and the interactive page of a run; waits for them. `fetch` downloads them.

        Args:
            run: Id of a search.
            select: Limits to draw, with the front within them.
            experts: Whether only the experts of one network are drawn, which `select` chooses.
            on_change: Called with the artifact after each change of its status.

        Raises:
            ServiceError: it failed; the message gives the reason.
        """
        fields = {"kind": "plots", "select": select, "experts": experts}
        return self._artifact(run, checked(schemas.PlotsRequest, fields), on_change)

    def calibrate(
        self,
        run: str,
        profile: str,
        *,
        subnets: int = 30,
        tables: Sequence[str] = (),
        samples: int = 10,
        on_change: Callable[[schemas.Artifact], None] | None = None,
    ) -> schemas.Artifact:
        """A lookup table of the latencies of the blocks of a run's job; waits for it.

        Args:
            run: Id of a run of either kind.
            profile: Name of the hardware profile to measure on.
            subnets: Number of whole networks to fit the scale of the table.
            tables: Names of tables of other profiles (``calibrations/ID``), from which the blocks are predicted.
            samples: Number of networks to measure where there are `tables`.
            on_change: Called with the artifact after each change of its status.

        Returns:
            The artifact, whose ``table`` is its name in the `lookup_tables` of jobs; `fetch` downloads the file.

        Raises:
            ServiceError: it failed; the message gives the reason.
        """
        fields = {
            "kind": "calibration",
            "profile": profile,
            "subnets": subnets,
            "tables": tuple(tables),
            "samples": samples,
        }
        return self._artifact(run, checked(schemas.CalibrationRequest, fields), on_change)

    def _artifact(
        self, run: str, request: BaseModel, on_change: Callable[[schemas.Artifact], None] | None
    ) -> schemas.Artifact:
        path = f"{_path_of(run)}/artifacts"
        artifact = self._transport.post(path, schemas.Artifact, body=request)
        subject = f"{run}: the artifact {artifact.artifact}"
        return finished(self._transport, artifact, f"{path}/{quoted(artifact.artifact)}", on_change, subject=subject)

    def artifacts(self, run: str) -> tuple[schemas.Artifact, ...]:
        """The cascades, plots and lookup tables of a run, oldest first.

        Args:
            run: Id of a run.
        """
        return self._transport.get(f"{_path_of(run)}/artifacts", tuple[schemas.Artifact, ...])

    def delete_artifact(self, run: str, artifact: str) -> None:
        """Deletes an artifact that has ended, with its files on the server.

        Args:
            run: Id of the run of the artifact.
            artifact: Id of an artifact that is finished, failed or cancelled, as in `schemas.Artifact.artifact`.
        """
        self._transport.send("DELETE", f"{_path_of(run)}/artifacts/{quoted(artifact)}")

    def fetch(
        self, export: schemas.Export | schemas.Artifact, folder: Path, *, on_progress: DownloadProgress | None = None
    ) -> tuple[Path, ...]:
        """Downloads the files of a finished export or artifact into a folder, see `download`; returns their paths.

        Args:
            export: A finished export, as `export` returns it, or an artifact, as `cascade`, `plot` and `calibrate` return it.
            folder: Folder of the files, which is made where it is missing. Files of an earlier export in it are replaced, and
                those of plots; any other file of the same name is an error.
            on_progress: Called with the bytes received so far and in total over all files, after each part; None for no call.
        """
        if isinstance(export, schemas.Export):
            kind, name, replaces = "exports", export.export, False
        else:
            kind, name, replaces = "artifacts", export.artifact, export.request.kind == "plots"
        path = f"{_path_of(export.run)}/{kind}/{quoted(name)}/files"
        files = [(info, f"{path}/{quoted(info.name)}") for info in export.files]
        if not files:
            about = f"{export.run}: the {kind[:-1]} {name} is {export.status} and has no files yet"
            raise ServiceError(about, code="export.not-finished")
        return download(self._transport, files, folder, replaces=replaces, on_progress=on_progress)

    # Hardware, data sets, recipes and operations

    def profiles(self) -> tuple[schemas.Profile, ...]:
        """Hardware profiles: the catalog, then added ones."""
        return self._transport.get("profiles", tuple[schemas.Profile, ...])

    def profile(self, name: str) -> schemas.Profile:
        """A hardware profile with the noise and drift of its measurements.

        Args:
            name: Name of a hardware profile of the catalog, or of one that was added.
        """
        return self._transport.get(f"profiles/{quoted(name)}", schemas.Profile)

    def add_profile(self, profile: str) -> schemas.Profile:
        """Adds a hardware profile from the text of its YAML file.

        Args:
            profile: YAML text of at most 10,000 characters; its ``name`` must be new on the server. Profiles that use ssh, or a
                class as their runtime, are rejected.
        """
        body = checked(schemas.ProfileUpload, {"profile": profile})
        return self._transport.post("profiles", schemas.Profile, body=body)

    def delete_profile(self, name: str) -> None:
        """Deletes a hardware profile that was added.

        Args:
            name: Name of an added profile that no run or measurement uses that waits or runs.
        """
        self._transport.send("DELETE", f"profiles/{quoted(name)}")

    def measure(
        self, profile: str, model: Path, *, on_change: Callable[[schemas.ModelMeasurement], None] | None = None
    ) -> schemas.ModelMeasurement:
        """Measures the latency of an ONNX model on a hardware profile and waits for it.

        Args:
            profile: Name of a hardware profile of the server.
            model: Path of an ONNX file whose weights are in it.
            on_change: Called with the measurement after each change of its status.

        Raises:
            ServiceError: the file cannot be read, or the measurement failed.
        """
        path = f"profiles/{quoted(profile)}/measurements"
        measurement = self._upload(path, schemas.ModelMeasurement, "model", model)
        subject = f"{profile}: the measurement of {model}"
        return finished(
            self._transport, measurement, f"{path}/{quoted(measurement.measurement)}", on_change, subject=subject
        )

    def add_data(
        self,
        name: str,
        archive: Path,
        *,
        kind: str = "",
        task: str = "",
        options: Mapping[str, str | bool] | None = None,
        on_progress: UploadProgress | None = None,
    ) -> schemas.DataUpload:
        """Uploads a data set, which the server reads as a job does before it stores it.

        Args:
            name: New name of 1 to 64 letters, digits, ``-`` and ``_`` that begins with a letter or a digit.
            archive: Path of a folder, which is packed; of a zip archive; of a table (``.csv``, ``.tsv``, ``.jsonl``); or of a
                text file. Images are in one folder a class, or named in a table beside them.
            kind: The data set's name in jobs, e.g. ``text-pairs``; "" to recognise it.
            task: ``classification``, ``regression`` or ``multi-label``, by which a table's labels are read; "" to recognise it.
            options: Keys of a job's data section that say how the files are read, e.g. ``{"label_column": "stars"}``.
            on_progress: Called while files are packed and sent.

        Raises:
            ServiceError: the file cannot be read.
        """
        form = {"name": name, "kind": kind, "task": task, "options": json.dumps(dict(options or {}))}
        return self._upload("data", schemas.DataUpload, "archive", archive, form, on_progress=on_progress)

    def data_sets(self) -> tuple[schemas.DataSet, ...]:
        """The uploaded data sets, by name."""
        return self._transport.get("data", tuple[schemas.DataSet, ...])

    def delete_data(self, name: str) -> None:
        """Deletes an uploaded data set.

        Args:
            name: Name of an uploaded data set that no run uses that waits or runs. Ended runs that used it can no longer be
                resumed or exported.
        """
        self._transport.send("DELETE", f"data/{quoted(name)}")

    def add_model(self, name: str, file: Path, *, on_progress: UploadProgress | None = None) -> schemas.CapturedModel:
        """Uploads a model that `nas capture` wrote, or a pretrained network.

        A job names the former as ``supernet: {model: models/NAME}``, the latter as ``supernet: {pretrained: models/NAME}``.

        Args:
            name: New name of 1 to 64 letters, digits, ``-`` and ``_`` that begins with a letter or a digit.
            file: Path of the captured model; of the folder of a pretrained network with its ``config.json`` and safetensors, or
                of a zip archive of one; or of a GGUF file.
            on_progress: Called while files are packed and sent.

        Raises:
            ServiceError: the file cannot be read.
        """
        form = {"name": name}
        return self._upload("models", schemas.CapturedModel, "model", file, form, is_of_pretrained, on_progress)

    def models(self) -> tuple[schemas.CapturedModel, ...]:
        """The captured models and pretrained networks, by name."""
        return self._transport.get("models", tuple[schemas.CapturedModel, ...])

    def delete_model(self, name: str) -> None:
        """Deletes a model.

        Args:
            name: Name of a model that no run names that waits or runs; runs that have ended keep their copy of a captured one.
        """
        self._transport.send("DELETE", f"models/{quoted(name)}")

    def tasks(
        self, *, kind: schemas.TaskKindName | None = None, status: schemas.TaskStatusName | None = None
    ) -> tuple[schemas.Task, ...]:
        """The exports and measurements of all runs and profiles, newest first.

        Args:
            kind: Only tasks of this kind; None for all.
            status: Only tasks of this status; None for all.
        """
        return self._transport.get("tasks", tuple[schemas.Task, ...], {"kind": kind, "status": status})

    def me(self) -> schemas.Person:
        """The name and the role of the client's token."""
        return self._transport.get("me", schemas.Person)

    def audit(
        self,
        *,
        who: str = "",
        action: str = "",
        thing: str = "",
        outcome: schemas.AuditOutcome | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> schemas.AuditPage:
        """Who did what to which thing, the newest first; for administrators.

        Args:
            who: Only entries of this person; "" for all.
            action: A part of the action, e.g. ``delete``; "" for all.
            thing: A part of the thing's name; "" for all.
            outcome: Only entries of this outcome; None for all.
            offset: How many to skip.
            limit: How many to return at most, up to 1,000.
        """
        filters = {"who": who, "action": action, "thing": thing, "outcome": outcome, "offset": offset, "limit": limit}
        return self._transport.get("audit", schemas.AuditPage, filters)

    def audit_lines(self) -> str:
        """The whole audit log as lines of JSON, the oldest first; for administrators."""
        return self._transport.read("audit.jsonl").text

    def cancel_task(self, task: str) -> schemas.Task:
        """Cancels an export or a measurement.

        Args:
            task: Id of an export, a measurement or a plan that is queued or running, as in `schemas.Task.task`.
        """
        return self._transport.post(f"tasks/{quoted(task)}/cancel", schemas.Task)

    def delete_measurement(self, profile: str, measurement: str) -> None:
        """Deletes a measurement that has ended.

        Args:
            profile: Name of the hardware profile of the measurement.
            measurement: Id of a measurement that is finished, failed or cancelled.
        """
        self._transport.send("DELETE", f"profiles/{quoted(profile)}/measurements/{quoted(measurement)}")

    def recipes(self) -> tuple[schemas.Recipe, ...]:
        """The recipes."""
        return self._transport.get("recipes", tuple[schemas.Recipe, ...])

    def recipe(self, name: str, *, data: str = "", model: str = "") -> schemas.Recipe:
        """A recipe with its text.

        Args:
            name: Name of a recipe, e.g. ``digits-cnn``; `recipes` lists them.
            data: Name of an uploaded data set that the text then names; "" for the recipe's own.
            model: Name of an uploaded model that the text then names; "" for the recipe's own.
        """
        chosen = {key: value for key, value in (("data", data), ("model", model)) if value}
        return self._transport.get(f"recipes/{quoted(name)}", schemas.Recipe, chosen)

    def health(self) -> schemas.Health:
        """The server's health and version."""
        return self._transport.get("health", schemas.Health)

    def ready(self) -> schemas.Readiness:
        """The readiness of the server: whether jobs can run now, and otherwise the reasons."""
        return self._transport.get("ready", schemas.Readiness, accept=(503,))

    def _upload(
        self,
        path: str,
        kind: type[T],
        field: str,
        file: Path,
        form: Mapping[str, str] | None = None,
        chooses: Callable[[str], bool] = lambda name: True,
        on_progress: UploadProgress | None = None,
    ) -> T:
        """Sends a file or folder as form data."""
        with opened_upload(file, chooses=chooses, on_progress=on_progress) as (name, content):
            return self._transport.post(path, kind, form=form, files={field: (name, content)}, answer_s=UPLOAD_S)


def _path_of(run: str) -> str:
    return f"runs/{quoted(run)}"


def _submission(
    job: str | dict[str, Any],
    kind: schemas.RunKind,
    hardware: Sequence[str] | None,
    priority: schemas.PriorityName | None = None,
) -> schemas.JobSubmission:
    """A submission of a job."""
    values: dict[str, Any] = {"job": job, "kind": kind, "hardware": None if hardware is None else tuple(hardware)}
    return checked(schemas.JobSubmission, values if priority is None else {**values, "priority": priority})
