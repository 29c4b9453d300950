"""The index of a folder's runs: status, job, report and overview of each, read only when they have changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hardware_profiles.waiting import time_of_day
from nas.engine.run_listing import RunSnapshot, snapshot_of, training_history
from nas.engine.store.database import Database
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import database_of
from nas.engine.store.sql import SqlStore
from nas.errors import NasError, StoreAwayError
from nas.jobs.schema import WHAT, SearchJob, is_profile_path, load_job, parse_stored_job
from nas.jobs.schema.strict_yaml import read_text
from nas.results.analysis.insight import genes_json
from nas.results.analysis.report import RunReport
from nas.runs.run import Run
from nas.service.stamped_cache import StampedCache, fresh
from nas.service.views.comparison import MeasurementBasis
from nas.service.views.run_overviews import RunOverview, overview_of
from supernets.networks.capture.model_names import is_file

_MAX_RUNS = 100_000
_MAX_NETWORKS = 60_000
"""Of all cached reports; a network of 45 genes takes 1.2 KiB, and 1.9 KiB once a point is made of it."""
_MAX_EPOCHS = 100_000
"""Of all cached trainings."""
_MAX_GENES = 500
"""Runs whose importance of genes is cached."""
_MAX_REASONS = 10_000
"""Cached reasons; those of many networks are equal."""
_REMOTE_S = 1.0
"""Lifetime of a snapshot whose database is on a server."""
_OVERVIEW_S = 10.0
"""Lifetime of an overview: that of a run under way changes with every measurement, and lists are fetched every few seconds."""
_AWAY_S = 30.0
"""A database server that did not answer is not asked again for this long: each attempt waits for its timeout."""


@dataclass(frozen=True, slots=True)
class JobSummary:
    """The parts of a job file that lists of runs show.

    Attributes:
        data: the name of its data set, or of the folder or file that the data are in.
        epochs: 0 where the job starts from a trained supernet.
        needs: ids of the runs that it starts from.
        finetuned: id of the run of which it fine-tunes one network, and the network's key; None for any other job.
        paths: files and folders of its data, of its hardware profiles, its lookup tables and its models.
    """

    name: str
    data: str
    evaluations: int
    epochs: int
    needs: frozenset[str]
    paths: frozenset[Path]
    finetuned: tuple[str, str] | None = None


class RunIndex:
    """The runs of one folder. Safe to use from several threads.

    Args:
        submitted_kind: the kind that a run was submitted as; None for one that was not submitted.
        hide_paths: removes the paths of the server from a reason that a driver recorded, see `nas.service.path_privacy`.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        runs: RunsFolder,
        submitted_kind: Callable[[str], str | None] = lambda run: None,
        *,
        hide_paths: Callable[[str], str] = str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runs, self._submitted_kind, self._clock = runs, submitted_kind, clock
        self._hide_paths = lru_cache(_MAX_REASONS)(hide_paths)
        self._snapshots = StampedCache(self._read_snapshot, max_weight=_MAX_RUNS, remote_s=_REMOTE_S, clock=clock)
        self._reports = StampedCache(self._build_report, max_weight=_MAX_NETWORKS, weigh=_networks_in, clock=clock)
        self._overviews = StampedCache(
            lambda folder, _: overview_of(self._reports.get(folder, None)),
            max_weight=_MAX_RUNS,
            rest_s=_OVERVIEW_S,
            clock=clock,
        )
        self._trainings = StampedCache(
            self._read_training, max_weight=_MAX_EPOCHS, weigh=lambda epochs: 1 + len(epochs), clock=clock
        )
        self._genes = StampedCache(self._compute_genes, max_weight=_MAX_GENES, clock=clock)
        # Of runs that may still change: opening a store costs more than reading it. It takes 60 KiB, and no file is open.
        self._stores: dict[str, SqlStore] = {}
        self._away: dict[str, tuple[float, float]] = {}  # database servers, and when they first and last did not answer
        self._last: dict[str, RunSnapshot] = {}  # of runs whose database is on a server

    def snapshot(self, run: str) -> RunSnapshot:
        """The status and progress of a run now.

        Raises:
            UnknownNameError: there is no such run.
            StoreError: its database is damaged, or cannot be read now.
            StoreAwayError: its database's server does not answer, or did not a moment ago.
        """
        folder = self._runs.get(run)
        database = database_of(folder)
        is_file = database.server is None
        is_held = is_file and database.is_held()  # before the store is read; see `snapshot_of`
        snapshot = self._snapshots.get(folder)
        kind = snapshot.kind if snapshot.begun else self._submitted_kind(run) or snapshot.kind
        snapshot = replace(snapshot.with_driver(is_held if is_file else snapshot.has_driver), kind=kind)
        if not is_file:
            self._last[run] = snapshot
        return snapshot

    def last_snapshot(self, run: str) -> RunSnapshot:
        """The status and progress of a run now, or before its database server went away; raises as `snapshot`."""
        try:
            return self.snapshot(run)
        except StoreAwayError:
            if (last := self._last.get(run)) is None:
                raise
            first, _ = self._away.get(str(database_of(self._runs.get(run)).server), (self._clock(), 0.0))
            reason = f"waits for the database server since {time_of_day(first)}" if last.open else last.reason
            return replace(last, reason=reason, outdated=True)

    def report(self, run: str, profile: str | None = None) -> RunReport:
        """The report of a search on all of its hardware profiles, or on one.

        Raises:
            UnknownNameError: there is no such run, or it has no objective on such a profile.
            StoreError: as `snapshot`.
        """
        return self._reports.get(self._runs.get(run), profile)

    def overview(self, run: str) -> RunOverview:
        """The best values and the front of a search, at most `_OVERVIEW_S` old; raises as `report`."""
        return self._overviews.get(self._runs.get(run))

    def training(self, run: str) -> list[Mapping[str, Any]]:
        """The epochs of a run's training; raises as `snapshot`."""
        return self._trainings.get(self._runs.get(run))

    def genes(self, run: str) -> Mapping[str, Any]:
        """The importance of genes and the diversity of the front of a search; raises as `report`."""
        return self._genes.get(self._runs.get(run))

    def job(self, run: str) -> JobSummary:
        """A summary of the run's job file.

        Raises:
            UnknownNameError: there is no such run.
            JobError: its job file is damaged.
        """
        folder = self._runs.get(run)
        return _job_summary(folder.job_file, folder.written)

    def written_job(self, run: str) -> SearchJob:
        """The job of a run as its client wrote it; raises as `job`."""
        folder = self._runs.get(run)
        text = read_text(folder.submitted_file if folder.submitted_file.is_file() else folder.job_file, noun=WHAT)
        return parse_stored_job(text, source="job")

    def basis(self, run: str) -> MeasurementBasis:
        """The conditions under which the values of a run were measured; raises as `snapshot`."""
        with Run.open(self._runs, run).store() as store:
            return MeasurementBasis.read(store)

    def changed(self, run: str) -> None:
        """Reads the status of a run again, whose store was changed by this process: on a server, a change has no stamp."""
        self._snapshots.forget(run)

    def forget(self, run: str) -> None:
        """Closes the store of a run that was removed."""
        self._last.pop(run, None)
        if (store := self._stores.pop(run, None)) is not None:
            store.close()

    def _compute_genes(self, folder: RunFolder, _key: str | None) -> Mapping[str, Any]:
        return genes_json(self.report(folder.id))

    def _read_training(self, folder: RunFolder, _key: str | None) -> list[Mapping[str, Any]]:
        with Run(folder, self._runs).store() as store:
            return training_history(folder, store)

    def _build_report(self, folder: RunFolder, profile: str | None) -> RunReport:
        report = Run(folder, self._runs).report_of(profile)
        failed, skipped = (
            {key: self._hide_paths(reason) for key, reason in reasons.items()}
            for reasons in (report.failed, report.screened_out)
        )
        return replace(report, failed=failed, screened_out=skipped)

    def _read_snapshot(self, folder: RunFolder, _key: str | None) -> RunSnapshot:
        database = database_of(folder)
        self._check_answers(database.server)
        is_held = database.server is not None and database.is_held()
        try:
            snapshot = snapshot_of(self._opened(folder.id, database), has_driver=is_held)
        except NasError as error:
            self._stores.pop(folder.id, None)
            if database.server is not None and isinstance(error, StoreAwayError):
                now = self._clock()
                self._away[database.server] = (self._away.get(database.server, (now, now))[0], now)
            raise
        if database.server is not None:
            self._away.pop(database.server, None)
        if not snapshot.open and (store := self._stores.pop(folder.id, None)) is not None:
            store.close()
        reason, waiting = self._hide_paths(snapshot.reason), self._hide_paths(snapshot.waiting)
        return replace(snapshot, reason=reason, waiting=waiting)

    def _opened(self, run: str, database: Database) -> SqlStore:
        store = self._stores.get(run)
        if store is None:
            store = self._stores[run] = SqlStore.open(database, create=False, driver=False)
        return store

    def _check_answers(self, server: str | None) -> None:
        """Raises where a server did not answer a moment ago; after that, only one caller asks it again."""
        if server is None or server not in self._away:
            return
        now = self._clock()
        first, last = self._away[server]
        if fresh(last, now, _AWAY_S):
            raise StoreAwayError(f"{server}: did not answer a moment ago; its runs cannot be read until it does")
        self._away[server] = (first, now)


def _networks_in(report: RunReport) -> int:
    return 1 + len(report.evaluated) + len(report.predicted)


@lru_cache(_MAX_RUNS)
def _job_summary(path: Path, written: int) -> JobSummary:
    """The summary of a job file; ``written`` is when, so that a new file of the same name is read."""
    job = load_job(path, stored=True)
    needs = {job.supernet.from_, job.training.teacher, *job.warm_start} - {None}
    epochs = job.training.epochs if job.supernet.trains else 0
    paths = {
        *job.data.paths.values(),
        *(Path(name) for name in job.hardware if is_profile_path(name)),
        *job.lookup_tables,
    }
    if job.supernet.model is not None and is_file(job.supernet.model):
        paths.add(Path(job.supernet.model))
    if job.supernet.weights is not None:
        paths.add(Path(job.supernet.weights))
    if job.supernet.pretrained_path is not None:
        paths.add(job.supernet.pretrained_path)
    finetuned = None
    if job.supernet.from_ is not None and job.supernet.network is not None:
        finetuned = job.supernet.from_, job.supernet.network
    data = job.data.name if job.data.path is None else job.data.path.name
    return JobSummary(
        job.name, data, job.search.evaluations, epochs, frozenset(map(str, needs)), frozenset(paths), finetuned
    )
