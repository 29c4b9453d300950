"""Runs as the API describes them: summaries, pages of summaries, and details."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from nas.engine.formatting import counted
from nas.engine.run_listing import EPOCH, RunSnapshot
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.labels import MAX_NOTE, Labels, read_labels
from nas.engine.store.opening import is_held
from nas.errors import NasError, StoreAwayError, StoreError
from nas.results.analysis.report import RunReport
from nas.runs.run import Run
from nas.search.problem.objectives import Objective
from nas.service.api import schemas
from nas.service.jobs.run_queue import RunQueue
from nas.service.state import RequestedState, ServiceState, Submission
from nas.service.views.networks import objectives_of
from nas.service.views.run_index import RunIndex
from nas.service.views.run_overviews import RunOverview

_EVENTS = 50
NEWEST = schemas.RunsQuery()
EVERY_RUN = NEWEST.model_copy(update={"sort": "status", "limit": 10**9})
_NO_SEARCH: dict[str, Any] = {
    "objectives": (),
    "constraints": (),
    "profiles": (),
    "precisions": (),
    "runtimes": (),
    "algorithm": None,
    "predictor": None,
    "front_size": 0,
    "hypervolume": None,
    "reference": {},
}
"""The parts of a run's details that only a search has."""


@dataclass(frozen=True, slots=True)
class FinetunedRun:
    """A run that fine-tunes one network of another one, with the network's score before and after where they are known."""

    run: schemas.RunSummary
    network: str
    metric: Objective | None = None
    before: schemas.Figure | None = None
    after: schemas.Figure | None = None


class RunSummaries:
    """The runs of a server's folder, submitted here or started by a command.

    Args:
        run_queue: the order of those that wait.
        problem: why no job can be started now; "" where jobs can be started.
        hide_paths: removes the paths of the server from a message of the engine.
    """

    def __init__(
        self,
        runs: RunsFolder,
        state: ServiceState,
        index: RunIndex,
        *,
        run_queue: RunQueue,
        problem: Callable[[], str],
        hide_paths: Callable[[str], str],
    ) -> None:
        self._runs, self._state, self._index, self._run_queue = runs, state, index, run_queue
        self._problem, self._hide_paths = problem, hide_paths

    def summary(self, run: str) -> schemas.RunSummary:
        """The status and progress of a run; cheap enough for many clients that poll."""
        # First: a run that is started again is recorded as queued before its submission waits no longer.
        submission = self._state.submission(run)
        snapshot = self._index.last_snapshot(run)
        queue = self._queue() if submission is not None and submission.waits else {}
        return self._summary(run, snapshot, submission, queue)

    def readable(self, run: str) -> schemas.RunSummary:
        """The summary of a run; one that cannot be read is failed, with the error as its reason. See `summary`."""
        return self._listed(self._runs.get(run), self._state.submission(run), self._queue())

    def readable_detail(self, run: str) -> schemas.RunDetail:
        """The details of a run; the little that is known of one that cannot be read. See `detail`."""
        summary = self.readable(run)
        if not summary.damaged:
            return self.detail(run)
        try:
            job = _job_text(self._runs.get(run))
        except StoreError as error:
            job = self._hide_paths(str(error))
        return schemas.RunDetail(**summary.model_dump(), job=job, **_NO_SEARCH, events=())

    def page(self, query: schemas.RunsQuery = NEWEST) -> schemas.RunsPage:
        """The runs that a query lets through, the newest first unless sorted.

        A run that cannot be read is listed as failed, with the error as its reason. Runs without the value that is sorted
        by come last in both directions.
        """
        queue, end = self._queue(), query.offset + query.limit
        submitted = {submission.run: submission for submission in self._state.submissions()}
        folders = [f for f in reversed(self._runs.list()) if self._may_list(f.id, submitted.get(f.id), query)]
        of_results = (query.status, query.kind, query.min_accuracy, query.max_latency_ms, query.sort)
        total = len(folders)
        is_read = any(value is not None for value in of_results)
        if not is_read:  # runs of other pages need not be read
            folders = folders[query.offset : end]
        runs = [self._listed(folder, submitted.get(folder.id), queue) for folder in folders]
        if is_read:
            runs = [run for run in runs if query.status in (None, run.status) and query.kind in (None, run.kind)]
            if (query.min_accuracy, query.max_latency_ms) != (None, None):
                overviews = self.overviews(runs)
                runs = [run for run in runs if _reaches(overviews.get(run.run, RunOverview()), query)]
            if query.sort is not None:
                runs = self._sorted(runs, query.sort, descending=query.descending)
            total, runs = len(runs), runs[query.offset : end]
        return schemas.RunsPage(total=total, offset=query.offset, runs=tuple(runs))

    def _may_list(self, run: str, submission: Submission | None, query: schemas.RunsQuery) -> bool:
        """True unless a filter rejects a run by what is known without its store."""
        return (
            (query.name is None or query.name.lower() in run.lower())
            and (query.submitter is None or (submission is not None and submission.submitter == query.submitter))
            and (query.tag is None or query.tag in self._labels(run).tags)
            and (query.data is None or query.data == self._data_of(run))
        )

    def _data_of(self, run: str) -> str:
        """The name of a run's data; "" where its job file is damaged."""
        with suppress(NasError):
            return self._index.job(run).data
        return ""

    def overviews(self, runs: Sequence[schemas.RunSummary], *, within_s: float = math.inf) -> dict[str, RunOverview]:
        """The overviews by run of the searches that have measured something and can be read.

        Args:
            within_s: none is begun after this time; the next call has more, as those that were made are kept.
        """
        overviews, end = {}, time.monotonic() + within_s
        for run in runs:
            if time.monotonic() >= end:
                break
            if run.kind == "search" and run.evaluations:
                with suppress(NasError):  # its summary has the reason
                    overviews[run.run] = self._index.overview(run.run)
        return overviews

    def finetuned(self, run: str, report: RunReport | None) -> tuple[FinetunedRun, ...]:
        """The runs that fine-tune networks of a run, the newest first.

        Args:
            report: Of the run, for the values before the fine-tuning; None where it has none.
        """
        finetuned_runs = []
        for folder in reversed(self._runs.list()):
            with suppress(NasError):  # the list of runs shows the error
                origin = self._index.job(folder.id).finetuned
                if origin is not None and origin[0] == run:
                    finetuned_runs.append(self._finetuned(folder.id, origin[1], report))
        return tuple(finetuned_runs)

    def _finetuned(self, run: str, network: str, report: RunReport | None) -> FinetunedRun:
        summary = self.readable(run)
        after = self.overviews([summary]).get(run, RunOverview()).score
        place = None if report is None else report.candidates.places.get(network)
        if report is None or place is None or after is None:
            return FinetunedRun(summary, network)
        metric, before = after.metric, report.candidates[place]
        figures = [
            schemas.Figure(value=value, error=error)
            for value, error in (
                (before.values[metric.name], before.errors.get(metric.name, 0.0)),
                (after.value, after.error),
            )
        ]
        return FinetunedRun(summary, network, metric, *figures)

    def filter_choices(self) -> dict[str, tuple[str, ...]]:
        """The tags, data and submitters that runs have, each in alphabetical order."""
        runs = [folder.id for folder in self._runs.list()]
        values = {
            "tag": {tag for run in runs for tag in self._labels(run).tags},
            "data": set(map(self._data_of, runs)),
            "submitter": {s.submitter for s in self._state.submissions() if self._runs.holds(s.run)},
        }
        return {name: tuple(sorted(value - {""})) for name, value in values.items()}

    def warm(self) -> None:
        """Reads every run once, so that lists of many runs need not be waited for; a run that cannot be read is skipped."""
        runs = self.page(EVERY_RUN).runs
        self.overviews(runs)

    def detail(self, run: str) -> schemas.RunDetail:
        """A run's summary, job file, objectives, front and last events."""
        summary, opened = self.summary(run), Run.open(self._runs, run)
        with opened.store() as store:
            facts, events = store.facts(), store.events()
        search_parts = _NO_SEARCH
        if facts is not None and facts.search is not None:
            report = self._index.report(run)
            search_parts = {
                "objectives": objectives_of(report),
                "constraints": tuple(
                    schemas.ConstraintInfo(figure=c.metric.name, minimum=c.minimum, maximum=c.maximum)
                    for c in report.constraints
                ),
                "profiles": report.profiles,
                "precisions": facts.search.variants.precisions,
                "runtimes": facts.search.variants.runtimes,
                "algorithm": facts.search.algorithm,
                "predictor": facts.search.predictor or None,
                "models_from": report.models_from,
                "front_size": len(report.front),
                "hypervolume": report.front_hypervolume,
                "reference": dict(report.reference),
            }
        events = [event for event in events if event.kind != EPOCH]
        shown = tuple({"kind": e.kind, "time": e.time, "detail": dict(e.detail)} for e in events[-_EVENTS:])
        return schemas.RunDetail(**summary.model_dump(), job=_job_text(opened.folder), **search_parts, events=shown)

    def _sorted(
        self, runs: Sequence[schemas.RunSummary], sort: schemas.RunOrder, *, descending: bool
    ) -> list[schemas.RunSummary]:
        if sort == "accuracy":
            return self._by_score(runs, descending=descending)
        overviews = self.overviews(runs) if sort == "latency_ms" else {}

        def value(run: schemas.RunSummary) -> Any:
            match sort:
                case "latency_ms":
                    best = overviews.get(run.run, RunOverview()).best(sort)
                    return None if best is None else best.value
                case "started":
                    return run.started or run.submitted
                case "run":
                    return natural_order(run.run)
                case _:
                    return getattr(run, sort)

        keyed = [(value(run), run) for run in runs]
        with_value = sorted(
            (pair for pair in keyed if pair[0] is not None), key=lambda pair: pair[0], reverse=descending
        )
        return [run for _, run in with_value] + [run for sort_value, run in keyed if sort_value is None]

    def _by_score(self, runs: Sequence[schemas.RunSummary], *, descending: bool) -> list[schemas.RunSummary]:
        """Runs with an accuracy, then those of each other metric of a task, each by their best values."""
        overviews = self.overviews(runs)
        scored = [(run, best) for run in runs if (best := overviews.get(run.run, RunOverview()).score) is not None]
        scored.sort(key=lambda pair: pair[1].goodness, reverse=descending)
        scored.sort(key=lambda pair: (pair[1].metric.name != "accuracy", pair[1].metric.name))
        ranked = {run.run for run, _ in scored}
        return [run for run, _ in scored] + [run for run in runs if run.run not in ranked]

    def _labels(self, run: str) -> Labels:
        """The labels of a run; the error in place of its note where they cannot be read."""
        try:
            return read_labels(self._runs.get(run))
        except NasError as error:
            return Labels(note=self._hide_paths(str(error))[:MAX_NOTE])

    def queue(self) -> schemas.Queue:
        """The runs that run and wait, as far as the sender of the request sees them."""
        view, share = self._run_queue.view(), self._run_queue.share
        now = datetime.now(UTC)
        return schemas.Queue(
            at_once=share.at_once,
            at_once_of_person=share.at_once_of_person,
            active=tuple(
                schemas.ActiveRun(
                    run=run.run,
                    submitter=run.person,
                    expected_end=None if math.isinf(run.left_s) else now + timedelta(seconds=run.left_s),
                    basis=view.durations[run.run].basis,
                )
                for run in view.active
                if self._runs.holds(run.run)
            ),
            waiting=tuple(
                schemas.QueuedRun(
                    run=submission.run,
                    submitter=submission.submitter,
                    submitted=datetime.fromtimestamp(submission.submitted, UTC),
                    position=position,
                    placed=submission.place is not None,
                    priority=submission.priority.value,
                    expected_start=_time(view.starts.get(submission.run)),
                    expected_s=view.durations[submission.run].seconds,
                    basis=view.durations[submission.run].basis,
                )
                for position, submission in enumerate(view.waiting, start=1)
                if self._runs.holds(submission.run)
            ),
        )

    def _queue(self) -> dict[str, int]:
        """The positions of the runs that wait, from 1."""
        return {submission.run: place for place, submission in enumerate(self._run_queue.view().waiting, start=1)}

    def _listed(self, folder: RunFolder, submission: Submission | None, queue: Mapping[str, int]) -> schemas.RunSummary:
        damaged = False
        try:
            snapshot = self._index.last_snapshot(folder.id)
        except NasError as error:
            kind = "search" if submission is None else submission.kind
            if is_held(folder):  # its driver is creating it at this moment
                snapshot = RunSnapshot(RunStatus.QUEUED, has_driver=True, progress=0, kind=kind)
            else:
                reason = f"cannot be read: {self._hide_paths(str(error))}"
                snapshot = RunSnapshot(RunStatus.FAILED, has_driver=False, progress=0, kind=kind, reason=reason)
                damaged = not isinstance(error, StoreAwayError)
        return self._summary(folder.id, snapshot, submission, queue).model_copy(update={"damaged": damaged})

    def _summary(
        self, run: str, snapshot: RunSnapshot, submission: Submission | None, queue: Mapping[str, int]
    ) -> schemas.RunSummary:
        waits = submission is not None and submission.waits
        name, wanted, epochs, data = snapshot.name, snapshot.evaluations_wanted, snapshot.epochs, ""
        with suppress(NasError):  # the job file may be damaged
            job = self._index.job(run)
            data = job.data
            if not name:  # no driver has described the run yet
                name, wanted, epochs = job.name, job.evaluations, job.epochs
        labels = self._labels(run)
        return schemas.RunSummary(
            run=run,
            name=name or run,
            kind=cast(schemas.RunKind, snapshot.kind),
            status=cast(schemas.RunStatusName, str(RunStatus.QUEUED if waits else snapshot.status)),
            reason=_reason(snapshot, submission, queue.get(run), self._hide_paths(self._problem())),
            live=snapshot.has_driver,
            submitted=None if submission is None else _time(submission.submitted),
            submitter="" if submission is None else submission.submitter,
            queue_position=queue.get(run),
            priority="normal" if submission is None else submission.priority.value,
            started=_time(snapshot.started),
            ended=None if waits else _time(snapshot.ended),
            evaluations=snapshot.evaluations,
            known=snapshot.n_known,
            counts=schemas.EvaluationCounts(**asdict(snapshot.counts)),
            evaluations_wanted=0 if snapshot.kind == "training" else wanted,
            epoch=snapshot.epoch,
            epochs=epochs,
            step=snapshot.step,
            steps=snapshot.steps,
            expected_end=_time(snapshot.expected_end) if snapshot.has_driver else None,
            next_try=None if snapshot.away is None else _time(snapshot.away.next_try),
            data=data,
            tags=labels.tags,
            note=labels.note,
        )


def _reaches(overview: RunOverview, query: schemas.RunsQuery) -> bool:
    """True if the best values of a run satisfy the bounds of a query; False where it has none."""
    accuracy, latency = overview.best("accuracy"), overview.best("latency_ms")
    return (query.min_accuracy is None or (accuracy is not None and accuracy.value >= query.min_accuracy)) and (
        query.max_latency_ms is None or (latency is not None and latency.value <= query.max_latency_ms)
    )


def natural_order(run: str) -> tuple[str, int]:
    """A key by which ``digits-10`` comes after ``digits-9``."""
    stem = run.rstrip("0123456789")
    return stem, int(run[len(stem) :] or -1)


def _reason(snapshot: RunSnapshot, submission: Submission | None, place: int | None, problem: str) -> str:
    """Why a run ended, or why it waits."""
    if place is not None:
        position = "waits for a place" if place == 1 else f"waits behind {counted(place - 1, 'other')}"
        return f"{position}; no job can be started now: {problem}" if problem else position
    if not snapshot.open:
        return snapshot.reason
    if submission is not None and submission.wanted is RequestedState.CANCELLED:
        return f"is being cancelled; {problem}" if problem else "is being cancelled"
    if snapshot.has_driver or snapshot.outdated or snapshot.away is not None:
        return snapshot.reason
    if submission is not None:
        return f"has no driver yet: {problem}" if problem else "its driver is starting"
    return "has no driver: it was interrupted" if snapshot.status is RunStatus.RUNNING else "was never started"


def _job_text(folder: RunFolder) -> str:
    """The job file as its client wrote it."""
    path = folder.submitted_file if folder.submitted_file.is_file() else folder.job_file
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
