"""Displays that write figures for TensorBoard or MLflow, beside the one that people see."""

from __future__ import annotations

import hashlib
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from nas.errors import LoggerError

if TYPE_CHECKING:
    from nas.engine.progress import ProgressObserver
    from nas.engine.search_progress import SearchProgress
    from nas.problem.budget import Budget
    from nas.store.folder import RunFolder
    from nas.store.run_facts import RunFacts
    from supernets.trainer import Epoch

FORMS = "tensorboard:FOLDER or mlflow:URI"
_PARAMETERS = ("name", "kind", "seed", "algorithm", "evaluations", "epochs", "objectives", "profiles", "precisions")
"""Facts of a run that are kept as its parameters."""
_EVERY_S, _MOST = 5.0, 500
"""How long figures are kept back at most, and how many: each time is a request to a server."""
_TIMEOUT_S, _RETRIES = 10, 2
"""MLflow's own would let a search wait for many minutes for a server that is gone."""


class Log(Protocol):
    """Where a sink's figures go.

    Raises:
        SinkError: from any method, where they cannot be written.
    """

    def begin(self, run: RunFolder, parameters: Mapping[str, str]) -> None:
        """What follows is of this run; the same one may have been begun before."""
        ...

    def write(self, figures: Sequence[tuple[str, int, float]]) -> None:
        """Figures by name and step."""
        ...

    def close(self, status: str) -> None:
        """Nothing follows.

        Args:
            status: ``FINISHED``, ``FAILED`` or ``KILLED``.
        """
        ...


class ProgressLogger:
    """A display whose figures go to a log; closed by ``with``.

    A log that fails ends no run: that is told once, and nothing more is written.

    Args:
        tell: told of that.
        clock: seconds, of any beginning.
    """

    def __init__(self, log: Log, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log: Log | None = log
        self._tell, self._clock = tell, clock
        self._kept: list[tuple[str, int, float]] = []
        self._written = clock()
        self._known = 0
        self._latest: SearchProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._keep_latest()
        self._flush()
        if self._log is not None:
            with self._failing_once():
                self._log.close("FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED")

    def begin(self, run: RunFolder, facts: RunFacts, budget: Budget | None, n_evaluations: int) -> None:
        """Keeps the run's parameters; the evaluations that it has already were written when they were made."""
        self._known = n_evaluations
        if self._log is not None:
            with self._failing_once():
                self._log.begin(run, _parameters(facts, budget))

    def step(self, step: int, steps: int, loss: float) -> None:
        """Keeps the loss."""
        self._keep(step, {"training/loss": loss})

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Keeps the epoch's mean loss, and the accuracy of the largest and the smallest network."""
        figures = {"epoch/loss": epoch.loss, "epoch/largest": epoch.largest, "epoch/smallest": epoch.smallest}
        self._keep(epoch.epoch, figures)
        self._flush()

    def progress(self, progress: SearchProgress) -> None:
        """Keeps what the search has come to by each evaluation, once that is all told."""
        if progress.phase != "searching" or progress.done <= self._known:
            return
        if self._latest is not None and progress.done != self._latest.done:
            self._keep_latest()
        self._latest = progress

    def count(self, phase: str, done: int, total: int) -> None:
        """Keeps nothing."""

    def note(self, text: str) -> None:
        """Keeps nothing."""

    def _keep_latest(self) -> None:
        progress, self._latest = self._latest, None
        if progress is None:
            return
        figures = {"search/front": float(progress.front), "search/failures": float(progress.failures)}
        if progress.hypervolume is not None:
            figures["search/hypervolume"] = progress.hypervolume
        self._keep(progress.done, figures)

    def _keep(self, step: int, figures: Mapping[str, float]) -> None:
        self._kept += [(name, step, value) for name, value in figures.items() if math.isfinite(value)]
        if len(self._kept) >= _MOST or self._clock() - self._written >= _EVERY_S:
            self._flush()

    def _flush(self) -> None:
        kept, self._kept, self._written = self._kept, [], self._clock()
        if kept and self._log is not None:
            with self._failing_once():
                self._log.write(kept)

    @contextmanager
    def _failing_once(self) -> Iterator[None]:
        try:
            yield
        except LoggerError as error:
            self._log = None
            self._tell(f"{error}; the run goes on, and nothing more is logged there")


class TensorBoardWriter:
    """Event files for TensorBoard, in a folder of the run's name.

    Args:
        folder: made where there is none.

    Raises:
        SinkError: the package is not installed, or the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise LoggerError(_missing("tensorboard", error)) from None
        self._make, self._folder = SummaryWriter, folder
        self._writer: Any = None
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)

    def begin(self, run: RunFolder, parameters: Mapping[str, str]) -> None:
        with self._writing():
            # A file is named by the second that it is made in: a resumption within one would write over the first.
            self._writer = self._make(str(self._folder / run.id), filename_suffix=f".{time.time_ns()}")
            lines = [f"| {name} | {value} |" for name, value in parameters.items()]
            self._writer.add_text("run", "\n".join(["| | |", "|---|---|", *lines]))

    def write(self, figures: Sequence[tuple[str, int, float]]) -> None:
        with self._writing():
            for name, step, value in figures:
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def close(self, status: str) -> None:
        if self._writer is not None:
            with self._writing():
                self._writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LoggerError(f"tensorboard:{self._folder}: cannot be written: {error.strerror or error}") from error


class MLflowWriter:
    """A run of MLflow's, found again by where ours is kept.

    Args:
        uri: of the tracking server or its database, e.g. ``http://127.0.0.1:5000`` or ``sqlite:///mlflow.db``.
        experiment: the name of the experiment, which is made where there is none.

    Raises:
        SinkError: the package is not installed, or nothing answers.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_TIMEOUT_S))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(_RETRIES))
        try:
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise LoggerError(_missing("mlflow", error)) from None
        self._uri, self._errors, self._metric, self._param = uri, (MlflowException, OSError), Metric, Param
        self._run: str | None = None
        with self._asking():
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            self._experiment = found.experiment_id if found is not None else self._client.create_experiment(experiment)

    def begin(self, run: RunFolder, parameters: Mapping[str, str]) -> None:
        where = f"{socket.gethostname()}:{run.path.resolve()}"
        key = hashlib.sha256(where.encode(errors="replace")).hexdigest()
        with self._asking():
            query = f"tags.`nas.run` = '{key}'"
            found = self._client.search_runs([self._experiment], filter_string=query, max_results=1)
            if found:
                self._run = str(found[0].info.run_id)
                self._client.update_run(self._run, status="RUNNING")
                return
            made = self._client.create_run(
                self._experiment, run_name=run.id, tags={"nas.run": key, "nas.folder": where}
            )
            self._run = str(made.info.run_id)
            params = [self._param(name, value) for name, value in parameters.items()]
            self._client.log_batch(self._run, params=params)

    def write(self, figures: Sequence[tuple[str, int, float]]) -> None:
        now = int(time.time() * 1000)
        with self._asking():
            metrics = [self._metric(name, value, now, step) for name, step, value in figures]
            self._client.log_batch(self._run, metrics=metrics)

    def close(self, status: str) -> None:
        if self._run is not None:
            with self._asking():
                self._client.set_terminated(self._run, status)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            said = " ".join(str(error).split())[:300]
            raise LoggerError(f"mlflow:{self._uri}: cannot be written ({said})") from error


@contextmanager
def opened(wanted: Sequence[str], tell: Callable[[str], None], *, experiment: str) -> Iterator[list[ProgressObserver]]:
    """Sinks by what ``--log-to`` says, closed at the end.

    Args:
        wanted: each ``tensorboard:FOLDER`` or ``mlflow:URI``.
        tell: told where one fails later.
        experiment: MLflow's.

    Raises:
        SinkError: one is malformed, or cannot be opened.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(ProgressLogger(_log(text, experiment), tell)) for text in wanted]


def _log(text: str, experiment: str) -> Log:
    kind, _, where = text.partition(":")
    if not where:
        raise LoggerError(f"--log-to {text!r}: expected {FORMS}")
    match kind:
        case "tensorboard":
            return TensorBoardWriter(Path(where))
        case "mlflow":
            return MLflowWriter(where, experiment)
    raise LoggerError(f"--log-to {text!r}: unknown kind {kind!r}; expected {FORMS}")


def _parameters(facts: RunFacts, budget: Budget | None) -> dict[str, str]:
    known = facts.to_json() | {"evaluations": budget and budget.evaluations, "epochs": facts.epochs or None}
    found = {name: known[name] for name in _PARAMETERS if known.get(name) is not None}
    return {name: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for name, v in found.items()}


def _missing(extra: str, error: ImportError) -> str:
    return f"--log-to {extra}: {error}; install it with: pip install 'subnet-nas[{extra}]'"
