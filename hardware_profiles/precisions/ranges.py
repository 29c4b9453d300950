"""What values a model's activations take on real inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from hardware_profiles.errors import PrecisionError

Range = tuple[np.float32, np.float32]
"""The least and the greatest value that a tensor took."""


def activation_ranges(model: ModelProto, calibration: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, Range]:
    """The least and greatest value of each float tensor that is no weight, over all calibration inputs, by name.

    A tensor whose one reader is a Relu or a Clip is given the range of what that puts out. The quantizer folds the pair,
    and so does the runtime here, which makes calibrating a small CNN several times faster than ONNX Runtime's own way.

    Args:
        model: with the types of its tensors inferred.

    Raises:
        PrecisionError: there is no calibration, the model does not take it, or a value is no finite number.
    """
    if not calibration:
        raise PrecisionError("int8 needs real inputs to calibrate on, got no batch; give some of the training data")
    for i, batch in enumerate(calibration):
        _check_names(model, batch, i)
    folded = _folded(model)
    names = [name for name in _activations(model) if name not in folded]
    seen = _run(_watching(model, names), calibration)
    low, high = seen[:, 0].min(axis=0), seen[:, 1].max(axis=0)
    for i, name in enumerate(names):
        if not (np.isfinite(low[i]) and np.isfinite(high[i])):
            raise PrecisionError(
                f"tensor {name!r} takes values that are no finite numbers (from {low[i]} to {high[i]}) on the calibration "
                "inputs; look at the inputs and at the weights"
            )
    ranges = {name: (low[i], high[i]) for i, name in enumerate(names)}
    return ranges | {name: ranges[_end(name, folded)] for name in folded}


def _check_names(model: ModelProto, batch: Mapping[str, NDArray[Any]], i: int) -> None:
    weights = {weight.name for weight in model.graph.initializer}
    wanted = [value.name for value in model.graph.input if value.name not in weights]
    if sorted(wanted) != sorted(batch):
        raise PrecisionError(f"calibration batch {i} has the inputs {sorted(batch)}, and the model takes {wanted}")


def _watching(model: ModelProto, names: Sequence[str]) -> bytes:
    """The model with other outputs: the least values of these tensors, then the greatest, in their order."""
    watching = ModelProto()
    watching.CopyFrom(model)
    graph = watching.graph
    del graph.output[:]
    for reduction in ("ReduceMin", "ReduceMax"):
        for i, name in enumerate(names):
            output = f"{reduction}-{i}"
            graph.node.append(helper.make_node(reduction, [name], [output], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    return bytes(watching.SerializeToString())


def _run(model: bytes, calibration: Sequence[Mapping[str, NDArray[Any]]]) -> NDArray[np.float32]:
    """The outputs, (n_batches, 2, n_tensors)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        found = [session.run(None, dict(batch)) for batch in calibration]
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        told = " ".join(str(error).split())
        raise PrecisionError(f"the model does not run on the calibration inputs: {told}") from error
    return np.array(found, dtype=np.float32).reshape(len(calibration), 2, -1)


def _activations(model: ModelProto) -> list[str]:
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    values = (*graph.input, *graph.value_info, *graph.output)
    found = (value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT)
    return [name for name in dict.fromkeys(found) if name not in weights]


def _folded(model: ModelProto) -> dict[str, str]:
    """What each tensor whose one reader is a Relu or a Clip becomes there."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    own = {value.name for value in (*model.graph.input, *model.graph.output)}
    return {
        name: found[0].output[0]
        for name, found in readers.items()
        if len(found) == 1 and found[0].op_type in ("Relu", "Clip") and name == found[0].input[0] and name not in own
    }


def _end(name: str, folded: Mapping[str, str]) -> str:
    while name in folded:
        name = folded[name]
    return name
