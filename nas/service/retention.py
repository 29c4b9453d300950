"""Deletes old runs and old logs, where the server's settings say so."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from nas.engine.formatting import counted
from nas.engine.store.labels import read_labels
from nas.errors import NasError
from nas.service.background import BackgroundRounds
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from nas.service.submissions import Submissions
from nas.service.views.run_index import RunIndex

KEEP = "keep"
"""The tag of runs that are never deleted, and whose logs are not."""
_DAY_S = 86_400.0
_PAUSE_S = 3600.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run that has ended, with when it may be deleted; seconds since the epoch."""

    run: str
    due: float


class Retention(BackgroundRounds):
    """Old runs of a server, which are deleted in a thread of its own; off unless the settings have a number of days.

    Runs that were submitted to the server are deleted after they have ended for so long. One with the tag `keep` never is, nor
    one that another run of the folder starts from, nor one that `Submissions.delete` does not delete: it waits or runs, or an
    export of it is being made. Runs that commands started are left alone.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        state: ServiceState,
        index: RunIndex,
        submissions: Submissions,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("retention", retry_s=_PAUSE_S)
        self.runs_days, self.logs_days = settings.keep_runs_days, settings.keep_logs_days
        self._runs, self._state, self._index, self._submissions = settings.runs, state, index, submissions
        self._clock, self._refused = clock, dict[str, str]()  # why runs were not deleted, so that it is logged once

    def start(self) -> None:
        """Begins to delete, now and each hour, where the settings say so."""
        if (self.runs_days, self.logs_days) != (None, None):
            super().start()

    def work(self) -> float:
        """Deletes what is due now; the seconds until it looks again."""
        self.sweep()
        return _PAUSE_S

    def next_runs(self, within_days: float) -> list[OldRun]:
        """The runs that are deleted within a number of days as things are, the first first; none where runs are kept."""
        if self.runs_days is None:
            return []
        end = self._clock() + within_days * _DAY_S
        old_runs = [OldRun(run, ended + self.runs_days * _DAY_S) for run, ended in self._ended_runs()]
        return sorted((old for old in old_runs if old.due <= end), key=lambda old: (old.due, old.run))

    def sweep(self) -> None:
        """Deletes what is due now; a failure affects one run, and is logged."""
        for old in self.next_runs(0):
            if self._closing.is_set():
                return
            try:
                self._submissions.delete(old.run)
            except NasError as error:
                if self._refused.get(old.run) != str(error):
                    self._refused[old.run] = str(error)
                    logger.warning("the old run is not deleted: %s", error, extra={"run": old.run})
            else:
                text = "deleted: it ended more than %g days ago"
                logger.info(text, self.runs_days, extra={"run": old.run})
        if self.logs_days is not None:
            for run, ended in self._ended_runs(needed_too=True):
                if ended + self.logs_days * _DAY_S <= self._clock():
                    self._delete_logs(run)

    def _ended_runs(self, *, needed_too: bool = False) -> Iterator[tuple[str, float]]:
        """Submitted runs without the tag `keep` that have ended, and when.

        Args:
            needed_too: whether those are among them that other runs start from.
        """
        needed = set[str]() if needed_too else self._needed_runs()
        for submission in self._state.submissions():
            with suppress(NasError):  # a run that cannot be read, or whose labels cannot, is kept
                snapshot = self._index.snapshot(submission.run)
                if submission.waits or snapshot.open or snapshot.has_driver or snapshot.ended is None:
                    continue
                if submission.run not in needed and KEEP not in read_labels(self._runs.get(submission.run)).tags:
                    yield submission.run, snapshot.ended

    def _needed_runs(self) -> set[str]:
        """The runs that other runs of the folder start from, whose weights exports of these need."""
        needed = set[str]()
        for folder in self._runs.list():
            with suppress(NasError):
                needed |= self._index.job(folder.id).needs - {folder.id}
        return needed

    def _delete_logs(self, run: str) -> None:
        paths = sorted(self._runs.get(run).logs.glob("*.log"))
        size = sum(path.stat().st_size for path in paths)
        for path in paths:
            path.unlink(missing_ok=True)
        if paths:
            text = "%s of %d bytes deleted: the run ended more than %g days ago"
            logger.info(text, counted(len(paths), "log"), size, self.logs_days, extra={"run": run})
