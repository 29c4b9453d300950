"""Progress observers that write metrics for TensorBoard, MLflow, Weights & Biases or Trackio (``log_to``)."""

from __future__ import annotations

import hashlib
import math
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nas.engine.progress import ProgressObserver
from nas.errors import LoggerError
from nas.plugins.parts import require

if TYPE_CHECKING:
    from nas.engine.search_progress import SearchProgress
    from nas.engine.store.folder import RunFolder
    from nas.engine.store.run_facts import RunFacts
    from nas.search.problem.budget import Budget
    from supernets.training.trainer import Epoch

FORMS = "tensorboard:FOLDER, mlflow:URI, wandb:PROJECT or trackio:PROJECT"
GROUPS = ("training", "epoch", "search")
"""The beginnings of the names of metrics, each with steps of its own."""
_PARAMETERS = (
    "name",
    "kind",
    "seed",
    "algorithm",
    "evaluations",
    "epochs",
    "objectives",
    "profiles",
    "precisions",
    "runtimes",
)
"""Facts of a run that are kept as its parameters."""
_EVERY_S, _MAX_BUFFERED = 5.0, 500
"""Metrics are buffered for at most this number of seconds and up to this number: each write is a request to a server."""
_TIMEOUT_S, _RETRIES = 10, 2
"""MLflow's own would let a search wait for many minutes for a server that is gone."""


class ProgressLogger(ProgressObserver):
    """An observer that writes metrics to a destination, which ``with`` opens and closes.

    A destination that fails later does not end the run: the failure is noted once, and nothing more is written.

    Args:
        destination: Its name in messages.
        note: called with that failure.
        clock: seconds, of any beginning.

    Attributes:
        errors: Errors of a destination that cannot be written.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(
        self, destination: str, note: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._destination, self._note, self._clock = destination, note, clock
        self._failed = False
        self._buffer: list[tuple[str, int, float]] = []
        self._written = clock()
        self._n_known = 0
        self._latest: SearchProgress | None = None

    def open(self) -> None:
        """Opens the destination."""

    def begin_run(self, run: RunFolder, parameters: Mapping[str, str]) -> None:
        """Begins a run, or continues one that was begun before."""

    def write(self, metrics: Sequence[tuple[str, int, float]]) -> None:
        """Writes metrics by name and step."""

    def close(self, status: str) -> None:
        """Ends the run with the status ``FINISHED``, ``FAILED`` or ``KILLED``."""

    def abandon(self) -> None:
        """Frees what is open after an error; nothing is written any more."""

    def reason(self, error: Exception) -> str:
        """The end of a message on an error, after ``cannot be written``."""
        return f": {error}"

    def __enter__(self) -> Self:
        try:
            self.open()
        except self.errors as error:
            raise LoggerError(f"{self._destination}: cannot be written{self.reason(error)}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._keep_latest()
        self._flush()
        failed = "FAILED" if kind and issubclass(kind, Exception) else "KILLED"
        self._attempt(partial(self.close, "FINISHED" if kind is None else failed))

    def begin(self, run: RunFolder, facts: RunFacts, budget: Budget | None, n_evaluations: int) -> None:
        """Keeps the run's parameters; the evaluations that it has already were written when they were made."""
        self._n_known = n_evaluations
        self._attempt(partial(self.begin_run, run, _parameters(facts, budget)))

    def step(self, step: int, steps: int, loss: float) -> None:
        self._keep(step, {"training/loss": loss})

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        metrics = {"epoch/loss": epoch.loss, "epoch/largest": epoch.largest, "epoch/smallest": epoch.smallest}
        self._keep(epoch.epoch, metrics)
        self._flush()

    def progress(self, progress: SearchProgress) -> None:
        """Keeps the latest progress of each number of evaluations."""
        if progress.phase != "searching" or progress.done <= self._n_known:
            return
        if self._latest is not None and progress.done != self._latest.done:
            self._keep_latest()
        self._latest = progress

    def _keep_latest(self) -> None:
        progress, self._latest = self._latest, None
        if progress is None:
            return
        metrics = {"search/front": float(progress.front), "search/failures": float(progress.failures)}
        metrics["search/too_noisy"] = float(progress.too_noisy)
        if progress.hypervolume is not None:
            metrics["search/hypervolume"] = progress.hypervolume
        self._keep(progress.done, metrics)

    def _keep(self, step: int, metrics: Mapping[str, float]) -> None:
        self._buffer += [(name, step, value) for name, value in metrics.items() if math.isfinite(value)]
        if len(self._buffer) >= _MAX_BUFFERED or self._clock() - self._written >= _EVERY_S:
            self._flush()

    def _flush(self) -> None:
        metrics, self._buffer, self._written = self._buffer, [], self._clock()
        if metrics:
            self._attempt(partial(self.write, metrics))

    def _attempt(self, write: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            write()
        except self.errors as error:
            self._failed = True
            self.abandon()
            failure = f"{self._destination}: cannot be written{self.reason(error)}"
            self._note(f"{failure}; the run continues, and nothing more is logged there")


class TensorBoardLogger(ProgressLogger):
    """Event files for TensorBoard, in a folder of the run's name below a folder, which is made where there is none."""

    def __init__(self, folder: str, note: Callable[[str], None]) -> None:
        super().__init__(f"tensorboard:{folder}", note)
        require("tensorboard", "log_to tensorboard", parameter="log_to")
        import tensorboardX

        # Not its SummaryWriter: the thread that writes for it ends at the first error, and then a full queue blocks the run.
        self._make, self._summary = tensorboardX.RecordWriter, tensorboardX.summary
        self._event, self._folder = tensorboardX.proto.event_pb2.Event, Path(folder)
        self._records: Any = None

    def open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def begin_run(self, run: RunFolder, parameters: Mapping[str, str]) -> None:
        folder = self._folder / run.id
        folder.mkdir(exist_ok=True)
        # Named by nanoseconds: a resumption within a second of the beginning would write over the first file.
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{time.time_ns()}"
        self._records = self._make(str(folder / name))
        self._add(file_version="brain.Event:2")
        lines = [f"| {name} | {value} |" for name, value in parameters.items()]
        self._add(summary=self._summary.text("run", "\n".join(["| | |", "|---|---|", *lines])))
        self._records.flush()

    def write(self, metrics: Sequence[tuple[str, int, float]]) -> None:
        for name, step, value in metrics:
            self._add(step=step, summary=self._summary.scalar(name, value))
        self._records.flush()

    def close(self, status: str) -> None:
        if self._records is not None:
            self._records.close()

    def abandon(self) -> None:
        if self._records is not None:
            with suppress(OSError):  # of what is still buffered
                self._records.close()

    def reason(self, error: Exception) -> str:
        return f": {getattr(error, 'strerror', None) or error}"

    def _add(self, **fields: object) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())


class MLflowLogger(ProgressLogger):
    """A run of MLflow's, found again by where ours is kept.

    Args:
        uri: Address of the tracking server or its database, e.g. ``http://127.0.0.1:5000`` or ``sqlite:///mlflow.db``.
        experiment: the name of the experiment, which is made where there is none.
    """

    def __init__(self, uri: str, note: Callable[[str], None], experiment: str) -> None:
        super().__init__(f"mlflow:{uri}", note)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_TIMEOUT_S))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(_RETRIES))
        require("mlflow", "log_to mlflow", parameter="log_to")
        import mlflow

        self.errors = (mlflow.MlflowException, OSError)
        self._uri, self._name, self._connect = uri, experiment, mlflow.MlflowClient
        self._metric, self._param = mlflow.entities.Metric, mlflow.entities.Param
        self._run: str | None = None

    def open(self) -> None:
        self._client = self._connect(tracking_uri=self._uri)
        stored_experiment = self._client.get_experiment_by_name(self._name)
        if stored_experiment is None:
            self._experiment = self._client.create_experiment(self._name)
        else:
            self._experiment = stored_experiment.experiment_id

    def begin_run(self, run: RunFolder, parameters: Mapping[str, str]) -> None:
        where, key = _identity(run)
        query = f"tags.`nas.run` = '{key}'"
        earlier_runs = self._client.search_runs([self._experiment], filter_string=query, max_results=1)
        if earlier_runs:
            self._run = str(earlier_runs[0].info.run_id)
            self._client.update_run(self._run, status="RUNNING")
            return
        tags = {"nas.run": key, "nas.folder": where}
        self._run = str(self._client.create_run(self._experiment, run_name=run.id, tags=tags).info.run_id)
        params = [self._param(name, value) for name, value in parameters.items()]
        self._client.log_batch(self._run, params=params)

    def write(self, metrics: Sequence[tuple[str, int, float]]) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._run, metrics=[self._metric(name, value, now, step) for name, step, value in metrics]
        )

    def close(self, status: str) -> None:
        if self._run is not None:
            self._client.set_terminated(self._run, status)

    def reason(self, error: Exception) -> str:
        return f" ({' '.join(str(error).split())[:300]})"


class WandbLogger(ProgressLogger):
    """A run of Weights & Biases, offline unless ``WANDB_MODE`` says otherwise; `wandb sync` sends it later.

    A resumed run has the same id. Each group of metrics has its own steps: training steps, epochs, evaluations.

    Args:
        project: Name of its project.
    """

    def __init__(self, project: str, note: Callable[[str], None]) -> None:
        super().__init__(f"wandb:{project}", note)
        require("wandb", "log_to wandb", parameter="log_to")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else its own crashes are reported over the network
        import wandb

        self.errors = (wandb.Error, OSError)
        self._wandb, self._project = wandb, project
        self._run: Any = None

    def open(self) -> None:
        folder = Path(os.environ.get("WANDB_DIR") or ".")
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):  # it would take another folder without a word
            raise PermissionError(f"no write permission in {folder.resolve()}")

    def begin_run(self, run: RunFolder, parameters: Mapping[str, str]) -> None:
        _, key = _identity(run)
        # Of the machine and the program, nothing is collected.
        settings = self._wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True, x_disable_meta=True
        )
        self._run = self._wandb.init(
            project=self._project,
            id=key[:16],
            name=run.id,
            config=dict(parameters),
            mode=None if os.environ.get("WANDB_MODE") else "offline",
            resume="allow",
            settings=settings,
        )
        for group in GROUPS:
            self._run.define_metric(f"{group}/*", step_metric=f"{group}/step")

    def write(self, metrics: Sequence[tuple[str, int, float]]) -> None:
        for (group, step), values in _by_group_and_step(metrics).items():
            self._run.log({f"{group}/step": step, **values})

    def close(self, status: str) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if status == "FINISHED" else 1)


class TrackioLogger(ProgressLogger):
    """A run of Trackio in its local database (in ``TRACKIO_DIR``), which `trackio show` draws; a resumed run is continued.

    It is written as Trackio's importers write theirs, without the thread, the messages and the look-up of a user's name of
    `trackio.init`, so that nothing uses the network and no failure is hidden.

    Args:
        project: Name of its project.
    """

    def __init__(self, project: str, note: Callable[[str], None]) -> None:
        super().__init__(f"trackio:{project}", note)
        require("trackio", "log_to trackio", parameter="log_to")
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        from trackio.sqlite_storage import SQLiteStorage

        self.errors = (sqlite3.Error, OSError, ValueError)  # the last of a name that is no project's
        self._storage, self._project = SQLiteStorage, project
        self._name, self._key, self._config = "", "", dict[str, str]()

    def open(self) -> None:
        self._storage.validate_project_name(self._project)
        self._storage.init_db(self._project)

    def begin_run(self, run: RunFolder, parameters: Mapping[str, str]) -> None:
        _, self._key = _identity(run)
        self._name, self._config = run.id, dict(parameters)

    def write(self, metrics: Sequence[tuple[str, int, float]]) -> None:
        rows = _by_group_and_step(metrics)
        self._storage.bulk_log(
            self._project,
            self._name,
            list(rows.values()),
            steps=[step for _, step in rows],
            config=self._config,
            run_id=self._key[:32],
        )
        self._config = {}


def _identity(run: RunFolder) -> tuple[str, str]:
    """The place of a run, and a key of it, by which its resumption finds the run of a logger again."""
    where = f"{socket.gethostname()}:{run.path.resolve()}"
    return where, hashlib.sha256(where.encode(errors="replace")).hexdigest()


def _by_group_and_step(metrics: Sequence[tuple[str, int, float]]) -> dict[tuple[str, int], dict[str, float]]:
    """Values by name, of each group of metrics and step."""
    values: dict[tuple[str, int], dict[str, float]] = {}
    for name, step, value in metrics:
        values.setdefault((name.partition("/")[0], step), {})[name] = value
    return values


_LOGGERS: Mapping[str, Callable[[str, Callable[[str], None], str], ProgressLogger]] = {
    "tensorboard": lambda where, note, _: TensorBoardLogger(where, note),
    "mlflow": MLflowLogger,
    "wandb": lambda where, note, _: WandbLogger(where, note),
    "trackio": lambda where, note, _: TrackioLogger(where, note),
}


@contextmanager
def open_loggers(
    wanted: Sequence[str], note: Callable[[str], None], *, experiment: str
) -> Iterator[list[ProgressObserver]]:
    """The loggers that ``log_to`` names, closed at the end; `note` is called when one fails later.

    Raises:
        LoggerError: one is malformed, or cannot be opened.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_logger_of(text, note, experiment)) for text in wanted]


def _logger_of(text: str, note: Callable[[str], None], experiment: str) -> ProgressLogger:
    kind, _, where = text.partition(":")
    if not where:
        raise LoggerError(f"log_to {text!r}: expected {FORMS}", parameter="log_to")
    if kind not in _LOGGERS:
        raise LoggerError(f"log_to {text!r}: unknown kind {kind!r}; expected {FORMS}", parameter="log_to")
    return _LOGGERS[kind](where, note, experiment)


def _parameters(facts: RunFacts, budget: Budget | None) -> dict[str, str]:
    values = facts.to_json() | {"evaluations": budget and budget.evaluations, "epochs": facts.epochs or None}
    parameters = {name: values[name] for name in _PARAMETERS if values.get(name) is not None}
    return {name: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for name, v in parameters.items()}
