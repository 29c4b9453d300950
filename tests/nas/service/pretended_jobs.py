"""A simulated `JobRunner`, whose drivers work on real stores, step by step under the control of a test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas.engine.resumption import Resumption
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.store.run_state import Away
from nas.engine.store.sql import SqlStore
from nas.errors import RunHeldError, ServiceError
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Measurement, Request, Status
from nas.service.jobs.job_runner import JobState
from supernets.space import Architecture
from tests.contracts.run_facts import search_facts

BUDGET = 100


@dataclass
class Driver:
    """A driver's process, which does what `nas.runs.driver.drive` does, with the same store, lease and order."""

    runs: RunsFolder
    argv: Sequence[str]
    alive: bool = True
    known_to_live: bool = True
    """Whether the runner says so: one whose supervisor was killed lives on for a moment."""
    store: SqlStore | None = None

    @property
    def run(self) -> str:
        return self._option("drive") or ""

    @property
    def holds(self) -> bool:
        return self.alive and self.store is not None

    def step(self) -> None:
        """Begins, or measures one thing."""
        if self.store is None:
            self._begin()
        else:
            n = self.store.n_measurements()
            self.store.add(Measurement(Request(Architecture((n,)), "accuracy"), Status.OK, 1.0, 0.0))

    def _begin(self) -> None:
        try:
            self.store = open_store(self.runs.get(self.run), driver=True)
        except RunHeldError:
            self.die()
            return
        if self.store.status() not in (RunStatus.QUEUED, RunStatus.RUNNING):
            self.die()
            return
        if self.store.facts() is None:
            self.store.describe(search_facts(), budget=Budget(BUDGET))
        more = Resumption(
            self._option("--evaluations"),
            retry_failed="--retry-failed" in self.argv,
            id=self._option("--extension") or "",
        )
        if more and not more.is_applied(self.store.state()):
            more.apply(self.store, self.run)
        self.store.set_status(RunStatus.RUNNING)

    def _option(self, name: str) -> str | None:
        return self.argv[self.argv.index(name) + 1] if name in self.argv else None

    def end(self, status: RunStatus, reason: str = "") -> None:
        """Records how it ends, and does."""
        assert self.store is not None
        self.store.set_status(status, reason=reason)
        self.die()

    def end_away(self, now: float) -> None:
        """Ends since a board did not come back, as `nas.runs.driver.drive` does."""
        assert self.store is not None
        if self.store.state().away is None:
            self.store.update_state(away=Away.first("pi6", now - 600, now))
        self.die()

    def die(self) -> None:
        """SIGKILL, or SIGTERM: nothing is recorded; the system frees what it held."""
        if self.store is not None:
            self.store.close()
        self.alive = self.known_to_live = False


@dataclass
class PretendedJobs:
    """A job runner that can be out of order.

    Attributes:
        trouble: called with "before" and "after" around each call; may raise.
        faults: drivers that were started for runs that had one.
    """

    runs: RunsFolder
    trouble: Callable[[str], None] = lambda when: None
    drivers: dict[str, Driver] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def start(self, job: str, argv: Sequence[str], log: Path) -> None:
        self.trouble("before")
        assert log.parent.is_dir()
        self.logs[job] = log
        made = Driver(self.runs, list(argv))
        if job not in self.drivers and any(d.holds or d.known_to_live for d in self.alive() if d.run == made.run):
            self.faults.append(job)
        self.drivers.setdefault(job, made)
        self.trouble("after")

    def states(self, jobs: Collection[str]) -> Mapping[str, JobState]:
        self.trouble("before")
        return {job: self._state(driver) for job, driver in self.drivers.items() if job in jobs}

    def _state(self, driver: Driver) -> JobState:
        if not driver.known_to_live:
            return JobState.ENDED
        return JobState.RUNNING if driver.store is not None else JobState.PENDING

    def stop(self, job: str) -> None:
        self.trouble("before")
        if (driver := self.drivers.get(job)) is not None and driver.known_to_live:
            driver.die()
        self.trouble("after")

    def nodes(self) -> Sequence[Mapping[str, float]]:
        self.trouble("before")
        return [{"CPU": 2.0}]

    def alive(self) -> list[Driver]:
        return [driver for driver in self.drivers.values() if driver.alive]


def out_of_order(when: str) -> None:
    """Trouble of a runner that does not answer."""
    raise ServiceError("no answer")
