"""The difference between networks in torch and as ONNX models, and the operation that it begins with."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardware_profiles.runtime import run_model
from nas.errors import ExportFailedError
from nas.search.problem.objectives import ONNX_RUNTIME
from supernets.errors import LoweringError
from supernets.networks.capture.execution import values_of
from supernets.networks.capture.model_proof import randomised
from supernets.networks.capture.program import BATCH, Call, needed_calls
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.networks.network import network_of

MAX_PARITY = 1e-4
"""Largest accepted difference from torch, over the standard deviation of torch's outputs."""
_ROUNDINGS, _MAX_ROUNDED = 10, 1e-2
"""A larger difference is accepted up to so many times that of torch's own outputs from those in double precision, and up to
this one: single precision cannot be nearer where a network computes with large values, as language models for a first token."""


def difference_of(outputs: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest absolute difference of outputs from the expected ones, of one shape, over the deviation of these."""
    # One number has no deviation, and equal ones, as of equal rows, differ by several roundings of single precision.
    largest = float(np.abs(expected).max())
    deviation = max(float(expected.std()), 1e-2 * largest, 1e-12) if expected.size > 1 else max(1.0, largest)
    return float(np.abs(outputs - expected).max()) / deviation


@torch.no_grad()
def rounding_of(module: nn.Module, inputs: Tensor) -> float:
    """`difference_of` a network's outputs in single precision from those in double precision; 0 where it mixes the two.

    Args:
        module: A network in evaluation mode, which then remains in double precision.
        inputs: (n, ...).
    """
    single = module(inputs).numpy()
    try:
        double = module.double()(inputs.double() if inputs.is_floating_point() else inputs)
    except RuntimeError:  # its forward names a precision
        return 0.0
    return difference_of(single, double.numpy())


def accepted_difference(rounding: float) -> float:
    """The largest difference from torch's outputs that is accepted of a network with a rounding, see `rounding_of`."""
    return max(MAX_PARITY, min(_ROUNDINGS * rounding, _MAX_ROUNDED))


def checked_difference(
    outputs: NDArray[Any], expected: NDArray[Any], problem: str, *, largest: float = MAX_PARITY
) -> float:
    """`difference_of` outputs of two models.

    Args:
        outputs, expected: Outputs of two models, of one shape.
        problem: What the error says of outputs that differ.
        largest: The largest difference that is accepted.

    Raises:
        ExportFailedError: The difference is larger.
    """
    if not (difference := difference_of(outputs, expected)) <= largest:
        message = f"{problem} by {difference:.2g} of their deviation (at most {largest:.2g})"
        raise ExportFailedError(message, code="export.outputs-differ")
    return difference


def check_as_onnx(module: nn.Module, inputs: Tensor, runtimes: tuple[str, ...] = (ONNX_RUNTIME,)) -> None:
    """Compares a network with its ONNX model in each runtime, before it is trained, up to `accepted_difference`.

    Weights that are all alike, as those of fresh biases and norms, are varied in the module, so that errors show. A network
    whose outputs are not finite without training is not compared.

    Args:
        module: a network in evaluation mode, with its own storage.
        inputs: (n, ...), n at least 2.

    Raises:
        ExportFailedError: the outputs differ; the message names the operation with which the difference begins.
        ExportError: the network cannot be written.
        ModelError: a runtime rejects the model.
    """
    module.load_state_dict(randomised(module.state_dict(), torch.Generator().manual_seed(0)))
    model = onnx_model(module, inputs[:2])
    with torch.no_grad():
        expected = module(inputs).numpy()
    if not np.isfinite(expected).all():
        return
    for runtime in runtimes:
        (outputs,) = run_model(model, {INPUT: inputs.numpy()}, runtime=runtime)
        if outputs.shape != expected.shape:
            message = f"its ONNX model's outputs in {runtime} have the shape {outputs.shape}, torch's {expected.shape}"
            raise ExportFailedError(message, code="export.outputs-differ")
        largest = MAX_PARITY
        if not difference_of(outputs, expected) <= MAX_PARITY:
            largest = accepted_difference(rounding_of(copy.deepcopy(module), inputs))
        problem = f"its ONNX model's outputs in {runtime} differ from torch's"
        try:
            checked_difference(outputs, expected, problem, largest=largest)
        except ExportFailedError as error:
            raise ExportFailedError(f"{error}{_beginning(module, inputs, runtime, largest)}", code=error.code) from None


def _beginning(module: nn.Module, inputs: Tensor, runtime: str, largest: float) -> str:
    """The operation of a network with which its ONNX model begins to differ, for an error; "" where none is known."""
    try:
        call = first_difference(module, inputs, runtime, largest=largest)
    except LoweringError:  # torch's exporter wrote the model
        return ""
    if call is None:
        return ""
    return f"; it begins with {call.name} of {call.module or 'the network'}{call.place and f' ({call.place})'}"


def first_difference(module: nn.Module, inputs: Tensor, runtime: str, *, largest: float = MAX_PARITY) -> Call | None:
    """The first call of a network's program whose result differs as ONNX in a runtime; None if none does.

    Args:
        inputs: (n, ...), n at least 2.
        largest: The largest difference that is accepted.

    Raises:
        LoweringError: an operation of the network has no rule.
    """
    network = network_of(module, inputs[:2])
    program = network.program
    names = {call.outputs[0]: call for call in program.calls if call.outputs[0]}
    values = values_of(program, names, network.tensors.__getitem__, [inputs], {BATCH: len(inputs)})
    for name, call in names.items():
        if not values[name].is_floating_point():
            continue
        part = replace(program, outputs=(name,), calls=needed_calls(program.calls, (name,)))
        try:
            model = replace(network, program=part).onnx()
        except LoweringError:  # it depends on weights alone, and so is no output of a model
            continue
        (outputs,) = run_model(model, {INPUT: inputs.numpy()}, runtime=runtime)
        expected = values[name].numpy()
        if outputs.shape != expected.shape or not difference_of(outputs, expected) <= largest:
            return call
    return None
