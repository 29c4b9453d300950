"""Repeatability of latencies beside a training process: our protocol and three common ones, on the same networks.

    python -m tests.benchmarks.repeatability [--batches 1,16] [--runtime openvino] [--alone]

Finished parts are stored in the state file; a second call continues.

Method. Random subnets of the preset tiny (mobile-cnn, 28 x 28), random weights, lowered to ONNX; one thread, pinned; another
process trains on another CPU. Every protocol measures all of them twice, in turns (ours, then the others, then all again). A/B:
mean of |A - B| over their mean. Inverted: pairs whose latencies differ by more than 3 % (mean of our two), ordered differently
by A and by B. Wrong: the same pairs, ordered differently by A or B than by the mean of our two.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, HardwareProfile, LatencyMeasurement
from hardware_profiles.catalog import in_runtime
from hardware_profiles.environment import machine_key
from hardware_profiles.measuring.profiler import MAX_BATCH
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.runtimes.lookup import find_runtime
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.networks.module_to_onnx import lower
from supernets.training.checkpoint import make_supernet
from tests.benchmarks.markdown import table_head, table_row

Floats = NDArray[np.float64]

APART = 0.03


@dataclass(frozen=True)
class Network:
    """One subnet to measure."""

    model: bytes
    inputs: Mapping[str, NDArray[np.float32]]


def networks(n: int, batch_size: int, seed: int) -> list[Network]:
    """Random subnets with random weights, determined by the seed."""
    torch.manual_seed(seed)
    family = MobileCNNFamily(MOBILE_CNN["tiny"], image_size=28, channels=1, n_classes=10)
    supernet = make_supernet(family)
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((batch_size, 1, 28, 28)).astype(np.float32)
    models = [lower(supernet.extract(supernet.space.sample(rng)), family.example(2)) for _ in range(n)]
    return [Network(model, {"input": image}) for model in models]


def ours(
    subnets: Sequence[Network], batch_size: int, seed: int, runtime: str = "onnxruntime"
) -> tuple[list[float], list[float], dict[str, Any]]:
    """Latencies and resolutions by this project's protocol (NaN for failures), and more about the session."""
    profile = in_runtime(HardwareProfile("benchmark", batch_size=batch_size), runtime)
    with open_profiler(profile, seed=seed) as profiler:
        profiler.environment()  # starts the worker, as a search does once
        found = list(profiler.measure([Deployment.single(net.model, net.inputs) for net in subnets]))
    good = [result for result in found if isinstance(result, LatencyMeasurement)]
    session = {
        "seconds": sum(result.seconds for result in good),  # wall clock, without the wait for the host's lock
        "noisy": sum(result.noisy for result in good),
        "failed": len(found) - len(good),
        "drift": max(result.drift for result in good),
        "speed": [result.environment["speed"] for result in good[::MAX_BATCH]],
    }
    pairs = [(r.latency_ms, r.resolution) if isinstance(r, LatencyMeasurement) else (np.nan, np.nan) for r in found]
    return [a for a, _ in pairs], [b for _, b in pairs], session


def common(
    subnets: Sequence[Network], warm_up: int, runs: int, middle: Callable[[Floats], Any], runtime: str = "onnxruntime"
) -> list[float]:
    """Latencies as most tools measure them: a session, warm-up runs, timed runs in a row, and one statistic of these."""
    own, found = find_runtime(runtime), []
    for net in subnets:
        session = own.load(net.model, device=own.device, cpus=[0], inputs=[net.inputs], whole=False)
        times = []
        for _ in range(warm_up + runs):
            start = time.perf_counter()
            session.run(net.inputs)
            times.append((time.perf_counter() - start) * 1e3)
        found.append(float(middle(np.array(times[warm_up:]))))
    return found


COMMON: Mapping[str, tuple[int, int, Callable[[Floats], Any]]] = {
    "one cold run": (0, 1, np.mean),
    "mean of 20 after 10": (10, 20, np.mean),
    "median of 200": (10, 200, np.median),
}


def train_forever() -> None:
    """Trains a small network until the input ends; the load beside the measurements."""
    torch.set_num_threads(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3, stride=2), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(64 * 12 * 12, 10),
    )  # fmt: skip
    optimiser = torch.optim.SGD(net.parameters(), 0.01)
    images, labels = torch.randn(512, 1, 28, 28), torch.randint(0, 10, (512,))
    while not select.select([sys.stdin], [], [], 0)[0]:
        chosen = torch.randint(0, 512, (64,))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(images[chosen]), labels[chosen]).backward()
        optimiser.step()


@contextlib.contextmanager
def training(cpu: int | None) -> Iterator[None]:
    """Runs a training process on one CPU meanwhile; None runs none."""
    if cpu is None:
        yield
        return
    command = [sys.executable, "-m", "tests.benchmarks.repeatability", "--train", str(cpu)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        time.sleep(5)  # until it trains
        if process.poll() is not None:
            raise SystemExit("the training process has ended; look above for why")
        yield
        assert process.stdin is not None
        process.stdin.close()


def table_rows(batch_size: int, taken: Mapping[str, Any], n: int) -> Iterator[str]:
    """A line of the table for each protocol, from [A, B] latencies by protocol."""
    reference = np.mean(taken["ours"]["latency_ms"], axis=0)
    i, j = np.triu_indices(n, k=1)
    # NaN does not count as apart.
    apart = np.abs(reference[i] - reference[j]) > APART * np.minimum(reference[i], reference[j])
    i, j = i[apart], j[apart]
    true = np.sign(reference[i] - reference[j])
    for name, session in taken.items():
        a, b = np.array(session["latency_ms"])
        mape = 100 * float(np.nanmean(np.abs(a - b) / ((a + b) / 2)))
        orders = [np.sign(times[i] - times[j]) for times in (a, b)]
        inverted, wrong = np.sum(orders[0] != orders[1]), sum(np.sum(order != true) for order in orders)
        each_s = sum(session["seconds"]) / (2 * n)
        yield table_row(batch_size, name, f"{mape:.2f} %", len(i), inverted, wrong, f"{each_s:.3f}")


@dataclass(frozen=True)
class Setting:
    """What is measured, and on which CPUs.

    Attributes:
        training_cpu: that a training process has meanwhile; None for no such process.
        state: the file of finished parts.
    """

    networks: int
    seed: int
    runtime: str
    measuring_cpu: int
    training_cpu: int | None
    state: Path


def measure(setting: Setting, state: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """The latencies of every protocol, twice; parts in `state` are not repeated."""
    subnets = networks(setting.networks, batch_size, setting.seed)
    done: dict[str, dict[str, list[Any]]] = state.setdefault(str(batch_size), {})
    for repetition in range(2):
        for name in ("ours", *COMMON):
            kept = done.setdefault(name, {"latency_ms": [], "seconds": [], "told": [], "resolution": []})
            if len(kept["latency_ms"]) > repetition:
                continue
            with training(setting.training_cpu):
                started = time.perf_counter()
                if name == "ours":
                    seed = setting.seed + repetition
                    latencies, resolutions, session = ours(subnets, batch_size, seed, setting.runtime)
                    kept["resolution"].append(resolutions)
                    kept["told"].append(session)
                    seconds = session["seconds"]
                else:
                    allowed = os.sched_getaffinity(0)
                    os.sched_setaffinity(0, {setting.measuring_cpu})
                    latencies = common(subnets, *COMMON[name], setting.runtime)
                    os.sched_setaffinity(0, allowed)
                    seconds = time.perf_counter() - started
            kept["latency_ms"].append(latencies)
            kept["seconds"].append(seconds)
            _save(setting.state, state)
    return done


def _save(path: Path, state: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(state), encoding="utf-8")
    fresh.replace(path)


def _load(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    if not path.exists():
        return {"about": about}
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if state["about"] != about:
        raise SystemExit(f"{path}: measured as {state['about']}, and now it is {about}; take another --state")
    return state


def main(
    n_networks: Annotated[int, typer.Option("--networks")] = 40,
    batches: str = "1,16",
    seed: int = 0,
    runtime: Annotated[str, typer.Option(help="onnxruntime, openvino, or module:Class")] = "onnxruntime",
    alone: Annotated[bool, typer.Option("--alone", help="without a training process beside it")] = False,
    state_file: Annotated[Path, typer.Option("--state")] = Path("runs/repeatability.json"),
    train: Annotated[int | None, typer.Option(hidden=True, help="trains on this CPU until the input ends")] = None,
) -> None:
    """Measures what is missing, prints the table."""
    if train is not None:
        os.sched_setaffinity(0, {train})
        return train_forever()
    with open_profiler(in_runtime(HardwareProfile("benchmark"), runtime)) as profiler:
        environment = profiler.environment()
    measuring = int(environment["pinned_cpus"][0])
    others = sorted(os.sched_getaffinity(0) - {measuring})
    if not others:
        raise SystemExit("expected two CPUs at least, one to measure on and one to train on")
    about = {
        "networks": n_networks,
        "seed": seed,
        "alone": alone,
        "machine": machine_key(environment),
        "runtime": runtime,
    }
    state = _load(state_file, about)
    setting = Setting(n_networks, seed, runtime, measuring, None if alone else others[-1], state_file)
    print(__doc__)
    print(
        f"measured on CPU {measuring}, " + ("nothing beside it" if alone else f"a training process on CPU {others[-1]}")
    )
    taken = {size: measure(setting, state, size) for size in map(int, batches.split(","))}
    columns = ("A/B MAPE", "pairs apart", "inverted", "wrong (of twice as many)", "wall s a subnet")
    print(table_head("batch", "protocol", *columns))
    for size, sessions in taken.items():
        print("\n".join(table_rows(size, sessions, n_networks)))
    for size, sessions in taken.items():
        a, b = np.array(sessions["ours"]["latency_ms"])
        within = np.abs(a - b) <= np.maximum(*np.array(sessions["ours"]["resolution"])) * np.maximum(a, b)
        print(f"\nbatch {size}: {np.nanmin(a):.2f} to {np.nanmax(a):.2f} ms; A ties with B: {within.mean():.0%}")
        print("\n".join(json.dumps(session) for session in sessions["ours"]["told"]))
    return None


if __name__ == "__main__":
    typer.run(main)
