"""Value types and the protocol of latency profiling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """A machine as a deployment sees it, and where it is.

    Attributes:
        threads: intra-op threads of the runtime, each on a CPU of its own.
        batch_size: examples a call.
        provider: execution provider of ONNX Runtime.
        placement: Ray resources of the node to measure on, e.g. ``{"hw-raspberrypi5": 1}``; empty for this machine.
        ssh: where to measure by ssh, as its command takes it, e.g. ``pi@raspberrypi``; "" for this machine. Excludes
            `placement`.
        python: the interpreter on an ssh host, which needs numpy and onnxruntime alone.
    """

    name: str
    threads: int = 1
    batch_size: int = 1
    provider: str = "CPUExecutionProvider"
    placement: Mapping[str, float] = field(default_factory=dict)
    ssh: str = ""
    python: str = "python3"
    description: str = ""

    @property
    def remote(self) -> bool:
        """Whether it is measured elsewhere than on this machine."""
        return bool(self.placement or self.ssh)

    @property
    def on_cpu(self) -> bool:
        """Whether the threads that call the runtime do the computing; elsewhere they wait for a device."""
        return self.provider == "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Graph:
    """One ONNX graph of a deployment: serialised model, example inputs, and calls per use.

    Attributes:
        inputs: what one timed run goes through, one call each: arrays by name, whose shapes may differ from call to call.
            More than one where the cost depends on the input, as with sentences of different lengths.
        calls: times that one use of the deployment calls the graph.

    Raises:
        ValueError: there is no input.
    """

    model: bytes = field(repr=False)
    inputs: tuple[Mapping[str, NDArray[Any]], ...] = field(repr=False)
    name: str = "main"
    calls: int = 1

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError(f"graph {self.name!r} has no example inputs; give those of one call at least")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is deployed: one graph for a CNN, two for an encoder-decoder.

    Latency is the sum over graphs of calls x time, where a graph's time is the mean over its example inputs.
    """

    graphs: tuple[Graph, ...]

    @classmethod
    def single(cls, model: bytes, *inputs: Mapping[str, NDArray[Any]]) -> Deployment:
        """A deployment of one graph, timed over these inputs, one call each."""
        return cls((Graph(model, inputs),))


@dataclass(frozen=True, slots=True)
class LatencyMeasurement:
    """Latency of one deployment on one profile.

    A timed run calls a graph once with each of its example inputs, and its time is divided by their number: all times but
    `session_ms` are milliseconds per call, averaged over the inputs. With several inputs the percentiles and `raw_ms` are
    of that average, then, and not of single calls: they tell how a run varies, not how the inputs differ.

    Attributes:
        latency_ms: ranking latency: median over rounds of each round's minimum (p10 for more than one thread; thread CPU
            time where most runs of one thread on a CPU were preempted), per batch.
        resolution: relative; differences below it are ties. The largest of the session's noise floor (A/A), two standard
            errors of the figure's own rounds, and what the session's sentinels exceeded those of calmer sessions by.
        p50_ms: median of all samples; service latency.
        p90_ms, p99_ms: service latency in the tail; None where there are too few samples to say (64 and 662).
        samples: number of timed runs in the rounds that count.
        session_ms: wall time that making the runtime's session took, in a process that had made others; the shortest of some.
        peak_mib: memory that the session and one run of it, through all inputs, added to a process, at most at once.
        session_error_ms, peak_error_mib: smaller differences in these are ties. What the second-fastest making took beyond the
            fastest, at least 15 %; what the two sentinels' peaks differed by, scaled to this one, at least 1/8 MiB.
        discarded_rounds: rounds left out because the sentinel strayed in them.
        drift: relative change of the sentinel between the start, the middle and the end, the largest of the three.
        preempted_share: share of runs in which the worker lost the CPU.
        noisy: the figure did not settle within the retries; its resolution is widened to what was seen.
        raw_ms: wall times of all runs, those of discarded rounds too, (n_rounds, n_runs) flattened in order, with the
            rounds' lengths in `round_lengths`.
        raw_cpu_ms: the thread CPU time of the same runs.
        environment: CPU model, cores, pinned CPUs, runtime version, provider, ...; JSON-able.
    """

    latency_ms: float
    resolution: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    samples: int
    session_ms: float
    peak_mib: float
    session_error_ms: float
    peak_error_mib: float
    discarded_rounds: int
    drift: float
    preempted_share: float
    noisy: bool
    protocol: str
    environment: Mapping[str, Any]
    raw_ms: NDArray[np.float64] = field(repr=False)
    raw_cpu_ms: NDArray[np.float64] = field(repr=False)
    round_lengths: tuple[int, ...] = field(repr=False)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LatencyFailure:
    """Why one deployment has no figure, and where it was tried: at least what the worker said of its machine and versions."""

    message: str
    environment: Mapping[str, Any] = field(default_factory=dict)


class LatencyProfiler(Protocol):
    """Measures deployments on one profile; keeps one worker process."""

    def environment(self) -> Mapping[str, Any]:
        """What the worker says of its machine and versions, before anything is measured; JSON-able.

        Raises:
            WorkerError, ProfileError: as `measure`.
        """
        ...

    def measure(
        self, deployments: Sequence[Deployment], *, longer: bool = False
    ) -> Iterator[LatencyMeasurement | LatencyFailure]:
        """One result a deployment, in their order; all are interleaved in the same rounds.

        Args:
            longer: the protocol for final figures: more rounds.

        Raises:
            WorkerError: the worker cannot be started, or died too often.
            ProfileError: the profile asks for what this machine does not have.
        """
        ...

    def close(self) -> None:
        """Ends the worker process; idempotent."""
        ...
