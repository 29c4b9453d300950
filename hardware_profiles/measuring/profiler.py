"""Measures deployments by a worker, wherever it runs: batches, retries, and what to do when the worker dies."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from hardware_profiles.base import Deployment, Graph, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.errors import ConnectionLostError, ProfileError, UnreachableError, WorkerDiedError, WorkerError
from hardware_profiles.measuring.protocol import CALM_SESSIONS, LAST_PAUSE_S, RETRY_PAUSES_S
from hardware_profiles.measuring.requirements import unmet_requirement
from hardware_profiles.measuring.results import Result, keep_best, results
from hardware_profiles.measuring.session import Limits, run_session
from hardware_profiles.transports.connection import Connection

MAX_BATCH = 20
"""Deployments measured together; more keep a round's ends too far apart in time."""
MAX_BATCH_BYTES = 512 * 1024 * 1024
"""Of their models and example inputs, which a worker holds all at once; a deployment that is larger is measured alone."""
MAX_DEATHS = 6
"""Deaths of which no model is suspected, with nothing measured between them, after which the machine is to blame."""

MAX_KILLERS = 3
"""Where more models than these were to be measured and each killed the worker, they are not to blame."""
LOCK = "hardware-profiles"
"""Name of what whoever measures on a host holds, of all its users (see `Worker.acquire`)."""
PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Before each new try to reach a machine that has been lost: some may be restarting, none is worth a minute."""


class WorkerProfiler:
    """Measures by a worker process on one machine; implements `LatencyProfiler`. It is started when first needed.

    The host's lock is held while a batch is measured, not longer: several profilers of one host take turns.

    Args:
        connect: starts a worker where the profile says, and returns the connection to it.
        seed: of the order of entries within rounds.
        on_wait: told in a sentence when another measurement must be waited for.
        pauses_s: before the tries to reach a machine again.
        levels: the sentinels' levels in earlier sessions on this machine, the last ones last, to tell a disturbed session
            from a calm one; each session's is added.
    """

    def __init__(
        self,
        profile: HardwareProfile,
        connect: Callable[[], Connection],
        *,
        seed: int = 0,
        on_wait: Callable[[str], None] | None = None,
        limits: Limits | None = None,
        lock: str = LOCK,
        pauses_s: Sequence[float] = PAUSES_S,
        levels: list[float] | None = None,
    ) -> None:
        self._profile = profile
        self._connect = connect
        self._rng = np.random.default_rng(seed)
        self._on_wait = on_wait
        self._limits = limits or Limits()
        self._lock = lock
        self._pauses_s = pauses_s
        self._levels = [] if levels is None else levels
        self._connection: Connection | None = None
        self._environment: Mapping[str, Any] = {}
        self._unexplained_deaths = 0

    def environment(self) -> Mapping[str, Any]:
        while True:
            try:
                self._started()
                return self._environment
            except WorkerDiedError as death:
                self.close()
                self._count_death(death)

    def measure(self, deployments: Sequence[Deployment], *, longer: bool = False) -> Iterator[Result]:
        """One result a deployment, in order, in batches that are measured in the same rounds; see `LatencyProfiler`."""
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
        """The batch's results. Who is noisy is measured again, at most twice, and keeps the quietest attempt; a last time,
        who has no figure even so."""
        attempts: list[list[Result]] = [[] for _ in batch]
        pending = list(range(len(batch)))
        for pause_s in (0.0, *RETRY_PAUSES_S, LAST_PAUSE_S):
            if pause_s == LAST_PAUSE_S:
                pending = [i for i in pending if isinstance(keep_best(attempts[i]), LatencyFailure)]
            if not pending:
                break
            if pause_s == LAST_PAUSE_S or (pause_s and 2 * len(pending) > len(batch)):
                time.sleep(pause_s)
            for i, result in self._measure_surviving(batch, pending, longer=longer).items():
                attempts[i].append(result)
            pending = [i for i in pending if _is_noisy(attempts[i][-1])]
        return [keep_best(found) for found in attempts]

    def _measure_surviving(
        self, batch: Sequence[Deployment], which: Sequence[int], *, longer: bool
    ) -> dict[int, Result]:
        """Results by index. Where the worker dies, the suspect is measured alone, and fails if it dies there again.

        However many kill it, this ends: a death with suspects makes groups smaller or fails a model, one without is counted.
        """
        found: dict[int, Result] = {}
        deaths: Counter[int] = Counter()
        queue, killers = deque([list(which)]), 0
        while queue:
            group = queue.popleft()
            try:
                measured = self._session([batch[i] for i in group], longer=longer)
            except WorkerDiedError as death:
                self._count_death(death)
                suspects = [group[k] for k in death.suspects]
                deaths.update(suspects)
                if suspects and len(group) == 1 and deaths[group[0]] > 1:
                    found[group[0]] = LatencyFailure(f"{death}, while running this model alone", self._environment)
                    killers += 1
                    if killers == len(which) > MAX_KILLERS:
                        raise WorkerError(
                            f"{death}, with each of {killers} models alone; that is the machine's doing and not theirs: look "
                            "at its memory and at what else runs there. What was measured is kept"
                        ) from death
                else:
                    queue.extendleft(reversed(_regroup(group, suspects)))
            else:
                self._unexplained_deaths = 0
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
            if isinstance(error, ConnectionLostError):
                error.suspects = ()
            elif isinstance(error, WorkerDiedError):
                error.suspects = tuple(dict.fromkeys(owners[k] for k in error.suspects))
            raise
        seconds = time.perf_counter() - started
        calm_ms = min(self._levels[-CALM_SESSIONS:], default=math.inf)
        found = results(deployments, session, self._profile, self._environment, seconds=seconds, calm_ms=calm_ms)
        levels = [result.environment["level_ms"] for result in found if isinstance(result, LatencyMeasurement)]
        self._levels.extend(levels[:1])  # all are of one session
        return found

    def _started(self) -> Connection:
        if self._connection is None:
            self._connection = self._reach()
            profile = self._profile
            self._connection.send({"do": "start", "threads": profile.threads, "provider": profile.provider})
            answer = self._connection.receive(seconds=self._limits.start)
            if answer["event"] == "unfit":
                told = f"latency is measured on Linux, which can pin processes, and this is {answer['platform']}"
            else:
                told = unmet_requirement(profile, answer["environment"])
            if told:
                self.close()
                raise ProfileError(f"profile {profile.name}: {told}")
            self._environment = answer["environment"]
        return self._connection

    def _reach(self) -> Connection:
        """A new connection; a machine that was reached before may be away for a moment."""
        if not self._environment:
            return self._connect()
        for pause_s in self._pauses_s:
            try:
                return self._connect()
            except UnreachableError:
                time.sleep(pause_s)
        try:
            return self._connect()
        except UnreachableError as error:
            raise WorkerError(
                f"the machine of profile {self._profile.name} was there and is gone: {error}. "
                "What was measured is kept; when the machine is back, go on with `nas resume`"
            ) from error

    def _count_death(self, death: WorkerDiedError) -> None:
        """Counts what no model is to blame for; too many of these are an error."""
        if death.suspects:
            return
        self._unexplained_deaths += 1
        if self._unexplained_deaths >= MAX_DEATHS:
            self._unexplained_deaths = 0  # whoever asks again has done something about it
            raise WorkerError(
                f"{death}, {MAX_DEATHS} times in a row; look at the machine's memory and at "
                f"whether `import onnxruntime` works there"
            ) from death


def _is_noisy(result: Result) -> bool:
    return isinstance(result, LatencyMeasurement) and result.noisy


def _regroup(group: list[int], suspects: list[int]) -> list[list[int]]:
    """What to measure after a death: a lone suspect by itself, after the others; halves where any of several could be it."""
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
        own = sum(map(_n_bytes, deployment.graphs))
        if batch and (len(batch) == MAX_BATCH or size + own > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(deployment)
        size += own
    if batch:
        yield batch


def _n_bytes(graph: Graph) -> int:
    return len(graph.model) + sum(array.nbytes for call in graph.inputs for array in call.values())
