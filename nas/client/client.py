"""Everything that the service's API offers, as methods."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from nas.api import schemas
from nas.client.files import Received, download
from nas.client.following import LogFollower, OnGone, Patience, Watch, finished
from nas.client.transport import Transport, checked, quoted
from nas.errors import ServiceError

PATIENCE_S = 300.0
"""How long a server may be gone while something is followed: it is started again, say."""
_PAGE = 1000


class NasClient:
    """A client of one server; safe to use from several threads, and closed by ``with``.

    Every method raises `nas.client.RefusedError` where the server says no (of a run that is not there, too),
    `nas.client.UnreachableError` where none answers, and `nas.errors.ServiceError`, which both of them are, for what no
    server takes.

    Args:
        server: its URL, e.g. ``http://127.0.0.1:8700``.
        token: shown to it, where it asks for one.
        wait: sleeps for seconds.
        through: what carries requests in place of the network.
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
        """Whether that is on this machine."""
        return self._transport.on_loopback

    # Jobs and runs

    def check(self, job: str | dict[str, Any], *, hardware: Sequence[str] | None = None) -> schemas.JobCheck:
        """What is wrong with a job, by field; nothing is kept of it.

        Args:
            job: the text of a job file, or what it says.
            hardware: profiles in place of the job's own.
        """
        answer = self._transport.send("POST", "jobs/check", body=_submission(job, "search", hardware))
        return self._transport.parsed(answer, schemas.JobCheck)

    def submit(
        self, job: str | dict[str, Any], *, kind: schemas.RunKind = "search", hardware: Sequence[str] | None = None
    ) -> schemas.RunSummary:
        """Submits a job, and gives the run that it became.

        Args:
            job: the text of a job file, or what it says.
            kind: a search, or the training of its supernet alone.
            hardware: profiles in place of the job's own.
        """
        answer = self._transport.send("POST", "runs", body=_submission(job, kind, hardware))
        return self._transport.parsed(answer, schemas.RunSummary)

    def runs(
        self, *, status: schemas.RunStatusName | None = None, kind: schemas.RunKind | None = None,
        name: str | None = None, offset: int = 0, limit: int = 50,
    ) -> schemas.RunsPage:  # fmt: skip
        """Some of the runs, the newest first.

        Args:
            name: a part of the run's name.
        """
        params = {"status": status, "kind": kind, "name": name, "offset": offset, "limit": limit}
        return self._transport.get("runs", schemas.RunsPage, params)

    def status(self, run: str) -> schemas.RunSummary:
        """Where a run stands."""
        return self._transport.get(f"{_of(run)}/status", schemas.RunSummary)

    def detail(self, run: str) -> schemas.RunDetail:
        """A run with what it is made of."""
        return self._transport.get(_of(run), schemas.RunDetail)

    def watch(
        self, run: str, *, patience_s: float = PATIENCE_S, on_gone: OnGone | None = None
    ) -> Iterator[schemas.RunSummary]:
        """Where a run stands, now and each time that this changes, until it has ended.

        Args:
            patience_s: how long the server may be gone in between.
            on_gone: told when it is, and why.
        """
        return iter(Watch(self._transport, _of(run), Patience(patience_s, on_gone=on_gone)))

    def logs(self, run: str) -> str:
        """What the run's drivers wrote until now, the oldest first."""
        return self._transport.read(f"{_of(run)}/logs").text

    def follow_logs(self, run: str, *, patience_s: float = PATIENCE_S, on_gone: OnGone | None = None) -> Iterator[str]:
        """The same, piece by piece as it is written, until the run has ended; see `watch`."""
        return iter(LogFollower(self._transport, _of(run), Patience(patience_s, on_gone=on_gone)))

    def cancel(self, run: str) -> schemas.RunSummary:
        """Ends a run; it can be resumed."""
        return self._transport.parsed(self._transport.send("POST", f"{_of(run)}/cancel"), schemas.RunSummary)

    def resume(
        self, run: str, *, evaluations: str | int | None = None, minutes: str | float | None = None
    ) -> schemas.RunSummary:
        """Puts a run that has ended into the queue again.

        Args:
            evaluations: a new budget (``150``) or more of it (``"+50"``), with which a finished run goes on, too.
            minutes: likewise.
        """
        request = checked(schemas.ResumeRequest, {"evaluations": _text(evaluations), "minutes": _text(minutes)})
        answer = self._transport.send("POST", f"{_of(run)}/resume", body=request)
        return self._transport.parsed(answer, schemas.RunSummary)

    def delete(self, run: str) -> None:
        """Removes a run that no driver has, with all its files."""
        self._transport.send("DELETE", _of(run))

    # Results

    def front(self, run: str, *, profile: str | None = None, select: str | None = None) -> schemas.Front:
        """A search's front.

        Args:
            profile: of this hardware profile alone.
            select: within these limits in place of the job's, e.g. ``latency_ms<=1.0``.
        """
        return self._transport.get(f"{_of(run)}/front", schemas.Front, {"profile": profile, "select": select})

    def evaluations(
        self, run: str, *, sort: str | None = None, descending: bool = False, page: int = _PAGE
    ) -> Iterator[schemas.Network]:
        """All evaluated networks, fetched as they are needed.

        Args:
            sort: a figure's name; None is the order in which they were evaluated.
            page: networks asked for at once.
        """
        offset = 0
        while True:
            params = {"offset": offset, "limit": page, "sort": sort, "descending": descending}
            found = self._transport.get(f"{_of(run)}/evaluations", schemas.NetworksPage, params)
            yield from found.networks
            offset += len(found.networks)
            if not found.networks or offset >= found.total:
                return

    def predicted(self, run: str, *, limit: int = 2000) -> schemas.NetworksPage:
        """Networks that were predicted and never measured."""
        return self._transport.get(f"{_of(run)}/predicted", schemas.NetworksPage, {"limit": limit})

    def predictors(self, run: str) -> tuple[schemas.PredictorInfo, ...]:
        """How well each objective was predicted."""
        return self._transport.get(f"{_of(run)}/predictors", tuple[schemas.PredictorInfo, ...])

    def convergence(self, run: str) -> tuple[tuple[int, float], ...]:
        """(evaluations, hypervolume) as the search went."""
        return self._transport.get(f"{_of(run)}/convergence", tuple[tuple[int, float], ...])

    def pick(self, run: str, select: str, *, profile: str | None = None) -> schemas.Network:
        """The most accurate measured network within limits, e.g. ``latency_ms<=1.0``."""
        return self._transport.get(f"{_of(run)}/pick", schemas.Network, {"select": select, "profile": profile})

    def compare(self, runs: Sequence[str]) -> schemas.Comparison:
        """Searches side by side, in the objectives that all of them have."""
        return self._transport.get("compare", schemas.Comparison, {"run": list(runs)})

    # Exports

    def export(
        self, run: str, *, select: str | None = None, index: int | None = None,
        on_change: Callable[[schemas.Export], None] | None = None,
    ) -> schemas.Export:  # fmt: skip
        """Has a network exported as checked ONNX, and waits until that is done; `fetch` takes its files.

        Args:
            select: the most accurate measured network within limits.
            index: a member of the front; neither is the front's knee.
            on_change: told where the export stands.

        Raises:
            ServiceError: the export failed; the text says why.
        """
        request = checked(schemas.ExportRequest, {"select": select, "index": index})
        answer = self._transport.send("POST", f"{_of(run)}/exports", body=request)
        made = self._transport.parsed(answer, schemas.Export)
        path = f"{_of(run)}/exports/{quoted(made.export)}"
        made = finished(self._transport, made, path, Patience(PATIENCE_S), on_change)
        if made.status == "failed":
            raise ServiceError(f"{run}: the export failed: {made.reason or 'no reason is known'}")
        return made

    def exports(self, run: str) -> tuple[schemas.Export, ...]:
        """All exports of a run, the oldest first."""
        return self._transport.get(f"{_of(run)}/exports", tuple[schemas.Export, ...])

    def fetch(self, export: schemas.Export, folder: Path, *, on_progress: Received | None = None) -> tuple[Path, ...]:
        """Downloads a finished export's files, all or none, each checked by its digest.

        Args:
            folder: where to; made where there is none.
            on_progress: told of bytes so far, and of all.
        """
        path = f"{_of(export.run)}/exports/{quoted(export.export)}/files"
        files = [(info, f"{path}/{quoted(info.name)}") for info in export.files]
        if not files:
            raise ServiceError(f"{export.run}: the export {export.export} is {export.status} and has no files yet")
        return download(self._transport, files, folder, on_progress=on_progress)

    # Hardware, recipes, operations

    def profiles(self) -> tuple[schemas.Profile, ...]:
        """Hardware profiles: those of the catalog, then those that were added."""
        return self._transport.get("profiles", tuple[schemas.Profile, ...])

    def profile(self, name: str) -> schemas.Profile:
        """One of them, with the noise and the drift of its measurements."""
        return self._transport.get(f"profiles/{quoted(name)}", schemas.Profile)

    def add_profile(self, profile: str) -> schemas.Profile:
        """Adds a hardware profile, given as the text of its YAML file."""
        answer = self._transport.send("POST", "profiles", body=checked(schemas.ProfileUpload, {"profile": profile}))
        return self._transport.parsed(answer, schemas.Profile)

    def measure(
        self, profile: str, model: Path, *, on_change: Callable[[schemas.ModelMeasurement], None] | None = None
    ) -> schemas.ModelMeasurement:
        """Has an ONNX model's latency measured on a hardware profile, and waits for it.

        Raises:
            ServiceError: the file cannot be read, or the measurement failed.
        """
        path = f"profiles/{quoted(profile)}/measurements"
        made = self._transport.parsed(self._upload(path, "model", model), schemas.ModelMeasurement)
        path = f"{path}/{quoted(made.measurement)}"
        made = finished(self._transport, made, path, Patience(PATIENCE_S), on_change)
        if made.status == "failed":
            raise ServiceError(f"{profile}: {model} was not measured: {made.reason or 'no reason is known'}")
        return made

    def add_data(self, name: str, archive: Path) -> schemas.DataUpload:
        """Uploads a small data set of images: a zip archive with one folder a class.

        Raises:
            ServiceError: the file cannot be read.
        """
        return self._transport.parsed(self._upload("data", "archive", archive, {"name": name}), schemas.DataUpload)

    def recipes(self) -> tuple[schemas.Recipe, ...]:
        """The ready jobs."""
        return self._transport.get("recipes", tuple[schemas.Recipe, ...])

    def recipe(self, name: str) -> schemas.Recipe:
        """One of them, with its text."""
        return self._transport.get(f"recipes/{quoted(name)}", schemas.Recipe)

    def health(self) -> schemas.Health:
        """That the server answers, and which version it is."""
        return self._transport.get("health", schemas.Health)

    def ready(self) -> schemas.Readiness:
        """Whether jobs can be run now, and what keeps them from it."""
        return self._transport.get("ready", schemas.Readiness, accept=(503,))

    def _upload(self, path: str, field: str, file: Path, form: Mapping[str, str] | None = None) -> httpx.Response:
        """Sends a file as a form does."""
        try:
            with file.open("rb") as opened:
                return self._transport.send("POST", path, form=form, files={field: (file.name, opened)})
        except OSError as error:
            raise ServiceError(f"{file}: cannot be read: {error.strerror}; look at its path and permissions") from None


def _of(run: str) -> str:
    return f"runs/{quoted(run)}"


def _submission(
    job: str | dict[str, Any], kind: schemas.RunKind, hardware: Sequence[str] | None
) -> schemas.JobSubmission:
    return checked(
        schemas.JobSubmission, {"job": job, "kind": kind, "hardware": None if hardware is None else tuple(hardware)}
    )


def _text(budget: str | float | None) -> str | None:
    return None if budget is None else str(budget)
