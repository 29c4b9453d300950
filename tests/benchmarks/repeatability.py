"""Repeatability of latencies beside a training process: our protocol and three common ones, on the same networks.

Run: ``python -m tests.benchmarks.repeatability``. Finished parts are stored in the state file; a second call continues.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, HardwareProfile, LatencyMeasurement
from hardware_profiles.catalog import in_runtime
from hardware_profiles.environment import machine_key
from hardware_profiles.measuring.profiler import MAX_BATCH
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.runtimes.registry import find_runtime

Floats = NDArray[np.float64]

METHOD = """\
{n} random subnets of the preset tiny (mobile-cnn, 28 x 28), random weights, lowered to ONNX; one thread, pinned; {beside}.
Every protocol measures all of them twice, in turns (ours, then the others, then all again). A/B: mean of |A - B| over their
mean. Inverted: pairs whose latencies differ by more than 3 % (mean of our two), ordered differently by A and by B. Wrong: the
same pairs, ordered differently by A or B than by the mean of our two. Ours: batches of {batch}."""
APART = 0.03


@dataclass(frozen=True)
class Network:
    """One subnet to measure."""

    model: bytes
    inputs: Mapping[str, NDArray[np.float32]]


def networks(n: int, batch_size: int, seed: int) -> list[Network]:
    """Random subnets with random weights, determined by the seed."""
    import torch

    from supernets.families.mobile_cnn.family import MobileCNNFamily
    from supernets.families.mobile_cnn.spec import MOBILE_CNN
    from supernets.networks.module_to_onnx import lower
    from supernets.sharing.base import Supernet
    from supernets.sharing.chain import ChainSharing

    torch.manual_seed(seed)
    family = MobileCNNFamily(MOBILE_CNN["tiny"], image_size=28, channels=1, n_classes=10)
    supernet = Supernet(family, ChainSharing(family))
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
    import torch

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


@dataclass(frozen=True)
class Row:
    """The results of one protocol at one batch size."""

    protocol: str
    batch_size: int
    ab_mape: float
    pairs_apart: int
    inverted: int
    wrong: int
    seconds: float


def rows(batch_size: int, taken: Mapping[str, Any], n: int) -> list[Row]:
    """The results of all protocols, from [A, B] latencies by protocol."""
    reference = np.mean(taken["ours"]["latency_ms"], axis=0)
    i, j = np.triu_indices(n, k=1)
    apart = np.abs(reference[i] - reference[j]) > APART * np.minimum(
        reference[i], reference[j]
    )  # NaN does not count as apart
    i, j = i[apart], j[apart]
    true = np.sign(reference[i] - reference[j])
    made = []
    for name, found in taken.items():
        a, b = np.array(found["latency_ms"])
        orders = [np.sign(times[i] - times[j]) for times in (a, b)]
        made.append(
            Row(
                name, batch_size,
                float(np.nanmean(np.abs(a - b) / ((a + b) / 2))) * 100,
                len(i), int(np.sum(orders[0] != orders[1])), int(sum(np.sum(order != true) for order in orders)),
                sum(found["seconds"]) / (2 * n),
            )
        )  # fmt: skip
    return made


def measure(args: argparse.Namespace, state: dict[str, Any], batch_size: int, cpus: tuple[int, int]) -> dict[str, Any]:
    """The latencies of every protocol, twice; parts in `state` are not repeated."""
    subnets = networks(args.networks, batch_size, args.seed)
    done: dict[str, dict[str, list[Any]]] = state.setdefault(str(batch_size), {})
    measuring, training_cpu = cpus
    for repetition in range(2):
        for name in ("ours", *COMMON):
            kept = done.setdefault(name, {"latency_ms": [], "seconds": [], "told": [], "resolution": []})
            if len(kept["latency_ms"]) > repetition:
                continue
            with training(None if args.alone else training_cpu):
                started = time.perf_counter()
                if name == "ours":
                    latencies, resolutions, session = ours(subnets, batch_size, args.seed + repetition, args.runtime)
                    kept["resolution"].append(resolutions)
                    kept["told"].append(session)
                    seconds = session["seconds"]
                else:
                    allowed = os.sched_getaffinity(0)
                    os.sched_setaffinity(0, {measuring})
                    latencies = common(subnets, *COMMON[name], args.runtime)
                    os.sched_setaffinity(0, allowed)
                    seconds = time.perf_counter() - started
            kept["latency_ms"].append(latencies)
            kept["seconds"].append(seconds)
            _save(args.state, state)
    return done


def _save(path: Path, state: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(state), encoding="utf-8")
    fresh.replace(path)


def _load(args: argparse.Namespace, key: str) -> dict[str, Any]:
    about = {"networks": args.networks, "seed": args.seed, "alone": args.alone, "machine": key, "runtime": args.runtime}
    if not args.state.exists():
        return {"about": about}
    state: dict[str, Any] = json.loads(args.state.read_text(encoding="utf-8"))
    if state["about"] != about:
        raise SystemExit(f"{args.state}: measured as {state['about']}, and now it is {about}; take another --state")
    return state


def main() -> None:
    """Parses the command line, measures what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runtime", default="onnxruntime", help="onnxruntime, openvino, or module:Class")
    parser.add_argument("--alone", action="store_true", help="without a training process beside it")
    parser.add_argument("--state", type=Path, default=Path("runs/repeatability.json"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--train", type=int, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train is not None:
        os.sched_setaffinity(0, {args.train})
        return train_forever()
    with open_profiler(in_runtime(HardwareProfile("benchmark"), args.runtime)) as profiler:
        environment = profiler.environment()
    measuring = int(environment["pinned_cpus"][0])
    others = sorted(os.sched_getaffinity(0) - {measuring})
    if not others:
        raise SystemExit("expected two CPUs at least, one to measure on and one to train on")
    state = _load(args, machine_key(environment))
    batches = [int(text) for text in args.batches.split(",")]
    taken = {size: measure(args, state, size, (measuring, others[-1])) for size in batches}
    made = [row for size, found in taken.items() for row in rows(size, found, args.networks)]
    if args.json:
        return print(json.dumps({"rows": [asdict(row) for row in made], "environment": environment, "state": state}))
    beside = (
        "nothing beside it"
        if args.alone
        else f"a training process on CPU {others[-1]}, the measured one on {measuring}"
    )
    print(METHOD.format(n=args.networks, beside=beside, batch=MAX_BATCH) + "\n")
    print("| batch | protocol | A/B MAPE | pairs apart | inverted | wrong (of twice as many) | wall s a subnet |")
    print("|---" * 7 + "|")
    for row in made:
        cells = (row.batch_size, row.protocol, f"{row.ab_mape:.2f} %", row.pairs_apart, row.inverted, row.wrong)
        print("| " + " | ".join(map(str, cells)) + f" | {row.seconds:.3f} |")
    for size, found in taken.items():
        a, b = np.array(found["ours"]["latency_ms"])
        within = np.abs(a - b) <= np.maximum(*np.array(found["ours"]["resolution"])) * np.maximum(a, b)
        print(f"\nbatch {size}: {np.nanmin(a):.2f} to {np.nanmax(a):.2f} ms; A ties with B: {within.mean():.0%}")
        print("\n".join(json.dumps(session) for session in found["ours"]["told"]))
    return None


if __name__ == "__main__":
    main()
