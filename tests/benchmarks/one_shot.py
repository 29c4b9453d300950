"""Smaller networks of trained models without any training, at equal measured latency.

    python -m tests.benchmarks.one_shot RESULTS.jsonl [--only resnet20 ...] [--methods uniform ...] [--text subjectivity.zip]
    python -m tests.benchmarks.one_shot RESULTS.jsonl --table

Needs what `any_model_value` needs, and onnxsim. A second call continues the first.

Method. Each model is trained, or fine-tuned from its pretrained weights: the original. Each method makes networks for 80, 60
and 40 % of its latency in ONNX Runtime on one thread, measured beside it in the same sessions, with 256 training images (or
sentences) without labels; of those at most 2 % slower than a limit, the one that agrees with the original on most of these.

- *solved*: ours. The largest network with one choice reduced each is corrected and measured; then networks are solved for the
  limits by these, corrected and measured, in three rounds.
- *corrected*, *extracted*: all widths at the same fraction, with units sorted by Taylor importance; statistics of batch norms
  are those of the images, with and without the correction by least squares.
- *magnitude*, *Taylor*: Torch-Pruning, one ratio for all layers, with statistics of batch norms of the images.
- *onnxsim*: `apply_structured_wanda_pruning` and `apply_attention_head_wanda_pruning`, then `apply_pruning_finetune`, on the
  ONNX model; with one ratio for all layers, or a global one.

The loss of Taylor's importance is the cross-entropy of classes that are drawn by the original's probabilities.

Test accuracy; the examples are seen by nothing else.
"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated

import onnx
import torch
import typer
from torch import Tensor
from torch.nn import functional

from supernets.networks.capture.space import SpaceOptions
from supernets.networks.module_to_onnx import INPUT
from supernets.sharing.base import Supernet
from supernets.sharing.sorting import orders, taylor_importance
from supernets.sharing.spec import Correction
from supernets.training.recalibration import Extraction, recalibrate
from tests.benchmarks.any_model_value import trained
from tests.benchmarks.any_model_value_methods import SLACK, pruned, reduced
from tests.benchmarks.any_model_value_search import solved_networks
from tests.benchmarks.any_model_value_tasks import NAMES, ValueTask, task
from tests.benchmarks.any_model_value_training import (
    WHOLE,
    Lesson,
    Setting,
    Stopwatch,
    captured_supernet,
    outputs_of_model,
    plain_network,
)
from tests.benchmarks.json_lines import Row, append_row, read_rows
from tests.benchmarks.markdown import table_head, table_row

LIMITS = (0.8, 0.6, 0.4)
IMAGES = 256
"""Number of training examples without labels that each method may read."""
_TAYLOR_BATCHES = 16
_ROUNDS = 2

Method = Callable[[Setting], Mapping[float, bytes]]


def main(
    results: Path,
    only: Annotated[list[str] | None, typer.Option(help="names of models")] = None,
    methods: Annotated[list[str] | None, typer.Option(help="names of methods")] = None,
    seed: int = 0,
    text: Annotated[Path, typer.Option(help="archive of the subjectivity data set")] = Path("subjectivity.zip"),
    table: Annotated[bool, typer.Option(help="only print the table")] = False,
) -> None:
    """Adds what the results lack, then prints the table."""
    torch.set_num_threads(1)
    if not table:
        for name in only or NAMES:
            run(results, task(name, text), seed, methods or list(METHODS))
    print(as_table(read_rows(results)))


def run(results: Path, own: ValueTask, seed: int, methods: Sequence[str]) -> None:
    """Adds the rows of one model, a row for each method."""
    done = {row["method"] for row in read_rows(results) if (row["model"], row["seed"]) == (own.name, seed)}
    if done >= {"original", *methods}:
        return
    original = trained(results.with_suffix(f".{own.name}-{seed}.pt"), own, seed)
    plain = plain_network(original, own)
    watch = Stopwatch(own, plain)
    setting = Setting(own, original, Lesson.of(own, plain), watch, seed)
    for method in ["original", *methods]:
        if method not in done:
            started, networks = time.process_time(), {1.0: watch.original}
            if method != "original":
                networks = dict(METHODS[method](setting))
            seconds = time.process_time() - started
            accuracies = {limit: accuracy(model, own) for limit, model in networks.items()}
            ratios = watch.ratios(list(networks.values()))
            latencies = dict(zip(networks, ratios, strict=True))
            row = {"model": own.name, "seed": seed, "method": method, "cpu_s": seconds}
            append_row(results, {**row, "accuracy": accuracies, "latency": latencies})
            print(own.name, method, accuracies, latencies, f"{seconds:.0f} s", flush=True)
    watch.close()


def accuracy(model: bytes, own: ValueTask) -> float:
    """The share of test examples that an ONNX model classifies correctly."""
    return float((outputs_of_model(model, own, own.test.inputs).argmax(1) == own.test.labels).float().mean())


def divergence(model: bytes, setting: Setting) -> float:
    """The mean divergence of a model's probabilities from the original's on the calibration examples."""
    return _differences(model, setting)[1]


def _differences(model: bytes, setting: Setting) -> tuple[float, float]:
    """The share of calibration examples on which a model's class is not the original's, and its divergence."""
    own = setting.task
    expected = setting.lesson.logits[:IMAGES].log_softmax(1)
    answers = outputs_of_model(model, own, own.train.inputs[:IMAGES]).log_softmax(1)
    others = float((answers.argmax(1) != expected.argmax(1)).float().mean())
    loss = float(functional.kl_div(answers, expected, reduction="batchmean", log_target=True))
    return others, loss if math.isfinite(loss) else math.inf


def best_within(models: Sequence[tuple[float, bytes]], setting: Setting) -> dict[float, bytes]:
    """For each limit the model that agrees most with the original, of those within it; none where none is.

    Args:
        models: Models with their relative latencies.
    """
    differences = [_differences(model, setting) for _, model in models]
    chosen = {}
    for limit in LIMITS:
        within = [i for i, (ratio, _) in enumerate(models) if ratio <= SLACK * limit]
        if within:
            chosen[limit] = models[min(within, key=differences.__getitem__)][1]
    return chosen


def best_reduced(builds: Sequence[Callable[[float], bytes]], setting: Setting) -> dict[float, bytes]:
    """The best models within limits of some ways to make a model smaller by a degree."""
    measure = setting.watch.ratios
    return best_within([model for build in builds for model in reduced(build, measure, LIMITS, _ROUNDS)], setting)


def sorted_supernet(setting: Setting, options: SpaceOptions, correction: Correction | None) -> Supernet:
    """The supernet of a space, with units sorted by Taylor importance."""
    supernet = captured_supernet(setting.original, setting.task, options, correction=correction).eval()
    supernet.sort(orders(taylor_importance(supernet, unlabelled(setting), functional.cross_entropy)))
    return supernet


def solved(setting: Setting) -> dict[float, bytes]:
    """Corrected networks that are solved for the limits."""
    supernet = sorted_supernet(setting, SpaceOptions(keep=setting.task.keep), "least-squares")
    extraction = Extraction(supernet, [setting.task.prepared(setting.task.train.inputs[:IMAGES])])
    loss = functools.partial(divergence, setting=setting)
    networks = solved_networks(supernet, extraction, setting.watch, LIMITS, loss)
    return best_within([(network.ratio, network.model) for network in networks], setting)


def uniform(setting: Setting, *, correction: Correction | None) -> dict[float, bytes]:
    """All widths at the same fraction."""
    own, builds = setting.task, []
    inputs = own.prepared(own.train.inputs[:IMAGES])
    for multiple in own.multiples:
        options = replace(WHOLE, keep=own.keep, multiple=multiple)
        supernet = sorted_supernet(setting, options, correction)
        extraction = Extraction(supernet, [inputs])

        def build(amount: float, supernet: Supernet = supernet, extraction: Extraction = extraction) -> bytes:
            genes = [len(choice.options) - 1 for choice in supernet.space.choices]
            for i, choice in enumerate(supernet.space.choices):
                if choice.name.endswith("width"):
                    genes[i] = round((1 - amount) * genes[i])
            return setting.watch.onnx(extraction(supernet.space.canonical(genes)))

        builds.append(build)
    return best_reduced(builds, setting)


def unlabelled(setting: Setting) -> list[tuple[Tensor, Tensor]]:
    """Small batches of the calibration examples with classes that are drawn by the original's probabilities."""
    own, size = setting.task, IMAGES // _TAYLOR_BATCHES
    torch.manual_seed(0)
    labels = setting.lesson.logits[:IMAGES].softmax(1).multinomial(1)[:, 0]
    parts = zip(own.train.inputs[:IMAGES].split(size), labels.split(size), strict=True)
    return [(own.prepared(inputs), classes) for inputs, classes in parts]


def pruned_by(kind: str) -> Method:
    """Torch-Pruning with one ratio for all layers and a measure of importance."""

    def method(setting: Setting) -> dict[float, bytes]:
        own = setting.task
        model = copy.deepcopy(setting.original).eval()
        for inputs, classes in unlabelled(setting):
            functional.cross_entropy(model(inputs), classes).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

        def build(amount: float, multiple: int) -> bytes:
            network = pruned(setting, kind, amount, gradients, multiple=multiple)
            return setting.watch.onnx(recalibrate(network, own.prepared(own.train.inputs[:IMAGES]).split(128)))

        return best_reduced([functools.partial(build, multiple=multiple) for multiple in own.multiples], setting)

    return method


def onnxsim(setting: Setting) -> dict[float, bytes]:
    """onnxsim's pruning of channels and heads, and its recovery."""
    library, own = import_module("onnxsim"), setting.task
    examples = [{INPUT: own.prepared(part).numpy()} for part in own.train.inputs[:IMAGES].split(32)]
    original, _ = library.simplify(onnx.load_from_string(setting.watch.original))

    def build(amount: float, *, whole: bool) -> bytes:
        model = original
        if amount:
            model = library.apply_structured_wanda_pruning(
                model, calibration_data=examples, sparsity=amount, global_sparsity=whole
            )
            model = library.apply_attention_head_wanda_pruning(model, calibration_data=examples, sparsity=amount)
            model = library.apply_pruning_finetune(original, model, calibration_data=examples)
        return bytes(model.SerializeToString())

    builds = [functools.partial(build, whole=whole) for whole in (False, True)]
    return best_reduced(builds, setting)


METHODS: Mapping[str, Method] = {
    "solved": solved,
    "corrected": functools.partial(uniform, correction="least-squares"),
    "extracted": functools.partial(uniform, correction=None),
    "magnitude": pruned_by("magnitude"),
    "Taylor": pruned_by("Taylor"),
    "onnxsim": onnxsim,
}


def as_table(rows: Sequence[Row]) -> str:
    """A line for each model, seed and limit with the test accuracy of each method."""
    lines = [table_head("model", "latency", "original", *METHODS)]
    by_key = {(row["model"], row["seed"], row["method"]): row for row in rows}
    for model, seed in dict.fromkeys((row["model"], row["seed"]) for row in rows):
        for limit in map(str, LIMITS):
            cells = [f"{by_key[model, seed, 'original']['accuracy']['1.0']:.1%}"]
            for method in METHODS:
                row = by_key.get((model, seed, method), {"accuracy": {}})
                value = row["accuracy"].get(limit)
                cells.append("–" if value is None else f"{value:.1%} at {row['latency'][limit]:.2f}")
            lines.append(table_row(f"{model} ({seed})" if seed else model, f"{float(limit):.0%}", *cells))
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
