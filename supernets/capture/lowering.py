"""Lowering of plain captured networks to ONNX nodes, by a table of ATen operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from supernets.axes import Dim
from supernets.capture.program import BATCH, Argument, Call, Program, Ref, Size
from supernets.errors import LoweringError
from supernets.graph.ir import BATCH_SIZE, Attribute, Graph, Node, Value

_FLOAT, _INT64, _BOOL = 1, 7, 9
_TYPES = {"float32": _FLOAT, "int64": _INT64, "bool": _BOOL}
Rule = Callable[["Lowering", Call], None]
LOWERED: dict[str, Rule] = {}
"""By the operation's name without overload."""


def lower_program(graph: Graph, program: Program, tensors: Mapping[str, Tensor], x: Value) -> Value:
    """Appends a network's nodes to a graph; returns its output.

    Args:
        program: of one architecture, with one input and one output.

    Raises:
        LoweringError: an operation has no rule, or a shape depends on the batch in more than one dimension.
    """
    if len(program.inputs) != 1 or len(program.outputs) != 1:
        raise LoweringError("there is no rule for networks of several inputs or outputs")
    lowering = Lowering(graph, program, tensors, x)
    for call in program.calls:
        rule = LOWERED.get(call.name)
        if rule is None:
            raise LoweringError(f"there is no rule for {call.op} in {call.module or 'the network'}")
        rule(lowering, call)
    return lowering.value(program.outputs[0])


class Lowering:
    """The values of a program so far, by their names in it."""

    def __init__(self, graph: Graph, program: Program, tensors: Mapping[str, Tensor], x: Value) -> None:
        self.graph, self.program, self._tensors = graph, program, tensors
        self._values: dict[str, Value] = {program.inputs[0]: x}
        self._batch: Value | None = None
        self._x = x

    def value(self, name: str) -> Value:
        """A value of the program; a tensor becomes a parameter of the graph when it is first read."""
        if name not in self._values:
            tensor = self._tensors[name].detach()
            if tensor.dtype is torch.bool:
                self.graph.parameters[name] = tensor.cpu().numpy()
                self._values[name] = self.graph.input(name, tuple(tensor.shape))
            else:
                self._values[name] = self.graph.parameter(name, tensor)
        return self._values[name]

    def tensor(self, argument: Argument) -> Value:
        """A tensor argument."""
        if not isinstance(argument, Ref):
            raise LoweringError(f"expected a tensor, got {argument!r}")
        return self.value(argument.name)

    def operand(self, argument: Argument, *, integer: bool = False) -> Value:
        """A tensor argument, or a number as a constant."""
        if isinstance(argument, Ref):
            return self.value(argument.name)
        if not isinstance(argument, int | float):
            raise LoweringError(f"expected a tensor or a number, got {argument!r}")
        return self.graph.constant(np.array(argument, dtype=np.int64 if integer else np.float32))

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value in the captured batch."""
        return self.program.values[name].shape

    def dtype(self, argument: Argument) -> str:
        """The type of a tensor argument."""
        return self.program.values[argument.name].dtype if isinstance(argument, Ref) else ""

    def rank(self, argument: Argument) -> int:
        """The number of dimensions of a tensor argument."""
        return len(self.shape(cast(Ref, argument).name))

    def emit(self, op: str, inputs: Sequence[Value | None], n: int = 1, **attributes: Attribute) -> list[Value]:
        """Appends a node."""
        index = len(self.graph.nodes)
        names = tuple("" if value is None else value.name for value in inputs)
        outputs = [f"/{op.lower()}_{index}" + (f"_{i}" if i else "") for i in range(n)]
        self.graph.nodes.append(Node(op, names, tuple(outputs), attributes))
        return [self.graph.input(name, ()) for name in outputs]

    def one(self, op: str, *inputs: Value | None, **attributes: Attribute) -> Value:
        """Appends a node with one output."""
        return self.emit(op, inputs, **attributes)[0]

    def numbers(self, numbers: Sequence[int]) -> Value:
        """A constant vector of integers."""
        return self.graph.numbers(numbers)

    def scalar(self, number: float) -> Value:
        """A constant number."""
        return self.graph.scalar(number)

    def returns(self, call: Call, *values: Value) -> None:
        """Sets the call's outputs, with their shapes."""
        for name, value in zip(call.outputs, values, strict=False):
            if name:
                dynamic = self.program.dynamic.get(name, ())
                shape = [BATCH_SIZE if i in dynamic else size for i, size in enumerate(self.shape(name))]
                self.graph.shapes[value.name] = tuple(shape)
                if self.program.values[name].dtype == "int64":
                    self.graph.integers.add(value.name)
                self._values[name] = Value(value.name, self.graph.shapes[value.name])

    def batch(self) -> Value:
        """The batch size as a vector of one integer."""
        if self._batch is None:
            self._batch = self.one("Shape", self._x, start=0, end=1)
        return self._batch

    def size(self, argument: Argument) -> Value:
        """A size as a vector of one integer."""
        if isinstance(argument, int):
            return self.numbers([argument])
        if not isinstance(argument, Size):
            raise LoweringError(f"expected a size, got {argument!r}")
        return self._size(argument.dim)

    def _size(self, dim: Dim) -> Value:
        if isinstance(dim, int):
            return self.numbers([dim])
        if dim == BATCH:
            return self.batch()
        if isinstance(dim, tuple):
            factor = math.prod(part for part in dim if isinstance(part, int))
            rest = [part for part in dim if not isinstance(part, int)]
            if len(rest) == 1:
                return self.one("Mul", self._size(rest[0]), self.numbers([factor]))
        raise LoweringError(f"there is no rule for the size {dim}")

    def reshaped(self, call: Call, source: Value) -> Value:
        """A value in the shape of the call's output."""
        dynamic = self.program.dynamic.get(call.outputs[0], ())
        if len(dynamic) > 1:
            raise LoweringError("a reshape has several sizes that depend on the batch")
        sizes = [-1 if i in dynamic else size for i, size in enumerate(self.shape(call.outputs[0]))]
        return self.one("Reshape", source, self.numbers(sizes))


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        LOWERED.update(dict.fromkeys(names, rule))
        return rule

    return register


def _ints(argument: Argument, n: int) -> tuple[int, ...]:
    """n numbers from an argument of one or n."""
    given = cast(tuple[int, ...], argument if isinstance(argument, tuple) else (argument,))
    return given * n if len(given) == 1 else given


# Elementwise.

_SAME_NAME = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "hardswish": "HardSwish", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
    "abs": "Abs", "neg": "Neg", "erf": "Erf", "sin": "Sin", "cos": "Cos", "floor": "Floor", "ceil": "Ceil", "round": "Round",
    "reciprocal": "Reciprocal", "softplus": "Softplus", "sign": "Sign", "mish": "Mish", "softsign": "Softsign", "selu": "Selu",
    "logical_not": "Not", "bitwise_not": "Not", "tan": "Tan", "atan": "Atan",
}  # fmt: skip


@_rule(*_SAME_NAME)
def _unary(low: Lowering, call: Call) -> None:
    low.returns(call, low.one(_SAME_NAME[call.name], low.tensor(call.arguments["self"])))


@_rule("clone", "contiguous", "detach", "alias", "dropout")
def _same(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("Identity", low.tensor(call.arguments["self"])))


@_rule("to", "_to_copy", "type_as", "float", "half", "bool", "long", "int", "double")
def _cast(low: Lowering, call: Call) -> None:
    source, target = low.dtype(call.arguments["self"]), low.program.values[call.outputs[0]].dtype
    x = low.tensor(call.arguments["self"])
    if source == target:
        low.returns(call, low.one("Identity", x))
    elif target in _TYPES and source in _TYPES:
        low.returns(call, low.one("Cast", x, to=_TYPES[target]))
    else:
        raise LoweringError(f"there is no rule for a conversion of {source} to {target}")


@_rule("silu")
def _silu(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    low.returns(call, low.one("Mul", x, low.one("Sigmoid", x)))


@_rule("gelu")
def _gelu(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    if call.arguments["approximate"] == "tanh":
        cubed = low.one("Mul", low.one("Mul", low.one("Mul", x, x), x), low.scalar(0.044715))
        inner = low.one("Tanh", low.one("Mul", low.one("Add", x, cubed), low.scalar(math.sqrt(2 / math.pi))))
    else:
        inner = low.one("Erf", low.one("Div", x, low.scalar(math.sqrt(2))))
    half = low.one("Mul", low.one("Mul", x, low.one("Add", inner, low.scalar(1.0))), low.scalar(0.5))
    low.returns(call, half)


@_rule("hardsigmoid")
def _hardsigmoid(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("HardSigmoid", low.tensor(call.arguments["self"]), alpha=1 / 6, beta=0.5))


@_rule("relu6", "hardtanh", "clamp", "clamp_min", "clamp_max")
def _clip(low: Lowering, call: Call) -> None:
    a = call.arguments
    low_bound, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    if call.name == "relu6":
        low_bound, high = 0.0, 6.0
    bounds = [None if bound is None else low.scalar(float(cast(float, bound))) for bound in (low_bound, high)]
    low.returns(call, low.one("Clip", low.tensor(a["self"]), *bounds))


@_rule("elu", "leaky_relu", "celu")
def _with_slope(low: Lowering, call: Call) -> None:
    name = {"elu": "Elu", "leaky_relu": "LeakyRelu", "celu": "Celu"}[call.name]
    a = call.arguments
    if a.get("scale", 1) != 1 or a.get("input_scale", 1) != 1:
        raise LoweringError("there is no rule for a scaled elu")
    slope = float(cast(float, a["negative_slope" if call.name == "leaky_relu" else "alpha"]))
    low.returns(call, low.one(name, low.tensor(a["self"]), alpha=slope))


@_rule("log_sigmoid")
def _log_sigmoid(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("Log", low.one("Sigmoid", low.tensor(call.arguments["self"]))))


@_rule("rsqrt")
def _rsqrt(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("Reciprocal", low.one("Sqrt", low.tensor(call.arguments["self"]))))


@_rule("square")
def _square(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    low.returns(call, low.one("Mul", x, x))


_BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "true_divide": "Div", "pow": "Pow", "maximum": "Max", "minimum": "Min",
    "eq": "Equal", "lt": "Less", "gt": "Greater", "le": "LessOrEqual", "ge": "GreaterOrEqual", "logical_and": "And",
    "logical_or": "Or", "bitwise_and": "And", "bitwise_or": "Or",
}  # fmt: skip


@_rule(*_BINARY, "rsub", "ne")
def _binary(low: Lowering, call: Call) -> None:
    a = call.arguments
    names = ("self", "exponent") if call.name == "pow" else ("self", "other")
    types = {low.dtype(a[name]) for name in names} - {""}
    integer = types == {"int64"}
    if len(types) > 1 or a.get("rounding_mode") is not None:
        raise LoweringError(f"there is no rule for {call.name} of {' and '.join(sorted(types))}")
    left, right = (low.operand(a[name], integer=integer) for name in names)
    if a.get("alpha", 1) != 1:
        right = low.one("Mul", right, low.operand(a["alpha"], integer=integer))
    if call.name == "rsub":
        low.returns(call, low.one("Sub", right, left))
    elif call.name == "ne":
        low.returns(call, low.one("Not", low.one("Equal", left, right)))
    else:
        low.returns(call, low.one(_BINARY[call.name], left, right))


@_rule("masked_fill", "where")
def _where(low: Lowering, call: Call) -> None:
    a = call.arguments
    if call.name == "where":
        low.returns(call, low.one("Where", low.tensor(a["condition"]), low.operand(a["self"]), low.operand(a["other"])))
    else:
        low.returns(call, low.one("Where", low.tensor(a["mask"]), low.operand(a["value"]), low.tensor(a["self"])))


@_rule("prelu", "_prelu_kernel")
def _prelu(low: Lowering, call: Call) -> None:
    x, weight = call.arguments["self"], call.arguments["weight"]
    slope = low.tensor(weight)
    if call.name == "prelu" and low.shape(cast(Ref, weight).name) != (1,):
        slope = low.one("Reshape", slope, low.numbers([-1] + [1] * (low.rank(x) - 2)))
    low.returns(call, low.one("PRelu", low.tensor(x), slope))


@_rule("softmax", "log_softmax")
def _softmax(low: Lowering, call: Call) -> None:
    name = "Softmax" if call.name == "softmax" else "LogSoftmax"
    low.returns(call, low.one(name, low.tensor(call.arguments["self"]), axis=cast(int, call.arguments["dim"])))


# Linear operations.


@_rule("linear")
def _linear(low: Lowering, call: Call) -> None:
    a = call.arguments
    x, weight = low.tensor(a["input"]), low.tensor(a["weight"])
    bias = low.tensor(a["bias"]) if a["bias"] is not None else None
    if low.rank(a["input"]) == 2:
        low.returns(call, low.one("Gemm", x, weight, *([] if bias is None else [bias]), transB=1))
        return
    product = low.one("MatMul", x, low.one("Transpose", weight, perm=(1, 0)))
    low.returns(call, product if bias is None else low.one("Add", product, bias))


@_rule("conv1d", "conv2d", "conv3d")
def _convolution(low: Lowering, call: Call) -> None:
    a = call.arguments
    n = low.rank(a["input"]) - 2
    if isinstance(a["padding"], str):
        raise LoweringError(f"there is no rule for a convolution with padding={a['padding']!r}")
    inputs = [low.tensor(a["input"]), low.tensor(a["weight"])]
    inputs += [] if a["bias"] is None else [low.tensor(a["bias"])]
    kernel = low.shape(cast(Ref, a["weight"]).name)[2:]
    low.returns(call, low.one(
        "Conv", *inputs, kernel_shape=tuple(kernel), strides=_ints(a["stride"], n), dilations=_ints(a["dilation"], n),
        pads=_ints(a["padding"], n) * 2, group=cast(int, a["groups"]),
    ))  # fmt: skip


@_rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed_convolution(low: Lowering, call: Call) -> None:
    a = call.arguments
    n = low.rank(a["input"]) - 2
    inputs = [low.tensor(a["input"]), low.tensor(a["weight"])]
    inputs += [] if a["bias"] is None else [low.tensor(a["bias"])]
    kernel = low.shape(cast(Ref, a["weight"]).name)[2:]
    low.returns(call, low.one(
        "ConvTranspose", *inputs, kernel_shape=tuple(kernel), strides=_ints(a["stride"], n), dilations=_ints(a["dilation"], n),
        pads=_ints(a["padding"], n) * 2, output_padding=_ints(a["output_padding"], n), group=cast(int, a["groups"]),
    ))  # fmt: skip


@_rule("matmul", "bmm", "mm")
def _matmul(low: Lowering, call: Call) -> None:
    right = next(call.arguments[name] for name in ("other", "mat2") if name in call.arguments)
    low.returns(call, low.one("MatMul", low.tensor(call.arguments["self"]), low.tensor(right)))


@_rule("addmm", "baddbmm")
def _add_product(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("alpha", 1) != 1 or a.get("beta", 1) != 1:
        raise LoweringError(f"there is no rule for {call.name} with alpha or beta")
    left, right = (low.tensor(a[name]) for name in a if name.startswith(("mat", "batch")))
    low.returns(call, low.one("Add", low.one("MatMul", left, right), low.tensor(a["self"])))


@_rule("einsum")
def _einsum(low: Lowering, call: Call) -> None:
    operands = [low.tensor(one) for one in cast(tuple[Argument, ...], call.arguments["tensors"])]
    low.returns(call, low.one("Einsum", *operands, equation=cast(str, call.arguments["equation"])))


@_rule("scaled_dot_product_attention")
def _attention(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("enable_gqa") or a.get("dropout_p"):
        raise LoweringError("there is no rule for attention with grouped queries or dropout")
    query, key = low.shape(cast(Ref, a["query"]).name), low.shape(cast(Ref, a["key"]).name)
    scale = cast(float | None, a.get("scale")) or query[-1] ** -0.5
    order = [*range(len(key) - 2), len(key) - 1, len(key) - 2]
    scaled = low.one("Mul", low.tensor(a["query"]), low.scalar(scale))
    scores = low.one("MatMul", scaled, low.one("Transpose", low.tensor(a["key"]), perm=tuple(order)))
    if a.get("is_causal"):
        mask = np.triu(np.full((query[-2], key[-2]), -np.inf, dtype=np.float32), 1)
        scores = low.one("Add", scores, low.graph.constant(mask))
    if a["attn_mask"] is not None:
        mask_value = low.tensor(a["attn_mask"])
        if low.dtype(a["attn_mask"]) == "bool":
            scores = low.one("Where", mask_value, scores, low.scalar(-math.inf))
        else:
            scores = low.one("Add", scores, mask_value)
    low.returns(call, low.one("MatMul", low.one("Softmax", scores, axis=-1), low.tensor(a["value"])))


@_rule("embedding")
def _embedding(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("Gather", low.tensor(call.arguments["weight"]), low.tensor(call.arguments["indices"]), axis=0))


# Normalisations.


@_rule("batch_norm")
def _batch_norm(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a["running_mean"] is None or a["training"]:
        raise LoweringError("a batch norm has no running statistics, so that its outputs depend on the batch")
    mean = low.tensor(a["running_mean"])
    (size,) = low.shape(cast(Ref, a["running_mean"]).name)
    scale, shift = (
        low.graph.constant(np.full(size, fill, dtype=np.float32)) if a[name] is None else low.tensor(a[name])
        for name, fill in (("weight", 1.0), ("bias", 0.0))
    )
    variance = low.tensor(a["running_var"])
    inputs = [low.tensor(a["input"]), scale, shift, mean, variance]
    low.returns(call, low.one("BatchNormalization", *inputs, epsilon=cast(float, a["eps"])))


@_rule("layer_norm")
def _layer_norm(low: Lowering, call: Call) -> None:
    a = call.arguments
    sizes = cast(tuple[int, ...], a["normalized_shape"])
    scale = low.graph.constant(np.ones(sizes, dtype=np.float32)) if a["weight"] is None else low.tensor(a["weight"])
    inputs = [low.tensor(a["input"]), scale] + ([] if a["bias"] is None else [low.tensor(a["bias"])])
    low.returns(call, low.one("LayerNormalization", *inputs, axis=-len(sizes), epsilon=cast(float, a["eps"])))


@_rule("rms_norm")
def _rms_norm(low: Lowering, call: Call) -> None:
    a = call.arguments
    x, n = low.tensor(a["input"]), len(cast(tuple[int, ...], a["normalized_shape"]))
    eps = cast(float | None, a["eps"]) or float(np.finfo(np.float32).eps)
    mean = low.one("ReduceMean", low.one("Mul", x, x), low.numbers(list(range(-n, 0))), keepdims=1)
    out = low.one("Div", x, low.one("Sqrt", low.one("Add", mean, low.scalar(eps))))
    low.returns(call, out if a["weight"] is None else low.one("Mul", out, low.tensor(a["weight"])))


@_rule("group_norm")
def _group_norm(low: Lowering, call: Call) -> None:
    a = call.arguments
    shape, groups = low.shape(cast(Ref, a["input"]).name), cast(int, a["num_groups"])
    ones, zeros = (low.graph.constant(np.full(groups, fill, dtype=np.float32)) for fill in (1.0, 0.0))
    grouped = low.one("Reshape", low.tensor(a["input"]), low.numbers([0, groups, -1]))
    normed = low.one("InstanceNormalization", grouped, ones, zeros, epsilon=cast(float, a["eps"]))
    out = low.one("Reshape", normed, low.numbers([-1, *shape[1:]]))
    for name, op in (("weight", "Mul"), ("bias", "Add")):
        if a[name] is not None:
            column = low.one("Reshape", low.tensor(a[name]), low.numbers([-1] + [1] * (len(shape) - 2)))
            out = low.one(op, out, column)
    low.returns(call, out)


# Shapes.


@_rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as", "reshape_as")
def _reshape(low: Lowering, call: Call) -> None:
    low.returns(call, low.reshaped(call, low.tensor(call.arguments["self"])))


@_rule("squeeze")
def _squeeze(low: Lowering, call: Call) -> None:
    source, shape = low.tensor(call.arguments["self"]), low.shape(cast(Ref, call.arguments["self"]).name)
    given = call.arguments.get("dim")
    chosen = range(len(shape)) if given is None else [d % len(shape) for d in _ints(given, 1)]
    axes = [i for i in chosen if shape[i] == 1]
    low.returns(call, low.one("Squeeze", source, low.numbers(axes)) if axes else low.one("Identity", source))


@_rule("unsqueeze")
def _unsqueeze(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"]) % len(low.shape(call.outputs[0]))
    low.returns(call, low.one("Unsqueeze", low.tensor(call.arguments["self"]), low.numbers([axis])))


@_rule("permute", "transpose", "t", "numpy_T", "mT", "swapaxes")
def _permute(low: Lowering, call: Call) -> None:
    a = call.arguments
    rank = low.rank(a["self"])
    order = list(range(rank))
    if call.name == "permute":
        order = [d % rank for d in cast(tuple[int, ...], a["dims"])]
    elif call.name in ("t", "numpy_T"):
        order.reverse()
    else:
        pair = [value for name, value in a.items() if name != "self"] or [-1, -2]
        i, j = (cast(int, d) % rank for d in pair)
        order[i], order[j] = order[j], order[i]
    low.returns(call, low.one("Transpose", low.tensor(a["self"]), perm=tuple(order)))


@_rule("expand", "broadcast_to", "expand_as")
def _expand(low: Lowering, call: Call) -> None:
    if call.name == "expand_as":
        low.returns(call, low.one("Expand", low.tensor(call.arguments["self"]), low.one("Shape", low.tensor(call.arguments["other"]))))
        return
    sizes = cast(tuple[Argument, ...], call.arguments["size"])
    parts = [low.size(size) for size in sizes]
    shape = low.one("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]
    low.returns(call, low.one("Expand", low.tensor(call.arguments["self"]), shape))


@_rule("repeat")
def _repeat(low: Lowering, call: Call) -> None:
    repeats = cast(tuple[Argument, ...], call.arguments["repeats"])
    x = low.tensor(call.arguments["self"])
    missing = len(repeats) - low.rank(call.arguments["self"])
    if missing:
        x = low.one("Unsqueeze", x, low.numbers(list(range(missing))))
    low.returns(call, low.one("Tile", x, low.one("Concat", *[low.size(one) for one in repeats], axis=0)))


@_rule("cat", "concat")
def _concatenate(low: Lowering, call: Call) -> None:
    parts = [low.tensor(one) for one in cast(tuple[Argument, ...], call.arguments["tensors"])]
    low.returns(call, low.one("Concat", *parts, axis=cast(int, call.arguments["dim"])))


@_rule("stack")
def _stack(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"]) % len(low.shape(call.outputs[0]))
    parts = [low.tensor(one) for one in cast(tuple[Argument, ...], call.arguments["tensors"])]
    low.returns(call, low.one("Concat", *[low.one("Unsqueeze", part, low.numbers([axis])) for part in parts], axis=axis))


@_rule("split_with_sizes", "split", "chunk", "tensor_split")
def _split(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"])
    sizes = low.numbers([low.shape(name)[axis] for name in call.outputs])
    low.returns(call, *low.emit("Split", [low.tensor(call.arguments["self"]), sizes], len(call.outputs), axis=axis))


@_rule("unbind")
def _unbind(low: Lowering, call: Call) -> None:
    axis, n = cast(int, call.arguments["dim"]), len(call.outputs)
    parts = low.emit("Split", [low.tensor(call.arguments["self"])], n, axis=axis, num_outputs=n)
    low.returns(call, *[low.one("Squeeze", part, low.numbers([axis])) for part in parts])


@_rule("select")
def _select(low: Lowering, call: Call) -> None:
    a = call.arguments
    axis, index = cast(int, a["dim"]), cast(int, a["index"])
    low.returns(call, low.one("Gather", low.tensor(a["self"]), low.graph.constant(np.array(index, dtype=np.int64)), axis=axis))


@_rule("slice")
def _slice(low: Lowering, call: Call) -> None:
    a = call.arguments
    start, end = cast(int | None, a["start"]) or 0, cast(int | None, a["end"])
    bounds = [start, 2**62 if end is None else end]
    if any(not isinstance(bound, int) for bound in bounds):
        raise LoweringError("there is no rule for a slice of the batch")
    axes, steps = low.numbers([cast(int, a["dim"])]), low.numbers([cast(int, a["step"])])
    low.returns(call, low.one("Slice", low.tensor(a["self"]), low.numbers([bounds[0]]), low.numbers([bounds[1]]), axes, steps))


@_rule("roll")
def _roll(low: Lowering, call: Call) -> None:
    x, shape = low.tensor(call.arguments["self"]), low.shape(cast(Ref, call.arguments["self"]).name)
    dims = cast(tuple[int, ...], call.arguments["dims"])
    for shift, dim in zip(_ints(call.arguments["shifts"], len(dims)), dims, strict=True):
        size = shape[dim]
        cut = (size - shift) % size
        if cut:
            parts = low.emit("Split", [x, low.numbers([cut, size - cut])], 2, axis=dim)
            x = low.one("Concat", parts[1], parts[0], axis=dim)
    low.returns(call, low.one("Identity", x))


@_rule("flip")
def _flip(low: Lowering, call: Call) -> None:
    dims = list(cast(tuple[int, ...], call.arguments["dims"]))
    n = len(dims)
    low.returns(call, low.one(
        "Slice", low.tensor(call.arguments["self"]), low.numbers([-1] * n), low.numbers([-(2**62)] * n), low.numbers(dims),
        low.numbers([-1] * n),
    ))  # fmt: skip


@_rule("index")
def _index(low: Lowering, call: Call) -> None:
    indices = cast(tuple[Argument, ...], call.arguments["indices"])
    used = [(i, index) for i, index in enumerate(indices) if index is not None]
    if len(used) != 1 or low.dtype(used[0][1]) != "int64":
        raise LoweringError("there is no rule for an index in several dimensions")
    axis, index = used[0]
    low.returns(call, low.one("Gather", low.tensor(call.arguments["self"]), low.tensor(index), axis=axis))


@_rule("pad", "constant_pad_nd")
def _pad(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("mode", "constant") != "constant":
        raise LoweringError(f"there is no rule for pad(mode={a['mode']!r})")
    rank, amounts = low.rank(a["self"]), cast(tuple[int, ...], a["pad"])
    before, after = [0] * rank, [0] * rank
    for i in range(len(amounts) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    value = low.scalar(float(cast(float, a.get("value") or 0.0)))
    low.returns(call, low.one("Pad", low.tensor(a["self"]), low.numbers([*before, *after]), value))


@_rule("pixel_shuffle")
def _pixel_shuffle(low: Lowering, call: Call) -> None:
    factor = cast(int, call.arguments["upscale_factor"])
    low.returns(call, low.one("DepthToSpace", low.tensor(call.arguments["self"]), blocksize=factor, mode="CRD"))


@_rule("glu")
def _glu(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"])
    a, b = low.emit("Split", [low.tensor(call.arguments["self"])], 2, axis=axis, num_outputs=2)
    low.returns(call, low.one("Mul", a, low.one("Sigmoid", b)))


# Reductions and pooling.

_REDUCTIONS = {"mean": "ReduceMean", "sum": "ReduceSum", "amax": "ReduceMax", "amin": "ReduceMin", "logsumexp": "ReduceLogSumExp"}


@_rule(*_REDUCTIONS, "linalg_vector_norm", "norm")
def _reduce(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("dim") is None:
        raise LoweringError(f"a {call.name} over all dimensions includes the batch")
    axes = low.numbers([d % low.rank(a["self"]) for d in _ints(a["dim"], 1)])
    name = _REDUCTIONS.get(call.name, "ReduceL2")
    if call.name in ("linalg_vector_norm", "norm") and a.get("ord", a.get("p")) not in (2, None):
        raise LoweringError("there is no rule for a norm of another order than 2")
    low.returns(call, low.one(name, low.tensor(a["self"]), axes, keepdims=int(bool(a.get("keepdim")))))


@_rule("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(low: Lowering, call: Call) -> None:
    a = call.arguments
    n = low.rank(a["self"]) - 2
    kernel = _ints(a["kernel_size"], n)
    low.returns(call, low.one(
        "MaxPool", low.tensor(a["self"]), kernel_shape=kernel, strides=_ints(a["stride"] or kernel, n),
        pads=_ints(a["padding"], n) * 2, dilations=_ints(a["dilation"], n), ceil_mode=int(bool(a["ceil_mode"])),
    ))  # fmt: skip


@_rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("divisor_override") is not None or a["ceil_mode"]:
        raise LoweringError("there is no rule for an average pooling with divisor_override or ceil_mode")
    n = low.rank(a["self"]) - 2
    kernel = _ints(a["kernel_size"], n)
    low.returns(call, low.one(
        "AveragePool", low.tensor(a["self"]), kernel_shape=kernel, strides=_ints(a["stride"] or kernel, n),
        pads=_ints(a["padding"], n) * 2, count_include_pad=int(bool(a["count_include_pad"])),
    ))  # fmt: skip


@_rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d")
def _adaptive_pool(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    n = low.rank(call.arguments["self"]) - 2
    before, after = low.shape(cast(Ref, call.arguments["self"]).name)[-n:], low.shape(call.outputs[0])[-n:]
    kind = "Max" if "max" in call.name else "Average"
    if math.prod(after) == 1:
        low.returns(call, low.one(f"Global{kind}Pool", x))
    elif before == after:
        low.returns(call, low.one("Identity", x))
    elif all(b % s == 0 for b, s in zip(before, after, strict=True)):
        kernel = tuple(b // s for b, s in zip(before, after, strict=True))
        low.returns(call, low.one(f"{kind}Pool", x, kernel_shape=kernel, strides=kernel))
    elif kind == "Average" and n == 2:
        low.returns(call, _by_matrices(low, x, before, after))
    else:
        raise LoweringError(f"there is no rule for an adaptive pooling of {before} to {after}")


def _by_matrices(low: Lowering, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
    """An adaptive average pooling of images as two products with constant matrices of window averages."""
    rows, columns = (_windows(b, a) for b, a in zip(before, after, strict=True))
    left = low.one("MatMul", low.graph.constant(rows), x)
    return low.one("MatMul", left, low.graph.constant(np.ascontiguousarray(columns.T)))


def _windows(before: int, after: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    matrix = np.zeros((after, before), dtype=np.float32)
    for i in range(after):
        start, end = i * before // after, -(-(i + 1) * before // after)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


@_rule("upsample_nearest2d", "upsample_bilinear2d")
def _resize(low: Lowering, call: Call) -> None:
    before, after = low.shape(cast(Ref, call.arguments["self"]).name), low.shape(call.outputs[0])
    scales = np.array([1, 1, after[2] / before[2], after[3] / before[3]], dtype=np.float32)
    bilinear = call.name == "upsample_bilinear2d"
    if not bilinear:
        settings: dict[str, Attribute] = {
            "mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"
        }  # fmt: skip
    else:
        mode = "align_corners" if call.arguments["align_corners"] else "half_pixel"
        settings = {"mode": "linear", "coordinate_transformation_mode": mode}
    low.returns(call, low.one("Resize", low.tensor(call.arguments["self"]), None, low.graph.constant(scales), **settings))
