"""Submissions and tasks of the service, in ``runs/service.db``; times in seconds since the epoch."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from sqlalchemy import Connection, Engine, Executable, Select, delete, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError

from nas.engine.store.database import WRITES
from nas.engine.store.sqlite import SqliteDatabase
from nas.errors import StoreError
from nas.service.settings import Webhook
from nas.service.stamped_cache import ChangeStamp
from nas.service.state_tables import DELIVERIES, ENDS, OWNERS, SCHEMA, SUBMISSIONS, TASKS, USAGE, WEBHOOKS

_T = TypeVar("_T")
_CANCELLED = "cancelled"
"""Key of a task's request that is set once a client wants the task to end."""
_HALF_LIFE_S = 24 * 3600.0
"""Of the time that a person used: a day ago, it counts half."""


class Priority(StrEnum):
    """The priority of a run that waits, from the lowest."""

    LOW = "low"
    """Starts when no other run waits."""
    NORMAL = "normal"
    HIGH = "high"
    """Starts before all others; administrators alone give it."""

    @property
    def rank(self) -> int:
        """0 for the lowest."""
        return list(Priority).index(self)


class RequestedState(StrEnum):
    """The state that clients want a run to be in."""

    DRIVEN = "driven"
    CANCELLED = "cancelled"


class TaskStatus(StrEnum):
    """The status of a task, which only moves forward."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskKind(StrEnum):
    """The kind of a task."""

    EXPORT = "export"
    """Of a run."""
    MEASUREMENT = "measurement"
    """Of a model, on a hardware profile."""
    PLAN = "plan"
    """Of a job that was not submitted."""
    CASCADE = "cascade"
    """Of a run: the cascades of its front, and the export of one."""
    PLOTS = "plots"
    """Of a run."""
    CALIBRATION = "calibration"
    """Of the blocks of a run's job, on a hardware profile."""


RUN_TASKS = (TaskKind.EXPORT, TaskKind.CASCADE, TaskKind.PLOTS, TaskKind.CALIBRATION)
"""Kinds of tasks that belong to a run, and write their files below its folder."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A run that the service drives.

    Attributes:
        submitted: seconds since the epoch.
        submitter: name of the client's token; "" where none is needed.
        attempt: number of the last driver that was started; 0 before the first.
        started: whether a driver was started since the run was last submitted or resumed.
        deaths: drivers that died in a row without progress of the run.
        progress: epochs and measurements of the run when the last driver was started.
        options: of the last `resume`, for the next drivers: ``evaluations``, ``minutes`` and ``retry_failed``; and
            ``extension``, an id by which a driver knows whether an earlier one has applied them.
        place: where an administrator put it in the queue, see `nas.service.jobs.fair_share`; None for no place.
        expected_s: its duration by a plan of the same job; None where there was none.
    """

    run: str
    kind: str
    submitted: float
    submitter: str
    wanted: RequestedState = RequestedState.DRIVEN
    attempt: int = 0
    started: bool = False
    deaths: int = 0
    progress: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    place: int | None = None
    expected_s: float | None = None

    @property
    def waits(self) -> bool:
        """True if the run is in the queue, even if its store has the status of an earlier driver."""
        return self.wanted is RequestedState.DRIVEN and not self.started

    def job_of(self, attempt: int) -> str:
        """The id of a driver's job, different from those of a removed run of the same name."""
        return f"{self.run}.{round(self.submitted * 1000):x}.{attempt}"

    @property
    def job(self) -> str | None:
        """The id of the last driver's job; None where none was started since the run was last submitted or resumed."""
        return self.job_of(self.attempt) if self.started else None


@dataclass(frozen=True, slots=True)
class Task:
    """A short command that runs once, in a process of its own: an export, a measurement, a plan.

    Attributes:
        of: the run or the hardware profile that it belongs to.
        request: see `nas.service.jobs.task_queue.TaskQueue`.
        result: the JSON object that its command printed; None until it is finished.
        submitter: name of the client's token; "" where none is needed, and in those of earlier versions.
    """

    task: str
    kind: str
    of: str
    submitted: float
    status: TaskStatus
    reason: str
    request: Mapping[str, Any]
    result: Mapping[str, Any] | None
    submitter: str = ""

    @property
    def open(self) -> bool:
        """True if the task waits or runs."""
        return self.status in (TaskStatus.QUEUED, TaskStatus.RUNNING)

    @property
    def cancelled(self) -> bool:
        """True if a client wants the task to end; the status states whether it has ended."""
        return bool(self.request.get(_CANCELLED))


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification that is to be sent.

    Attributes:
        body: what is sent, as JSON.
        attempts: how often it was sent in vain.
        due: when it is sent next; seconds since the epoch.
    """

    id: str
    run: str
    url: str
    secret: str
    body: Mapping[str, Any]
    attempts: int
    due: float


def _submission(row: Mapping[Any, Any]) -> Submission:
    return Submission(**{**row, "wanted": RequestedState(row["wanted"]), "priority": Priority(row["priority"])})


def _extension(options: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of a resume with a new id; empty where it changes nothing."""
    changes = {name: value for name, value in options.items() if value is not None}
    return {**changes, "extension": uuid.uuid4().hex} if changes else {}


def _update(run: str, values: Mapping[str, Any]) -> Executable:
    return update(SUBMISSIONS).where(SUBMISSIONS.c.run == run).values(**values)


def _removal(run: str) -> list[Executable]:
    """The statements that remove a run's submission and tasks."""
    # Measurements belong to a hardware profile, which may have the name of a run.
    tasks = delete(TASKS).where(TASKS.c.of == run, TASKS.c.kind.in_([str(kind) for kind in RUN_TASKS]))
    return [*(delete(table).where(table.c.run == run) for table in (WEBHOOKS, ENDS, SUBMISSIONS)), tasks]


class ServiceState:
    """The service's own database. Safe to use from several threads, and by one server at a time."""

    def __init__(self, path: Path, engine: Engine, clock: Callable[[], float]) -> None:
        self._path, self._engine, self._clock = path, engine, clock
        self._writer = engine.execution_options(**{WRITES: True})
        self._cached: dict[str, tuple[ChangeStamp, Any]] = {}

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """The database in a file, which is created where there is none, and migrated from earlier versions.

        Raises:
            StoreError: it is damaged, of a later version, or cannot be written.
        """
        state = cls(path, SqliteDatabase(path).writing_engine(create=True), clock)
        try:
            with state._translated(), state._writer.begin() as connection:
                if not inspect(connection).get_table_names():
                    SCHEMA.make(connection)
                SCHEMA.upgrade(connection, name=str(path))
        except BaseException:
            state.close()
            raise
        return state

    def submit(
        self,
        run: str,
        kind: str,
        submitter: str,
        options: Mapping[str, Any] | None = None,
        webhook: Webhook | None = None,
        *,
        priority: Priority = Priority.NORMAL,
        expected_s: float | None = None,
    ) -> Submission:
        """A new submission, for a run that has none.

        Args:
            options: as for `resume`, for a run that has begun.
            webhook: is notified of the end of the run, beside that of the server.
            expected_s: its expected duration, where it was planned.
        """
        changes = _extension(options or {})
        submission = Submission(
            run, kind, self._clock(), submitter, options=changes, priority=priority, expected_s=expected_s
        )
        of_webhook = [] if webhook is None else [insert(WEBHOOKS).values(run=run, **asdict(webhook))]
        self._write(insert(SUBMISSIONS).values(**asdict(submission)), *of_webhook)
        return submission

    def webhook(self, run: str) -> Webhook | None:
        """The webhook of a run's submission; None where it has none."""
        query = select(WEBHOOKS.c.url, WEBHOOKS.c.secret).where(WEBHOOKS.c.run == run)
        with self._reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Webhook(*row)

    def last_end(self, run: str) -> float:
        """When the last end of a run was that `record_end` recorded; 0 for none."""
        ends = self._read(select(ENDS), lambda rows: {row["run"]: row["ended"] for row in rows})
        return float(ends.get(run, 0.0))

    def record_end(self, run: str, ended: float, webhooks: Sequence[Webhook], body: Mapping[str, Any]) -> None:
        """Records the end of a run with the notifications that are to be sent, all or nothing."""
        now = self._clock()
        deliveries = [
            Delivery(uuid.uuid4().hex, run, webhook.url, webhook.secret, body, 0, now) for webhook in webhooks
        ]
        self._write(
            delete(ENDS).where(ENDS.c.run == run),
            insert(ENDS).values(run=run, ended=ended),
            *(insert(DELIVERIES).values(**asdict(delivery)) for delivery in deliveries),
        )

    def deliveries(self) -> list[Delivery]:
        """The notifications that are to be sent, the first due first."""
        query = select(DELIVERIES).order_by(DELIVERIES.c.due, DELIVERIES.c.id)
        return list(self._read(query, lambda rows: [Delivery(**row) for row in rows]))

    def delay_delivery(self, delivery: str, attempts: int, due: float) -> None:
        """Records that a notification was sent in vain, and when it is sent again."""
        self._write(update(DELIVERIES).where(DELIVERIES.c.id == delivery).values(attempts=attempts, due=due))

    def forget_delivery(self, delivery: str) -> None:
        """Removes a notification that was sent, or is given up."""
        self._write(delete(DELIVERIES).where(DELIVERIES.c.id == delivery))

    def submissions(self) -> list[Submission]:
        """All submissions, oldest first; cached until the database changes, since every summary needs them."""
        query = select(SUBMISSIONS).order_by(SUBMISSIONS.c.submitted, SUBMISSIONS.c.run)
        return list(self._read(query, lambda rows: [_submission(row) for row in rows]))

    def submission(self, run: str) -> Submission | None:
        """The submission of a run; None where it was not submitted here."""
        return next((submission for submission in self.submissions() if submission.run == run), None)

    def submitted_kind(self, run: str) -> str | None:
        """The kind that a run was submitted as; None where it was not submitted here."""
        submission = self.submission(run)
        return None if submission is None else submission.kind

    def change(self, run: str, **values: Any) -> None:
        """Sets attributes of a submission.

        These are ``wanted``, ``attempt``, ``started``, ``deaths``, ``progress``, ``options`` and ``priority``.
        """
        self._write(_update(run, values))

    def change_if(self, submission: Submission, **values: Any) -> bool:
        """Sets attributes as `change` does if the submission is unchanged since it was read; whether it was."""
        return self._write_if(submission, [_update(submission.run, values)])

    def cancel(self, run: str) -> None:
        """Records that a run shall have no driver, now and after any restart."""
        self.change(run, wanted=str(RequestedState.CANCELLED))

    def resume(self, run: str, options: Mapping[str, Any]) -> None:
        """Records that a run without a driver shall be resumed.

        Args:
            options: ``evaluations``, ``minutes`` and ``retry_failed`` as for `nas resume`, those that are given.
        """
        self.change(run, wanted=str(RequestedState.DRIVEN), started=False, deaths=0, options=_extension(options))

    def set_places(self, place_by_run: Mapping[str, int | None]) -> None:
        """Sets the places of runs in the queue."""
        self._write(*(_update(run, {"place": place}) for run, place in place_by_run.items()))

    def used_s(self, now: float) -> dict[str, float]:
        """The time in seconds that people used of late, by person; a day ago, it counts half.

        Args:
            now: in seconds since the epoch.
        """
        rows = self._read(select(USAGE), lambda rows: [(row["person"], row["seconds"], row["time"]) for row in rows])
        return {person: seconds * 0.5 ** (max(0.0, now - time) / _HALF_LIFE_S) for person, seconds, time in rows}

    def charge(self, seconds_by_person: Mapping[str, float], now: float) -> None:
        """Adds time that people used until now; see `used_s`."""
        used = self.used_s(now)
        totals = {person: used.get(person, 0.0) + seconds for person, seconds in seconds_by_person.items()}
        self._write(
            delete(USAGE).where(USAGE.c.person.in_(totals)),
            *(insert(USAGE).values(person=person, seconds=total, time=now) for person, total in totals.items()),
        )

    def forget(self, run: str) -> None:
        """Removes a run's submission and tasks."""
        self._write(*_removal(run))

    def forget_if(self, submission: Submission) -> bool:
        """Removes a submission and its run's tasks if it is unchanged since it was read; whether it was."""
        return self._write_if(submission, _removal(submission.run))

    def owners(self) -> Mapping[tuple[str, str], str]:
        """The owners of uploads by their kind and name; uploads of earlier versions have none."""
        return self._read(select(OWNERS), lambda rows: {(row["kind"], row["name"]): row["owner"] for row in rows})

    def set_owner(self, kind: str, name: str, owner: str | None) -> None:
        """Records whom an upload belongs to; None removes the record."""
        record = [] if owner is None else [insert(OWNERS).values(kind=kind, name=name, owner=owner)]
        self._write(delete(OWNERS).where(OWNERS.c.kind == kind, OWNERS.c.name == name), *record)

    def add_task(self, task: str, kind: str, of: str, request: Mapping[str, Any], submitter: str = "") -> Task:
        """A new task, queued."""
        new_task = Task(task, kind, of, self._clock(), TaskStatus.QUEUED, "", request, None, submitter)
        self._write(insert(TASKS).values(**asdict(new_task)))
        return new_task

    def cancel_task(self, task: str) -> None:
        """Records that a task shall end, now and after any restart; without effect on one that has ended."""
        with self._writing() as connection:
            row = TASKS.c.task == task
            for request in connection.execute(select(TASKS.c.request).where(row)).scalars():
                connection.execute(update(TASKS).where(row).values(request={**request, _CANCELLED: True}))

    def forget_task(self, task: str) -> None:
        """Removes a task that has ended."""
        self._write(delete(TASKS).where(TASKS.c.task == task))

    def tasks(self, of: str | None = None) -> list[Task]:
        """All tasks, or those of one run or profile; oldest first."""
        query = select(TASKS).order_by(TASKS.c.submitted, TASKS.c.task)
        if of is not None:
            query = query.where(TASKS.c.of == of)
        return self._tasks_of(query)

    def task(self, task: str) -> Task | None:
        """One task; None where there is none of this id."""
        return next(iter(self._tasks_of(select(TASKS).where(TASKS.c.task == task))), None)

    def open_tasks(self) -> list[Task]:
        """The tasks that wait or run; the running ones first, then the oldest of each person, then the second ones."""
        is_open = TASKS.c.status.in_([str(TaskStatus.QUEUED), str(TaskStatus.RUNNING)])
        tasks = self._tasks_of(select(TASKS).where(is_open).order_by(TASKS.c.submitted, TASKS.c.task))
        turns: Counter[str] = Counter()
        keyed = []
        for task in tasks:
            keyed.append((task.status is TaskStatus.QUEUED, turns[task.submitter], task))
            turns[task.submitter] += 1
        return [task for _, _, task in sorted(keyed, key=lambda entry: entry[:2])]

    def _tasks_of(self, query: Select[Any]) -> list[Task]:
        with self._reading() as connection:
            rows = connection.execute(query).mappings()
            return [Task(**{**row, "status": TaskStatus(row["status"])}) for row in rows]

    def change_task(
        self, task: str, status: TaskStatus, *, reason: str = "", result: Mapping[str, Any] | None = None
    ) -> None:
        """Records the status of a task."""
        values = {"status": str(status), "reason": reason, "result": None if result is None else dict(result)}
        self._write(update(TASKS).where(TASKS.c.task == task).values(**values))

    def close(self) -> None:
        """Closes the database; idempotent."""
        self._engine.dispose()

    def _read(self, query: Select[Any], of_rows: Callable[[Iterable[Mapping[Any, Any]]], _T]) -> _T:
        """A value of the rows of a query, cached until the database changes."""
        now, stamp, key = time.time(), ChangeStamp.read(self._path), str(query)
        cached = self._cached.get(key)
        if cached is not None and cached[0] == stamp:
            return cast(_T, cached[1])
        with self._reading() as connection:
            value = of_rows(connection.execute(query).mappings())
        if stamp is not None and stamp.settled(now):
            self._cached[key] = (stamp, value)
        return value

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._translated(), self._writer.begin() as connection:
            yield connection

    def _write(self, *statements: Executable) -> None:
        """Executes statements, all or nothing."""
        with self._writing() as connection:
            for statement in statements:
                connection.execute(statement)

    def _write_if(self, submission: Submission, statements: Sequence[Executable]) -> bool:
        """Executes statements if a submission is unchanged since it was read; whether it was."""
        query = select(SUBMISSIONS).where(SUBMISSIONS.c.run == submission.run)
        with self._writing() as connection:
            unchanged = any(_submission(row) == submission for row in connection.execute(query).mappings())
            for statement in statements if unchanged else ():
                connection.execute(statement)
        return unchanged

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise StoreError(f"{self._path}: {SqliteDatabase(self._path).explain(error)}") from error
