"""Measures deployments with a worker process of this machine: batches, retries, and what to do when the worker dies."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.catalog import check_machine
from hardware_profiles.connection import LocalConnection, WorkerDiedError, local_command, worker_environment
from hardware_profiles.errors import WorkerError
from hardware_profiles.protocol import MAX_RETRIES
from hardware_profiles.results import Result, keep_best, results
from hardware_profiles.samples import encode_samples
from hardware_profiles.session import Limits, run_session

__all__ = ["LocalProfiler", "encode_samples", "host_lock"]

MAX_BATCH = 20
"""Deployments measured together; more keep a round's ends too far apart in time."""
MAX_BATCH_BYTES = 512 * 1024 * 1024
MAX_DEATHS = 6
"""Deaths in a row, with nothing measured between them, after which the machine is to blame."""


def host_lock() -> Path:
    """The file that whoever measures on this host holds, one a user."""
    return Path(tempfile.gettempdir()) / f"hardware-profiles-{os.getuid()}.lock"


class LocalProfiler:
    """Measures on this machine; implements `LatencyProfiler`. One worker process, started when first needed.

    The host's lock is held while a batch is measured, not longer: several profilers in one program take turns.

    Args:
        seed: of the order of entries within rounds.
        on_wait: told in a sentence when another measurement must be waited for.
    """

    def __init__(
        self,
        profile: HardwareProfile,
        *,
        seed: int = 0,
        on_wait: Callable[[str], None] | None = None,
        limits: Limits | None = None,
        lock: Path | None = None,
    ) -> None:
        self._profile = profile
        self._rng = np.random.default_rng(seed)
        self._on_wait = on_wait
        self._limits = limits or Limits()
        self._lock = lock or host_lock()
        self._connection: LocalConnection | None = None
        self._environment: dict[str, object] = {}
        self._deaths_in_a_row = 0

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        return None if self._connection is None else self._connection.pid

    def measure(self, deployments: Sequence[Deployment], *, longer: bool = False) -> Iterator[Result]:
        """One result a deployment, in order, in batches that are measured in the same rounds; see `LatencyProfiler`."""
        check_machine(self._profile)
        for batch in _batches(deployments):
            yield from self._measure_batch(batch, longer=longer)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _measure_batch(self, batch: Sequence[Deployment], *, longer: bool) -> list[Result]:
        """The batch's results; whoever is noisy is measured again, at most twice, and keeps its quietest attempt."""
        attempts: list[list[Result]] = [[] for _ in batch]
        pending = list(range(len(batch)))
        for _ in range(1 + MAX_RETRIES):
            for i, result in self._measure_surviving(batch, pending, longer=longer).items():
                attempts[i].append(result)
            pending = [i for i in pending if _is_noisy(attempts[i][-1])]
            if not pending:
                break
        return [keep_best(found) for found in attempts]

    def _measure_surviving(
        self, batch: Sequence[Deployment], which: Sequence[int], *, longer: bool
    ) -> dict[int, Result]:
        """Results by index. Where the worker dies, the suspect is measured alone, and fails if it dies there again."""
        found: dict[int, Result] = {}
        deaths: Counter[int] = Counter()
        queue = deque([list(which)])
        while queue:
            group = queue.popleft()
            try:
                measured = self._session([batch[i] for i in group], longer=longer)
            except WorkerDiedError as death:
                self._count_death(death)
                suspects = [group[k] for k in death.suspects]
                deaths.update(suspects)
                if len(group) == 1 and deaths[group[0]] > 1:
                    found[group[0]] = LatencyFailure(f"{death}, while running this model alone")
                else:
                    queue.extendleft(reversed(_regroup(group, suspects)))
            else:
                self._deaths_in_a_row = 0
                found.update(zip(group, measured, strict=True))
        return found

    def _session(self, deployments: Sequence[Deployment], *, longer: bool) -> list[Result]:
        graphs = [graph for deployment in deployments for graph in deployment.graphs]
        owners = [i for i, deployment in enumerate(deployments) for _ in deployment.graphs]
        started = time.perf_counter()
        try:
            session = run_session(
                self._started(),
                graphs,
                lock=self._lock,
                limits=self._limits,
                rng=self._rng,
                longer=longer,
                on_wait=self._on_wait,
            )
        except BaseException as error:
            self.close()  # whatever happened, the process may be in the middle of something
            if isinstance(error, WorkerDiedError):
                error.suspects = tuple(dict.fromkeys(owners[k] for k in error.suspects))
            raise
        seconds = time.perf_counter() - started
        return results(deployments, session, self._profile, self._environment, seconds=seconds)

    def _started(self) -> LocalConnection:
        if self._connection is None:
            profile = self._profile
            self._connection = LocalConnection(local_command(), worker_environment(profile.threads))
            self._connection.send({"do": "start", "threads": profile.threads, "provider": profile.provider})
            self._environment = self._connection.receive(seconds=self._limits.start)["environment"]
        return self._connection

    def _count_death(self, death: WorkerDiedError) -> None:
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= MAX_DEATHS:
            raise WorkerError(
                f"{death}, {self._deaths_in_a_row} times in a row; look at the machine's memory and at "
                f"whether `import onnxruntime` works there"
            ) from death


def _is_noisy(result: Result) -> bool:
    return isinstance(result, LatencyMeasurement) and result.noisy


def _regroup(group: list[int], suspects: list[int]) -> list[list[int]]:
    """What to measure after a death: a lone suspect by itself, after the others; halves where anyone could be it."""
    if len(suspects) == 1:
        rest = [i for i in group if i not in suspects]
        return [part for part in (rest, suspects) if part]
    if not suspects or len(group) == 1:
        return [group]
    return [group[: len(group) // 2], group[len(group) // 2 :]]


def _batches(deployments: Sequence[Deployment]) -> Iterator[list[Deployment]]:
    batch: list[Deployment] = []
    size = 0
    for deployment in deployments:
        own = sum(len(graph.model) for graph in deployment.graphs)
        if batch and (len(batch) == MAX_BATCH or size + own > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(deployment)
        size += own
    if batch:
        yield batch
