"""Compares an exported model with the torch module, with its fp32 version, and with the model that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from hardware_profiles.runtime import run_calls, run_model
from nas.errors import ExportFailedError
from nas.evaluation.scoring import logits_of
from nas.export.preprocessing_graph import IMAGE
from nas.problem.objectives import Measurement
from supernets.data import ImageFormat, Part
from supernets.data.preprocessing import square
from supernets.module_to_onnx import INPUT

MAX_PARITY = 1e-4
"""Largest accepted difference from torch, over the standard deviation of torch's outputs."""
MIN_SAME = 0.99
"""Least share of validation examples on which the exported model must be right or wrong as the measured one was. On one machine
the two are the same file; another processor or version of torch may change the last bits of a logit."""


def parity(module: nn.Module, model: bytes, inputs: NDArray[Any]) -> float:
    """The largest absolute difference between ONNX Runtime's and torch's outputs, over the deviation of torch's.

    Raises:
        ExportFailedError: it is above `MAX_PARITY`, shapes differ, or the outputs do not depend on the inputs.
        ModelError: the runtime refuses the model.
    """
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(inputs)).numpy()
    (outputs,) = run_model(model, {INPUT: inputs})
    if outputs.shape != expected.shape:
        message = f"the exported model's outputs have the shape {outputs.shape}, torch's {expected.shape}"
        raise ExportFailedError(message, code="export.outputs-differ")
    # Outputs that hardly vary over the inputs would agree for any weights.
    if len(inputs) > 1 and not np.any(expected.std(axis=0) > 1e-3 * expected.std()):
        message = "the network gives the same outputs for every input, so that a comparison proves nothing"
        raise ExportFailedError(message, code="export.constant-outputs")
    difference = float(np.abs(outputs - expected).max() / expected.std())
    if not difference <= MAX_PARITY:
        message = f"outputs differ from torch's by {difference:.2g} of their deviation (at most {MAX_PARITY:g})"
        raise ExportFailedError(f"the exported model's {message}", code="export.outputs-differ")
    return difference


def parity_on_images(plain: bytes, whole: bytes, format: ImageFormat, images: Sequence[Image.Image]) -> float:
    """The largest difference between a model that preprocesses decoded images itself and one that gets them preprocessed as
    in training, over the deviation of the latter's outputs.

    Raises:
        ExportFailedError: it is above `MAX_PARITY`.
        ModelError: the runtime rejects a model.
    """
    raw = [np.asarray(image).reshape(1, image.height, image.width, format.channels) for image in images]
    inputs = np.stack([format.inputs(square(image, format.image_size)) for image in images])
    outputs = np.concatenate([found for (found,) in run_calls(whole, ({IMAGE: pixels} for pixels in raw))])
    (expected,) = run_model(plain, {INPUT: inputs})
    difference = float(np.abs(outputs - expected).max() / expected.std())
    if not difference <= MAX_PARITY:
        message = f"differ by {difference:.2g} of their deviation from those of the training's (at most {MAX_PARITY:g})"
        raise ExportFailedError(f"outputs with preprocessing in the graph {message}", code="export.outputs-differ")
    return difference


def agreement(one: bytes, two: bytes, part: Part) -> float:
    """The share of examples that two models classify alike."""
    decisions = [logits_of(model, part).argmax(axis=1) for model in (one, two)]
    return float(np.mean(decisions[0] == decisions[1]))


def as_measured(model: bytes, validation: Part, scored: Measurement | None) -> float | None:
    """The share of validation examples on which a model is right or wrong as the one that was scored; None without scores.

    Raises:
        ExportFailedError: it is below `MIN_SAME`.
    """
    if scored is None or scored.samples is None:
        return None
    labels = validation.labels.numpy()
    right = np.unpackbits(np.frombuffer(scored.samples, dtype=np.uint8), count=len(labels)).astype(bool)
    decisions = logits_of(model, validation).argmax(axis=1)
    same = float(np.mean((decisions == labels) == right))
    if same < MIN_SAME and round((1 - same) * len(labels)) > 1:
        versions = ", ".join(f"{name} {scored.environment.get(name)}" for name in ("torch", "onnxruntime"))
        raise ExportFailedError(
            f"the exported model classifies {1 - same:.1%} of the validation examples differently from the measured one "
            f"(at most {1 - MIN_SAME:.0%}); export on the machine of the search, or one with its processor, {versions}",
            code="export.not-as-measured",
        )
    return same
