"""Value types and the protocol of latency profiling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hardware_profiles.waiting import WAIT_MINUTES

if TYPE_CHECKING:  # a name of a profile is checked without loading numpy
    import numpy as np
    from numpy.typing import NDArray


WEIGHT_PRECISIONS = ("fp32", "int8", "int4")
"""Precisions that the weights alone can be in, without calibration; see `hardware_profiles.quantize.convert_weights`."""


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """A deployment target: a machine, where to reach it, and how the runtime is configured there.

    Attributes:
        name: Name by which measurements on it are stored, as in ``latency_ms@NAME``; in profile files letters, digits, ``.``,
            ``_`` and ``-``, at most 64.
        threads: intra-op threads of the runtime, each pinned to a CPU of its own.
        batch_size: examples per call.
        provider: execution provider of ONNX Runtime, or device of another runtime.
        placement: Ray resources of the node to measure on, e.g. ``{"hw-raspberrypi5": 1}``; empty for this machine.
        ssh: host to measure on, as the ssh command takes it, e.g. ``pi@raspberrypi``; "" for this machine. Excludes
            `placement`.
        browser: True to measure in a browser whose page is opened on the device; its providers are ``wasm`` and ``webgpu``.
            Excludes `placement` and `ssh`.
        python: the interpreter on an ssh host, with numpy and the runtime.
        description: Text for people, such as the machine's model; it does not affect measuring.
        runtime: The runtime of the models: ``onnxruntime``, ``openvino``, or ``module:Class`` of a
            `hardware_profiles.runtimes.base.Runtime`.
        wait_minutes: Minutes that a measurement waits for the machine of `ssh` or `placement` while it cannot be reached; it
            affects no measured value, and profiles that differ in it alone are equal.
    """

    name: str
    threads: int = 1
    batch_size: int = 1
    provider: str = "CPUExecutionProvider"
    placement: Mapping[str, float] = field(default_factory=dict)
    ssh: str = ""
    python: str = "python3"
    description: str = ""
    runtime: str = "onnxruntime"
    wait_minutes: float = field(default=WAIT_MINUTES, compare=False)
    browser: bool = False

    def to_json(self) -> dict[str, Any]:
        """The fields that say what is measured; the runtime and the browser only where they are not the defaults, as in files
        of before."""
        unsaid = {"wait_minutes"}
        unsaid |= {"runtime"} if self.runtime == "onnxruntime" else set()
        unsaid |= set() if self.browser else {"browser"}
        return {key: value for key, value in asdict(self).items() if key not in unsaid}

    @property
    def remote(self) -> bool:
        """True if the profile is measured on another machine."""
        return bool(self.placement or self.ssh or self.browser)

    @property
    def on_cpu(self) -> bool:
        """True if the threads that call the runtime compute; with other providers they wait for a device."""
        return self.provider in ("CPUExecutionProvider", "CPU")


@dataclass(frozen=True, slots=True)
class Graph:
    """One ONNX graph of a deployment.

    Attributes:
        model: serialised ONNX.
        inputs: example inputs by name; a timed run makes one call with each. Give several where the cost depends on the
            input, as with sentences of different lengths.
        name: Name of the graph, such as ``encoder``, in error messages and in the environment of a measurement.
        calls: times that one use of the deployment calls the graph.
    """

    model: bytes = field(repr=False)
    inputs: tuple[Mapping[str, NDArray[Any]], ...] = field(repr=False)
    name: str = "main"
    calls: int = 1

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError(f"graph {self.name!r} has no example inputs; give those of at least one call")


@dataclass(frozen=True, slots=True)
class Deployment:
    """The graphs of a deployed model: one for a CNN, two for an encoder-decoder.

    Latency is the sum over graphs of calls x time, where a graph's time is the mean over its example inputs.

    Attributes:
        graphs: The graphs, at least one: without any, the result is a `LatencyFailure`.
    """

    graphs: tuple[Graph, ...]

    @classmethod
    def single(cls, model: bytes, *inputs: Mapping[str, NDArray[Any]]) -> Deployment:
        """A deployment of one graph, timed with one call for each of the inputs.

        Args:
            model: Serialised ONNX.
            *inputs: Example inputs by name, one mapping for each call; at least one.

        Raises:
            ValueError: there are no inputs.
        """
        return cls((Graph(model, inputs),))


@dataclass(frozen=True, slots=True)
class LatencyMeasurement:
    """Latency of one deployment on one profile.

    A timed run calls a graph once with each of its example inputs, and its time is divided by their number: all times but
    `session_ms` are milliseconds per call, averaged over the inputs. With several inputs, the percentiles and `raw_ms`
    are of that average: they show how a run varies, not how the inputs differ.

    Attributes:
        latency_ms: ranking latency per batch: a quantile of the rounds' fastest runs; for one thread on a CPU, of its CPU time
            at the machine's usual speed; for several threads, of the rounds' 10th percentiles in wall time.
        resolution: relative; smaller differences are ties: half of the 90 % interval. The maximum of the A/A difference of the
            session and the error of this measurement.
        p50_ms: median of all samples (service latency).
        p90_ms, p99_ms: tail of the service latency; None with too few samples (below 64 and 662).
        samples: number of timed runs.
        session_ms: shortest wall time to create a runtime session, in a process that had created others.
        peak_mib: peak memory that the session and one run of it, with all inputs, added to a process.
        session_error_ms, peak_error_mib: smaller differences in these are ties. The gap between the two fastest creations,
            at least 15 %; the difference of the two sentinels' peaks, scaled to this one, at least 1/8 MiB.
        energy_mj: millijoules per call above waiting; None unless energy was asked for and its counter works.
        energy_error_mj: half of its 90 % interval.
        energy_failure: why a profiler with `energy` has none.
        drift: largest relative change of the sentinels between the start, the middle and the end.
        preempted_share: share of runs in which the worker lost the CPU.
        noisy: True if the resolution is wide, so that measuring again on a calmer machine would tell more.
        protocol: Name and version of the measuring protocol; latencies of different ones are not comparable.
        raw_ms: wall times of all runs, (n_rounds, n_runs) flattened in order, with the rounds' lengths in `round_lengths`.
        raw_cpu_ms: thread CPU times of the same runs.
        round_lengths: Number of runs of each round, in order; they add up to the number of raw times.
        environment: CPU model, cores, pinned CPUs, runtime version, provider, ...; JSON-able.
        seconds: wall time spent on this measurement.
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
    drift: float
    preempted_share: float
    noisy: bool
    protocol: str
    environment: Mapping[str, Any]
    raw_ms: NDArray[np.float64] = field(repr=False)
    raw_cpu_ms: NDArray[np.float64] = field(repr=False)
    round_lengths: tuple[int, ...] = field(repr=False)
    seconds: float = 0.0
    energy_mj: float | None = None
    energy_error_mj: float | None = None
    energy_failure: str = ""


@dataclass(frozen=True, slots=True)
class LatencyFailure:
    """The reason why one deployment does not run, and the environment in which it failed.

    Attributes:
        message: What failed, with the name of the graph if the deployment has several.
        environment: The worker's description of its machine and versions, JSON-able; empty where it is unknown.
    """

    message: str
    environment: Mapping[str, Any] = field(default_factory=dict)


class LatencyProfiler(Protocol):
    """Measures deployments on one profile, by one worker process."""

    def environment(self) -> Mapping[str, Any]:
        """The worker's description of its machine and versions, before any measurement; JSON-able."""

    def measure(
        self, deployments: Iterable[Deployment], *, longer: bool = False
    ) -> Iterator[LatencyMeasurement | LatencyFailure]:
        """One result per deployment, in order; all that fit into memory together are interleaved in the same rounds.

        Args:
            deployments: taken as they are needed, so that large ones can be made one after another.
            longer: more rounds, for final measurements.

        Raises:
            WorkerError: the worker cannot be started, or died too often.
            ProfileError: the machine does not meet the profile's requirements.
        """

    def batch_bytes(self) -> int:
        """The largest size in bytes of models and example inputs that share their rounds; may start the worker."""

    def close(self) -> None:
        """Ends the worker process; idempotent."""
