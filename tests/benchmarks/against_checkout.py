"""Costs of networks in this version beside those in another checkout of the project, step by step in turns.

    git worktree add ../before COMMIT
    python -m tests.benchmarks.against_checkout ../before [--subnets 40]

Method. One process for each version, with the same packages and one thread; for each family they do the same on the same
random subnets in turns, so that the noise of the machine is that of both. CPU milliseconds (`time.process_time`), medians over
the subnets, and the median of the ratios new / before:

- *onnx*: `Supernet.extract` and `onnx_model`, as a search does for each candidate;
- *step*: forward, backward and a step of SGD of the live subnet on a batch of 16;
- *costs*: `Supernet.costs` of 1,000 random networks.

*start* is the CPU seconds of a new process for its first supernet, its costs and its first ONNX model, after importing torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Annotated, cast

import typer

from tests.benchmarks.markdown import table_head, table_row

WORKER = """
import sys, time
import numpy, torch
torch.set_num_threads(1)
from supernets import make_supernet, onnx_model
from supernets.families.registry import FAMILIES
for line in sys.stdin:
    name, preset, numbers, step = eval(line)
    started = time.process_time()
    if step < 0:
        torch.manual_seed(0)
        description, rng = FAMILIES[name], numpy.random.default_rng(1)
        family = description.load()(description.presets[preset], **numbers)
        supernet, x = make_supernet(family).train(), family.example(16)
        x = torch.randn(x.shape) if x.is_floating_point() else torch.randint(1, 40, x.shape)
        networks, many = [[family.space.sample(rng) for _ in range(n)] for n in (-step, 1000)]
        supernet.costs(many), onnx_model(supernet.extract(networks[0]), x[:2])
        optimizer = torch.optim.SGD(supernet.parameters(), 1e-3)
        print(time.process_time() - started, flush=True)
        continue
    onnx_model(supernet.eval().extract(networks[step]), x[:2])
    times = [time.process_time()]
    supernet.train()(x, networks[step]).square().mean().backward()
    optimizer.step(), optimizer.zero_grad()
    times.append(time.process_time())
    supernet.costs(many[step:] + many[:step])
    times.append(time.process_time())
    print([1e3 * (after - before) for before, after in zip([started, *times], times)], flush=True)
"""
IMAGES = {"image_size": 28, "channels": 1, "n_classes": 10}
LARGE = {"image_size": 224, "channels": 3, "n_classes": 1000}
TEXTS = {"vocabulary": 101, "positions": 64, "tokens": 32}
FAMILIES: list[tuple[str, str, dict[str, int]]] = [
    ("mobile-cnn", "tiny", IMAGES),
    ("mobile-cnn", "mobile", LARGE),
    ("resnet", "tiny", {**IMAGES, "image_size": 32}),
    ("vit", "tiny", IMAGES),
    ("encoder", "tiny", {**TEXTS, "padding": 0, "n_classes": 4}),
    ("decoder", "tiny", TEXTS),
    ("encoder-decoder", "tiny", {"vocabulary": 101, "separator": 0, "source": 16, "target": 16}),
    ("mlp", "tiny", {"features": 13, "n_classes": 3}),
]
COLUMNS = ("onnx", "step", "costs")


def start(folder: Path) -> subprocess.Popen[str]:
    """A process that has the packages of a checkout."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder.resolve()),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    command = [sys.executable, "-c", WORKER]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ask(process: subprocess.Popen[str], name: str, preset: str, numbers: dict[str, int], step: int) -> list[float]:
    """The times that a process answers: the start for a negative step, which is the number of subnets, else the columns."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{(name, preset, numbers, step)!r}\n")
    process.stdin.flush()
    times = json.loads(process.stdout.readline())
    return cast("list[float]", times if isinstance(times, list) else [times])


def compare(before: Path, subnets: int, name: str, preset: str, numbers: dict[str, int]) -> list[str]:
    """The cells of a family: of each column the medians before and after and the median ratio, then both starts."""
    processes = [start(before), start(Path())]
    starts = [ask(process, name, preset, numbers, -subnets)[0] for process in processes]
    times: list[list[list[float]]] = [[], []]
    for i in range(subnets):
        for which in (0, 1) if i % 2 else (1, 0):
            times[which].append(ask(processes[which], name, preset, numbers, i))
    for process in processes:
        process.communicate()
    cells = []
    for column in range(len(COLUMNS)):
        pairs = [(old[column], new[column]) for old, new in zip(*times, strict=True)]
        medians = [median(pair[which] for pair in pairs) for which in (0, 1)]
        cells += [f"{value:.2f}" for value in (*medians, median(new / old for old, new in pairs))]
    return cells + [f"{seconds:.2f}" for seconds in starts]


def main(before: Annotated[Path, typer.Argument(help="the other checkout")], subnets: int = 40) -> None:
    """Compares this version with another checkout, and prints a line for each family."""
    print(
        table_head(
            "family", *(f"{name}{part}" for name in COLUMNS for part in ("", ", new", ", ratio")), "start, s", "new"
        )
    )
    for name, preset, numbers in FAMILIES:
        print(table_row(f"{name} {preset}", *compare(before, subnets, name, preset, numbers)), flush=True)


if __name__ == "__main__":
    typer.run(main)
