"""Calls about the results of runs, and what tasks make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nas.errors import ServiceError
from nas.results.export.format_names import ONNX, FormatName
from nas.service.api import schemas
from nas.service.client.files import DownloadProgress, download, download_archive
from nas.service.client.following import finished
from nas.service.client.transport import Calls, checked, path_of, quoted


class ResultCalls(Calls):
    """Calls about fronts, evaluations, predictions, exports and artifacts."""

    def front(self, run: str, *, profile: str | None = None, select: str | None = None) -> schemas.Front:
        """The Pareto front of a search.

        Args:
            run: Id of a search.
            profile: of this hardware profile only.
            select: limits that replace the job's constraints, e.g. ``latency_ms<=1.0``.
        """
        return self._transport.get(f"{path_of(run)}/front", schemas.Front, {"profile": profile, "select": select})

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
            networks_page = self._transport.get(f"{path_of(run)}/evaluations", schemas.NetworksPage, params)
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
        return self._transport.get(f"{path_of(run)}/predicted", schemas.NetworksPage, {"limit": limit})

    def training(self, run: str) -> schemas.Training:
        """The training of a run's supernet, by epoch.

        Args:
            run: Id of a run of either kind.
        """
        return self._transport.get(f"{path_of(run)}/training", schemas.Training)

    def predictors(self, run: str) -> tuple[schemas.PredictorInfo, ...]:
        """The quality of each objective's predictor.

        Args:
            run: Id of a search.
        """
        return self._transport.get(f"{path_of(run)}/predictors", tuple[schemas.PredictorInfo, ...])

    def steps(self, run: str, *, offset: int = 0, limit: int = 1000) -> schemas.SearchSteps:
        """How each step of a search chose its networks, and by which models.

        Args:
            run: Id of a search.
            offset: Number of steps to skip.
            limit: Largest number of steps, 1 to 1,000; ``total`` counts all.
        """
        return self._transport.get(f"{path_of(run)}/steps", schemas.SearchSteps, {"offset": offset, "limit": limit})

    def convergence(self, run: str) -> tuple[tuple[int, float], ...]:
        """Pairs of (evaluations, hypervolume) over the search.

        Args:
            run: Id of a search.
        """
        return self._transport.get(f"{path_of(run)}/convergence", tuple[tuple[int, float], ...])

    def pick(self, run: str, select: str, *, profile: str | None = None) -> schemas.Network:
        """The most accurate measured network within limits, e.g. ``latency_ms<=1.0``.

        Args:
            run: Id of a search.
            select: Limits that the network satisfies, separated by commas, e.g. ``latency_ms<=1.0, accuracy>=0.9``; at most 500
                characters.
            profile: Hardware profile whose objectives alone count; None for all profiles of the search.
        """
        return self._transport.get(f"{path_of(run)}/pick", schemas.Network, {"select": select, "profile": profile})

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
        format: FormatName = ONNX,
        with_preprocessing: bool = False,
        on_change: Callable[[schemas.Export], None] | None = None,
    ) -> schemas.Export:
        """Exports a network, verified, and waits for it; `fetch` downloads the files.

        Args:
            run: Id of a search; or of a training, with `select`.
            select: the most accurate measured network within limits; or ``key=0-2-1``, the measured network of this key.
            index: a member of the front; without either, the knee.
            format: ``onnx``, ``torch``, or the folders ``transformers``, ``gguf``, ``genai`` and ``optimum``.
            with_preprocessing: whether the graph takes decoded images of any size, and resizes and normalises them itself.
            on_change: called with the export after each change of its status.

        Raises:
            ServiceError: the export failed; the message gives the reason.
        """
        fields: dict[str, Any] = {"select": select, "index": index}
        # Left out otherwise, for servers that do not know them.
        if format != ONNX:
            fields["format"] = format
        if with_preprocessing:
            fields["with_preprocessing"] = True
        request, path = checked(schemas.ExportRequest, fields), f"{path_of(run)}/exports"
        export = self._transport.post(path, schemas.Export, body=request)
        return finished(
            self._transport, export, f"{path}/{quoted(export.export)}", on_change, subject=f"{run}: the export"
        )

    def exports(self, run: str) -> tuple[schemas.Export, ...]:
        """All exports of a run, oldest first.

        Args:
            run: Id of a run.
        """
        return self._transport.get(f"{path_of(run)}/exports", tuple[schemas.Export, ...])

    def archive(self, run: str, path: Path, *, on_progress: Callable[[int], None] | None = None) -> Path:
        """Downloads the job, results, log, plots, exports and artifacts of a run as one zip file; returns its path.

        Args:
            run: Id of a run.
            path: Path of the file, which must not exist.
            on_progress: Called with the bytes received so far, after each part; None for no call.

        Raises:
            ServiceError: the file exists or cannot be written, or the connection broke.
        """
        return download_archive(self._transport, f"{path_of(run)}/archive", path, on_progress=on_progress)

    def delete_export(self, run: str, export: str) -> None:
        """Deletes an export that has ended, with its files on the server.

        Args:
            run: Id of the run that was exported.
            export: Id of an export that is finished, failed or cancelled, as in `schemas.Export.export`.
        """
        self._transport.send("DELETE", f"{path_of(run)}/exports/{quoted(export)}")

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
        return self._transport.post(f"{path_of(run)}/finetunings", schemas.RunSummary, body=body)

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
        path = f"{path_of(run)}/artifacts"
        artifact = self._transport.post(path, schemas.Artifact, body=request)
        subject = f"{run}: the artifact {artifact.artifact}"
        return finished(self._transport, artifact, f"{path}/{quoted(artifact.artifact)}", on_change, subject=subject)

    def artifacts(self, run: str) -> tuple[schemas.Artifact, ...]:
        """The cascades, plots and lookup tables of a run, oldest first.

        Args:
            run: Id of a run.
        """
        return self._transport.get(f"{path_of(run)}/artifacts", tuple[schemas.Artifact, ...])

    def delete_artifact(self, run: str, artifact: str) -> None:
        """Deletes an artifact that has ended, with its files on the server.

        Args:
            run: Id of the run of the artifact.
            artifact: Id of an artifact that is finished, failed or cancelled, as in `schemas.Artifact.artifact`.
        """
        self._transport.send("DELETE", f"{path_of(run)}/artifacts/{quoted(artifact)}")

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
        path = f"{path_of(export.run)}/{kind}/{quoted(name)}/files"
        files = [(info, f"{path}/{quoted(info.name)}") for info in export.files]
        if not files:
            about = f"{export.run}: the {kind[:-1]} {name} is {export.status} and has no files yet"
            raise ServiceError(about, code="export.not-finished")
        return download(self._transport, files, folder, replaces=replaces, on_progress=on_progress)
