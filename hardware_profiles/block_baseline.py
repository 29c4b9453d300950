"""ONNX models that isolate a block's latency: the block behind a convolution, and the baseline to subtract."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

_INNER, _WEIGHT = "prefix-out", "prefix-weight"
_LANES = 4
"""ONNX Runtime's blocked layout takes tensors whose channels are a multiple of this."""
_OPSET, _IR_VERSION = 18, 8

Shape = Sequence[int | str]
"""The shape of one example; a dynamic size is a name."""


def needs_prefix(shape: Shape) -> bool:
    """Returns True if a block with inputs of this shape is measured behind a convolution: images of many channels.

    The inner tensors of a convolution network have a blocked layout (NCHWc). A block measured alone converts its input and
    its output, which a whole network does only once. Behind a convolution, the block finds its input converted already.
    The baseline, the convolution alone, converts its input and its output too. So the difference of the two is the block,
    plus the conversion of its output, minus that of its input: in a chain of blocks these cancel but for the ends. The
    overhead of calling the runtime cancels as well.

    Args:
        shape: The shape of one example, without the batch.
    """
    channels = shape[0] if len(shape) == 3 else None
    return isinstance(channels, int) and channels % _LANES == 0


def baseline_model(shape: Shape, name: str, *, integer: bool = False) -> bytes:
    """The model whose latency is subtracted: a depthwise 1 x 1 convolution where `needs_prefix`, else an Identity.

    Args:
        shape: The shape of one example; the batch is dynamic.
        name: Name of the input, which is float32, or int64 if `integer`.
    """
    sizes: list[str | int | None] = ["batch", *shape]
    kind = TensorProto.INT64 if integer else TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(n, kind, sizes) for n in (name, _INNER)]
    graph, opset = helper.make_graph([], "baseline", ends[:1], ends[1:]), helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    if needs_prefix(shape):
        _prepend(model, shape, name)
    else:
        model.graph.node.append(helper.make_node("Identity", [name], [_INNER]))
    return bytes(model.SerializeToString())


def with_prefix(model: bytes, shape: Shape, name: str) -> bytes:
    """The block behind the convolution of `baseline_model` where its input `name` `needs_prefix`, else the block itself."""
    if not needs_prefix(shape):
        return model
    block = onnx.load_from_string(model)
    for node in block.graph.node:
        for i, input_name in enumerate(node.input):
            if input_name == name:
                node.input[i] = _INNER
    _prepend(block, shape, name)
    return bytes(block.SerializeToString())


def _prepend(model: ModelProto, shape: Shape, name: str) -> None:
    """Puts the convolution before all nodes; its weights are ones, so that it changes no value."""
    weight = np.ones((int(shape[0]), 1, 1, 1), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, _WEIGHT))
    node = helper.make_node("Conv", [name, _WEIGHT], [_INNER], name="prefix", group=len(weight), kernel_shape=[1, 1])
    model.graph.node.insert(0, node)
