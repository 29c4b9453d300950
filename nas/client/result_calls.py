"""Calls about what searches found, and the export of networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nas.api import schemas
from nas.client.calls import PATIENCE_S, Calls, path_of
from nas.client.files import Received, download
from nas.client.following import Patience, finished
from nas.client.transport import checked, quoted
from nas.errors import ServiceError

_PAGE = 1000


class ResultCalls(Calls):
    """Fronts, evaluations, predictions and exports."""

    def front(self, run: str, *, profile: str | None = None, select: str | None = None) -> schemas.Front:
        """The Pareto front of a search.

        Args:
            profile: of this hardware profile only.
            select: limits that replace the job's constraints, e.g. ``latency_ms<=1.0``.
        """
        return self._transport.get(f"{path_of(run)}/front", schemas.Front, {"profile": profile, "select": select})

    def evaluations(
        self, run: str, *, sort: str | None = None, descending: bool = False, page: int = _PAGE
    ) -> Iterator[schemas.Network]:
        """All evaluated networks, fetched page by page.

        Args:
            sort: name of a metric; None keeps the order of evaluation.
            page: networks per request.
        """
        offset = 0
        while True:
            params = {"offset": offset, "limit": page, "sort": sort, "descending": descending}
            found = self._transport.get(f"{path_of(run)}/evaluations", schemas.NetworksPage, params)
            yield from found.networks
            offset += len(found.networks)
            if not found.networks or offset >= found.total:
                return

    def predicted(self, run: str, *, limit: int = 2000) -> schemas.NetworksPage:
        """Networks with predicted values that were never measured."""
        return self._transport.get(f"{path_of(run)}/predicted", schemas.NetworksPage, {"limit": limit})

    def predictors(self, run: str) -> tuple[schemas.PredictorInfo, ...]:
        """The quality of each objective's predictor."""
        return self._transport.get(f"{path_of(run)}/predictors", tuple[schemas.PredictorInfo, ...])

    def convergence(self, run: str) -> tuple[tuple[int, float], ...]:
        """Pairs of (evaluations, hypervolume) over the search."""
        return self._transport.get(f"{path_of(run)}/convergence", tuple[tuple[int, float], ...])

    def pick(self, run: str, select: str, *, profile: str | None = None) -> schemas.Network:
        """The most accurate measured network within limits, e.g. ``latency_ms<=1.0``."""
        return self._transport.get(f"{path_of(run)}/pick", schemas.Network, {"select": select, "profile": profile})

    def compare(self, runs: Sequence[str]) -> schemas.Comparison:
        """Searches compared in the objectives that they share."""
        return self._transport.get("compare", schemas.Comparison, {"run": list(runs)})

    def export(
        self, run: str, *, select: str | None = None, index: int | None = None,
        on_change: Callable[[schemas.Export], None] | None = None,
    ) -> schemas.Export:  # fmt: skip
        """Exports a network as verified ONNX and waits for it; `fetch` downloads the files.

        Args:
            select: the most accurate measured network within limits.
            index: a member of the front; without either, the knee.
            on_change: called with the export after each change of its status.

        Raises:
            ServiceError: the export failed; the message gives the reason.
        """
        request = checked(schemas.ExportRequest, {"select": select, "index": index})
        answer = self._transport.send("POST", f"{path_of(run)}/exports", body=request)
        made = self._transport.parsed(answer, schemas.Export)
        path = f"{path_of(run)}/exports/{quoted(made.export)}"
        made = finished(self._transport, made, path, Patience(PATIENCE_S), on_change)
        if made.status == "failed":
            raise ServiceError(f"{run}: the export failed: {made.reason or 'no reason is known'}")
        return made

    def exports(self, run: str) -> tuple[schemas.Export, ...]:
        """All exports of a run, oldest first."""
        return self._transport.get(f"{path_of(run)}/exports", tuple[schemas.Export, ...])

    def fetch(self, export: schemas.Export, folder: Path, *, on_progress: Received | None = None) -> tuple[Path, ...]:
        """Downloads the files of a finished export, all or none, each checked by its digest.

        Args:
            folder: created if missing.
            on_progress: called with the bytes received so far and in total.
        """
        path = f"{path_of(export.run)}/exports/{quoted(export.export)}/files"
        files = [(info, f"{path}/{quoted(info.name)}") for info in export.files]
        if not files:
            raise ServiceError(
                f"{export.run}: the export {export.export} is {export.status} and has no files yet",
                code="export.not-finished",
            )
        return download(self._transport, files, folder, on_progress=on_progress)
