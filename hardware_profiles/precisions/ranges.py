"""Ranges of a model's activations on calibration inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from hardware_profiles.errors import ModelError, PrecisionError
from hardware_profiles.runtime import run_calls

Range = tuple[np.float32, np.float32]
"""The least and the greatest value of a tensor."""
_FLAT, _ZERO = "watched-flat", "watched-zero"


def activation_ranges(model: ModelProto, calibration: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, Range]:
    """The least and greatest value of each float tensor that is not a weight, over all calibration inputs, by name.

    A tensor whose only reader is a Relu or a Clip gets the range of that node's output. The quantizer fuses the pair, and
    the runtime does so here: calibrating a small CNN is several times faster than with ONNX Runtime's calibrater.

    Args:
        model: with inferred types of its tensors.

    Raises:
        PrecisionError: the calibration is empty or does not fit the model, or a value is not finite.
    """
    if not calibration:
        raise _invalid("int8 needs batches of real inputs, got none; give some of the training data")
    weights = {weight.name for weight in model.graph.initializer}
    expected = [value.name for value in model.graph.input if value.name not in weights]
    for i, batch in enumerate(calibration):
        if sorted(expected) != sorted(batch):
            raise _invalid(f"batch {i} has the inputs {sorted(batch)}, expected {expected}")
    folded = _folded(model)
    names = [name for name in _activations(model) if name not in folded]
    extremes = _run(_watching(model, names), calibration)
    low, high = extremes[:, 0].min(axis=0), extremes[:, 1].max(axis=0)
    for i, name in enumerate(names):
        if not (np.isfinite(low[i]) and np.isfinite(high[i])):
            fault = f"tensor {name!r} has values that are not finite (from {low[i]} to {high[i]})"
            raise _invalid(f"{fault}; check the inputs and the weights")
    ranges = {name: (low[i], high[i]) for i, name in enumerate(names)}
    for name in folded:
        end = name
        while end in folded:
            end = folded[end]
        ranges[name] = ranges[end]
    return ranges


def _invalid(fault: str) -> PrecisionError:
    return PrecisionError(f"cannot calibrate the activations: {fault}", code="precision.calibration-invalid")


def _watching(model: ModelProto, names: Sequence[str]) -> bytes:
    """The model with the least values of these tensors as outputs, then the greatest, in order.

    Where tensors may be empty, as those of an expert without tokens, zero is among the values. Every range of the quantizer has
    zero in it.
    """
    watching = ModelProto()
    watching.CopyFrom(model)
    graph = watching.graph
    del graph.output[:]
    if any(node.op_type == "NonZero" for node in graph.node):
        graph.initializer.append(numpy_helper.from_array(np.array([-1]), _FLAT))
        graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), _ZERO))
        for i, name in enumerate(names):
            graph.node.append(helper.make_node("Reshape", [name, _FLAT], [f"flat-{i}"]))
            graph.node.append(helper.make_node("Concat", [f"flat-{i}", _ZERO], [f"filled-{i}"], axis=0))
        names = [f"filled-{i}" for i in range(len(names))]
    for reduction in ("ReduceMin", "ReduceMax"):
        for i, name in enumerate(names):
            output = f"{reduction}-{i}"
            graph.node.append(helper.make_node(reduction, [name], [output], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    return bytes(watching.SerializeToString())


def _run(model: bytes, calibration: Sequence[Mapping[str, NDArray[Any]]]) -> NDArray[np.float32]:
    """The outputs, (n_batches, 2, n_tensors)."""
    try:
        outputs = run_calls(model, calibration)
    except ModelError as error:
        raise _invalid(" ".join(str(error).split())) from error
    return np.array(outputs, dtype=np.float32).reshape(len(calibration), 2, -1)


def _activations(model: ModelProto) -> list[str]:
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    values = (*graph.input, *graph.value_info, *graph.output)
    names = (value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT)
    return [name for name in dict.fromkeys(names) if name not in weights]


def _folded(model: ModelProto) -> dict[str, str]:
    """The output of the Relu or Clip that is the only reader of a tensor, by the name of that tensor."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    io_names = {value.name for value in (*model.graph.input, *model.graph.output)}
    return {
        name: nodes[0].output[0]
        for name, nodes in readers.items()
        if len(nodes) == 1
        and nodes[0].op_type in ("Relu", "Clip")
        and name == nodes[0].input[0]
        and name not in io_names
    }
