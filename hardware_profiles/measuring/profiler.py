"""Measures deployments by a worker on any machine: batches, and recovery from a worker's death."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure
from hardware_profiles.errors import ConnectionLostError, ProfileError, UnreachableError, WorkerDiedError, WorkerError
from hardware_profiles.measuring.pace import Speed, better, usual_speed
from hardware_profiles.measuring.results import Result, clock_of, results
from hardware_profiles.measuring.session import Limits, run_session, trivial_model
from hardware_profiles.measuring.speed_record import SpeedRecord
from hardware_profiles.measuring.worker.large_models import LARGE_BYTES
from hardware_profiles.requirements import check_requirements, energy_error, platform_error
from hardware_profiles.runtimes.lookup import find_runtime
from hardware_profiles.transports.connection import Connection
from hardware_profiles.waiting import Patience, time_of_day

MAX_BATCH = 20
"""Deployments measured together; with more, the start and the end of a round are too far apart in time."""
MAX_BATCH_BYTES = 512 * 1024 * 1024
"""Size of a batch's models and example inputs, all held by the worker, that any machine is given."""
MEMORY_SHARE = 12
"""A batch may be larger, up to the machine's memory divided by this: language models, too, are compared in the same rounds.
The runtime needs up to 2.7 times the size."""
MAX_DEATHS = 6
"""Consecutive deaths without a suspected model after which the machine is to blame."""
MAX_LOST_PAGES = 100
"""The same for a browser's page that is closed, reloaded or hidden, which people do."""
MAX_KILLERS = 3
"""If all models of a batch kill the worker, and they are more than this, the machine is to blame."""
LOCK = "hardware-profiles"
"""Name of the host's measurement lock, shared by all its users (see `Worker.acquire`)."""


class WorkerProfiler:
    """Measures by a worker process on one machine; implements `LatencyProfiler`. The worker starts when it is first needed.

    The host's lock is held while a batch is measured, so that several profilers of one host take turns.

    Args:
        connect: starts a worker for the profile.
        seed: Seed of the order of entries within rounds.
        await_first: False to raise at once where the machine cannot be reached the first time; one that was reached before is
            waited for as the profile says.
        on_wait: receives a message when another measurement holds the host, or the machine is away.
        on_wait_end: is called when the host is free, or the machine is back, or no longer waited for.
        usual: the machine's usual speed, at which all latencies are given. None: that of the record, or where that has none,
            the speed of the first session. It stays the same; that of a busy machine, until the first quiet session. Longer
            measurements, which are the last of a search, are given at the usual speed as the record has it by then.
        record: Record of the speeds of this and other machines; None keeps none.
        energy: True to measure energy as well, for which the machine needs counters that may be read.
    """

    def __init__(
        self,
        profile: HardwareProfile,
        connect: Callable[[], Connection],
        *,
        seed: int = 0,
        await_first: bool = True,
        on_wait: Callable[[str], None] | None = None,
        on_wait_end: Callable[[], None] | None = None,
        limits: Limits | None = None,
        lock: str = LOCK,
        usual: Speed | None = None,
        record: SpeedRecord | None = None,
        energy: bool = False,
    ) -> None:
        self._profile, self._connect, self._await_first, self._energy = profile, connect, await_first, energy
        self._on_wait, self._on_wait_end = on_wait, on_wait_end
        self._limits = limits or Limits()
        rng, clock = np.random.default_rng(seed), clock_of(profile)
        self._convert = find_runtime(profile.runtime).convert
        self._run_session = partial(
            run_session,
            convert=self._convert,
            lock=lock,
            limits=self._limits,
            rng=rng,
            clock=clock,
            on_wait=on_wait,
            on_wait_end=on_wait_end,
        )
        self._usual, self._record = usual, record
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

    def measure(self, deployments: Iterable[Deployment], *, longer: bool = False) -> Iterator[Result]:
        """One result per deployment, in order, in batches that share their rounds; see `LatencyProfiler`."""
        for batch in batches_of(deployments, self.batch_bytes):
            result_by_index = self._measure_surviving(batch, longer=longer)
            if any(len(graph.model) >= LARGE_BYTES for deployment in batch for graph in deployment.graphs):
                # Its memory would stay with it: 8 GB after four language models of 0.5 GB each. Told to return what is free, it
                # timed the next models in pages that are scattered again.
                self.close()
            del batch  # before the next one is made
            yield from (result_by_index[i] for i in sorted(result_by_index))

    def batch_bytes(self) -> int:
        """The largest size of models and example inputs that share their rounds; on a CPU, starts the worker."""
        if not self._profile.on_cpu:
            return MAX_BATCH_BYTES  # the memory of a device is not known
        memory_mib = self.environment().get("memory_mib") or 0
        return max(MAX_BATCH_BYTES, memory_mib * 2**20 // MEMORY_SHARE)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _measure_surviving(self, batch: Sequence[Deployment], *, longer: bool) -> dict[int, Result]:
        """Results by index. If the worker dies, the suspect is measured alone, and fails if the worker dies again.

        This terminates: a death with suspects makes groups smaller or fails a model, and deaths without are counted.
        """
        result_by_index: dict[int, Result] = {}
        deaths: Counter[int] = Counter()
        queue, killers = deque([list(range(len(batch)))]), 0
        while queue:
            group = queue.popleft()
            try:
                measured = self._session([batch[i] for i in group], longer=longer)
            except WorkerDiedError as death:
                self._count_death(death)
                suspects = [group[k] for k in death.suspects]
                deaths.update(suspects)
                if suspects and len(group) == 1 and deaths[group[0]] > 1:
                    result_by_index[group[0]] = LatencyFailure(
                        f"{death}, while running this model alone", self._environment
                    )
                    killers += 1
                    if killers == len(batch) > MAX_KILLERS:
                        raise _unstable(f"{death}, with each of {killers} models alone") from death
                else:
                    queue.extendleft(reversed(_regroup(group, suspects)))
            else:
                self._unexplained_deaths = 0
                result_by_index.update(zip(group, measured, strict=True))
        return result_by_index

    def _session(self, deployments: Sequence[Deployment], *, longer: bool) -> list[Result]:
        graphs = [graph for deployment in deployments for graph in deployment.graphs]
        owners = [i for i, deployment in enumerate(deployments) for _ in deployment.graphs]
        started = time.perf_counter()
        try:
            connection = self._started()
            if self._record is not None and (self._usual is None or longer):
                self._usual = usual_speed(self._record.read(self._environment)) or self._usual
            counter = self._environment["energy"] if self._energy else None
            session = self._run_session(connection, graphs, longer=longer, usual=self._usual, counter=counter)
        except BaseException as error:
            self.close()  # the process may be in the middle of a command
            if isinstance(error, ConnectionLostError):
                error.suspects = ()
            elif isinstance(error, WorkerDiedError):
                error.suspects = tuple(dict.fromkeys(owners[k] for k in error.suspects))
            raise
        seconds = time.perf_counter() - started
        if (paced := session.pace(clock_of(self._profile), None)) is not None:
            self._know(paced[1])
        return results(deployments, session, self._profile, self._environment, seconds=seconds, usual=self._usual)

    def _know(self, speed: Speed) -> None:
        """Takes note of a session's speed."""
        if better(self._usual, speed):
            self._usual = speed
        if self._record is not None:
            self._record.add(self._environment, speed)

    def _started(self) -> Connection:
        if self._connection is None:
            self._connection = self._reach()
            profile = self._profile
            about = {"threads": profile.threads, "provider": profile.provider, "trivial": trivial_model(self._convert)}
            about |= {"energy": True} if self._energy else {}
            self._connection.send({"do": "start", **about})
            answer = self._connection.receive(seconds=self._limits.start)
            try:
                if answer["event"] == "refused":
                    raise WorkerError(f"profile {profile.name}: {answer['message']}", code="worker.refused")
                if answer["event"] == "unsupported":
                    raise platform_error(profile, answer["platform"])
                if answer["event"] == "no-energy":
                    raise energy_error(profile, answer["message"])
                check_requirements(profile, answer["environment"])
            except (ProfileError, WorkerError):
                self.close()
                raise
            self._environment = answer["environment"]
        return self._connection

    def _reach(self) -> Connection:
        """A new connection, once the machine can be reached."""
        name, was_reached = self._profile.name, bool(self._environment)
        minutes = self._profile.wait_minutes if was_reached or self._await_first else 0.0
        patience = Patience(name, minutes, on_wait=self._on_wait, on_wait_end=self._on_wait_end)

        def reason_to_wait(error: Exception) -> str:
            return error.reason if isinstance(error, UnreachableError) and (was_reached or not error.doubtful) else ""

        try:
            return patience.repeat(self._connect, reason_to_wait)
        except UnreachableError as error:
            if not reason_to_wait(error):
                raise ProfileError(str(error), code=error.code) from error
            if not was_reached and error.wait is None:
                raise
            advice = "Finished measurements are kept; continue when the machine is back"
            lost = f"lost the machine of profile {name}"
            if error.wait is not None:
                lost = f"waited for the machine of profile {name} since {time_of_day(error.wait.since)}, and it is not back"
            message = f"{lost}: {error}. {advice}"
            lost_error = UnreachableError(message, profile=name, reason=error.reason, code="worker.machine-lost")
            lost_error.wait = error.wait
            raise lost_error from error

    def _count_death(self, death: WorkerDiedError) -> None:
        """Counts deaths without a suspected model; too many of these are an error."""
        self._unexplained_deaths += not death.suspects
        limit = MAX_LOST_PAGES if self._profile.browser and isinstance(death, ConnectionLostError) else MAX_DEATHS
        if self._unexplained_deaths >= limit:
            self._unexplained_deaths = 0  # the next call starts anew
            raise _unstable(f"{death}, {limit} times in a row") from death


def _unstable(fault: str) -> WorkerError:
    advice = "check the machine's memory and other processes, and that the runtime can be imported there"
    return WorkerError(f"{fault}; {advice}. Finished measurements are kept", code="worker.machine-unstable")


def _regroup(group: list[int], suspects: list[int]) -> list[list[int]]:
    """The groups to measure after a death: a single suspect alone, after the others; two halves if there are several."""
    if len(suspects) == 1:
        return [part for part in ([i for i in group if i not in suspects], suspects) if part]
    if not suspects or len(group) == 1:
        return [group]
    return [group[: len(group) // 2], group[len(group) // 2 :]]


def batches_of(
    deployments: Iterable[Deployment], batch_bytes: Callable[[], int] = lambda: MAX_BATCH_BYTES
) -> Iterator[list[Deployment]]:
    """Deployments, in order, in the batches that share their rounds.

    Args:
        batch_bytes: Returns the maximum size of a batch in bytes; called only where one would have more than `MAX_BATCH_BYTES`.
    """
    batch, size = list[Deployment](), 0

    def full(size: int) -> bool:
        return size > MAX_BATCH_BYTES and size > batch_bytes()

    for deployment in deployments:
        deployment_bytes = sum(
            len(g.model) + sum(a.nbytes for call in g.inputs for a in call.values()) for g in deployment.graphs
        )
        if batch and (len(batch) == MAX_BATCH or full(size + deployment_bytes)):
            yield batch
            batch, size = [], 0
        batch.append(deployment)
        size += deployment_bytes
        del deployment  # a batch alone is held while it is measured
        if full(size):
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
