"""Compares an exported model with the torch module, with its fp32 version, and with the model that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from hardware_profiles.runtime import run_calls, run_model
from hardware_profiles.runtimes.lookup import find_runtime
from nas.errors import ExportFailedError
from nas.jobs.evaluation.parity import MAX_PARITY, checked_difference
from nas.jobs.evaluation.scoring import outputs_of
from nas.results.export.preprocessing_graph import IMAGE
from nas.search.problem.example_scores import decoded
from nas.search.problem.objectives import ONNX_RUNTIME, Measurement
from supernets.data import ImageFormat, Part
from supernets.networks.module_to_onnx import INPUT
from supernets.tasks import CLASSIFICATION, Task

MIN_SAME = 0.99
"""Least share of validation examples on which the exported model must score (be right or wrong) as the measured one did. On
one machine the two are the same file; another processor or version of torch may change the last bits of an output."""

SAME_SCORE = 0.02
"""Largest difference of two scores of an example that count as the same, over the deviation of the examples' scores."""


@torch.no_grad()
def torch_outputs(module: nn.Module, inputs: NDArray[Any]) -> NDArray[Any]:
    """The outputs of a module in evaluation mode."""
    return np.asarray(module.eval()(torch.from_numpy(inputs)).numpy())


def parity(
    model: bytes | Path,
    inputs: NDArray[Any],
    expected: NDArray[Any],
    task: Task = CLASSIFICATION,
    *,
    largest: float = MAX_PARITY,
) -> float:
    """The largest absolute difference between ONNX Runtime's and torch's outputs, over the deviation of torch's.

    Args:
        model: The serialised ONNX model, or its file.
        inputs: (n, ...), what the module reads.
        expected: Outputs of torch for them.
        task: The task that aligns outputs.
        largest: The largest difference that is accepted.

    Raises:
        ExportFailedError: The difference is larger, shapes differ, or the outputs do not depend on the inputs.
        ModelError: the runtime refuses the model.
    """
    (outputs,) = run_model(model, {INPUT: inputs})
    if outputs.shape != expected.shape:
        message = f"the exported model's outputs have the shape {outputs.shape}, torch's {expected.shape}"
        raise ExportFailedError(message, code="export.outputs-differ")
    # Outputs that hardly vary over the inputs would agree for any weights. Those that a task decodes may be the same for all:
    # images of background alone, without boxes.
    if len(inputs) > 1 and not task.decodes and not np.any(expected.std(axis=0) > 1e-3 * expected.std()):
        message = "the network gives the same outputs for every input, so that a comparison proves nothing"
        raise ExportFailedError(message, code="export.constant-outputs")
    problem = "the exported model's outputs differ from torch's"
    return checked_difference(task.aligned(outputs, expected), expected, problem, largest=largest)


def parity_in_runtime(
    model: bytes | Path, inputs: NDArray[Any], runtime: str, task: Task = CLASSIFICATION, *, largest: float = MAX_PARITY
) -> float:
    """The largest absolute difference between a runtime's and ONNX Runtime's outputs, over the deviation of the latter's.

    Raises:
        ExportFailedError: The difference is above `largest`.
        ModelError: the runtime rejects the model, or is not installed.
    """
    (expected,), (outputs,) = run_model(model, {INPUT: inputs}), run_model(model, {INPUT: inputs}, runtime=runtime)
    problem = f"the exported model's outputs in {runtime} differ from ONNX Runtime's"
    return checked_difference(task.aligned(outputs, expected), expected, problem, largest=largest)


def parity_on_images(
    plain: bytes,
    with_preprocessing: bytes,
    format: ImageFormat,
    images: Sequence[Image.Image],
    task: Task = CLASSIFICATION,
) -> float:
    """The largest difference between a model that preprocesses decoded images itself and one that gets them preprocessed as
    in training, over the deviation of the latter's outputs.

    Raises:
        ExportFailedError: The difference is above `parity.MAX_PARITY`.
        ModelError: the runtime rejects a model.
    """
    raw = [np.asarray(image).reshape(1, image.height, image.width, format.channels) for image in images]
    inputs = np.stack([format.inputs(format.resized(image)) for image in images])
    outputs = np.concatenate(
        [logits for (logits,) in run_calls(with_preprocessing, ({IMAGE: pixels} for pixels in raw))]
    )
    (expected,) = run_model(plain, {INPUT: inputs})
    outputs = task.aligned(outputs, expected)
    problem = "outputs with preprocessing in the graph differ from those with the training's"
    return checked_difference(outputs, expected, problem)


def agreement(
    reference: bytes | Path, model: bytes | Path, part: Part, task: Task = CLASSIFICATION, runtime: str = ONNX_RUNTIME
) -> float:
    """The share of examples to which the outputs of two models mean the same to the task (classified alike, say).

    Args:
        reference, model: Serialised ONNX models, or their files.
        part: The examples.
        task: The task that compares outputs.
        runtime: Runtime of `model`; `reference` runs in ONNX Runtime.
    """
    together = task.scored_together
    first = outputs_of(reference, part, together=together)
    is_same = model == reference and runtime == ONNX_RUNTIME
    second = first if is_same else outputs_of(model, part, runtime, together=together)
    return float(np.mean(task.alike(first, second)))


def as_measured(
    model: bytes | Path, validation: Part, scored: Measurement | None, task: Task = CLASSIFICATION
) -> float | None:
    """The share of validation examples on which a model scores as the one that was measured; None without scores.

    Scores that are numbers are the same within 2 % of their deviation.

    Raises:
        ExportFailedError: The share is below `MIN_SAME`.
    """
    if scored is None or scored.samples is None:
        return None
    part = task.examples(scored.request.metric, validation)
    outputs = outputs_of(model, part, scored.request.runtime, together=task.scored_together)
    now = task.score(scored.request.metric, outputs, part.labels.numpy()).examples
    was = decoded(scored.samples, {**scored.detail, "images": len(now)})
    tolerance = 0.0 if now.dtype == np.bool_ else SAME_SCORE * float(was.std())
    same = float(np.mean(np.abs(now.astype(np.float64) - was) <= tolerance))
    if same < MIN_SAME and round((1 - same) * len(was)) > 1:
        versions = ", ".join(
            f"{name} {scored.environment.get(name)}" for name in ("torch", find_runtime(scored.request.runtime).package)
        )
        raise ExportFailedError(
            f"the exported model {task.verbs[0]} {1 - same:.1%} of the validation examples differently from the measured one "
            f"(at most {1 - MIN_SAME:.0%}); export on the machine of the search, or one with its processor, {versions}",
            code="export.not-as-measured",
        )
    return same
