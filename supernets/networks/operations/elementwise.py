"""Elementwise operations, which join sizes, and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import find, unify
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Argument, Call, Ref, refs
from supernets.networks.lowering.state import TYPES, Lowering
from supernets.networks.onnx_graph.ir import Value
from supernets.networks.operations.registry import LoweringRule, ResultDims, ResultValues, axis, lowers, rule_of


def _elementwise_dims(ctx: Inference, call: Call) -> ResultDims:
    operands = [ctx.tensor_dims(Ref(name)) for name in refs(call.arguments.values())]
    if call.name == "type_as":
        operands = operands[:1]
    return ctx.broadcast(operands)


def elementwise(*names: str, neutral: tuple[str, ...] = ()) -> Callable[[LoweringRule], LoweringRule]:
    """Registers operations whose operands are broadcast, with how they become nodes of ONNX, as `lowers`."""
    rule_of(*names)(_elementwise_dims)
    return lowers(*names, neutral=neutral)


_WITHOUT_ONNX = (
    "bernoulli",
    "empty_like",
    "imag",
    "nan_to_num",
    "rand_like",
    "real",
    "swish",
    "xlogy",
)
rule_of(*_WITHOUT_ONNX)(_elementwise_dims)


_SAME_NAME = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hardswish": "HardSwish",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "reciprocal": "Reciprocal",
    "softplus": "Softplus",
    "sign": "Sign",
    "mish": "Mish",
    "softsign": "Softsign",
    "selu": "Selu",
    "logical_not": "Not",
    "bitwise_not": "Not",
    "tan": "Tan",
    "atan": "Atan",
    "asin": "Asin",
    "acos": "Acos",
    "sinh": "Sinh",
    "cosh": "Cosh",
}


_OF_INTEGERS = frozenset(("abs", "neg", "sign"))
"""Operations of `_SAME_NAME` that ONNX has for integers, too."""


def typed_operand(low: Lowering, argument: Argument, dtype: str) -> Value:
    """A tensor argument converted to a type, or a number as a constant of it.

    Raises:
        LoweringError: the graph has no such type, or the argument is neither.
    """
    if dtype not in TYPES or low.dtype(argument) not in ("", *TYPES):
        raise LoweringError(f"there is no rule for numbers of {dtype if dtype not in TYPES else low.dtype(argument)}")
    if isinstance(argument, Ref):
        x = low.tensor(argument)
        return x if low.dtype(argument) == dtype else low.add("Cast", x, to=TYPES[dtype])
    if not isinstance(argument, int | float):
        raise LoweringError(f"expected a tensor or a number, got {argument!r}")
    return low.constant(np.array(argument, dtype=dtype))


def common_type(low: Lowering, *arguments: Argument) -> str:
    """The type that torch converts tensors and numbers to before it computes with them."""
    operands: list[Any] = [
        torch.empty(
            (1,) * low.rank(argument), dtype=getattr(torch, low.program.values[argument.name].dtype), device="meta"
        )
        if isinstance(argument, Ref)
        else argument
        for argument in arguments
    ]
    dtype = str(torch.result_type(*operands)).removeprefix("torch.")
    return "int64" if dtype == "int32" else dtype


@elementwise(*_SAME_NAME)
def _lower_unary(low: Lowering, call: Call) -> ResultValues:
    a, name, dtype = call.arguments, call.name, low.result_type(call)
    if a.get("decimals"):
        raise LoweringError("there is no rule for rounding to decimals")
    if name in ("bitwise_not", "relu") and dtype != ("bool" if name == "bitwise_not" else "float32"):
        raise LoweringError(f"there is no rule for {name} of {dtype}")
    x = typed_operand(low, a["self"], dtype)
    if name == "softplus":
        return _softplus(low, x, cast(float, a["beta"]), cast(float, a["threshold"]))
    if dtype == "int64" and name not in _OF_INTEGERS:  # integers are rounded already
        return low.add("Identity", x)
    return low.add(_SAME_NAME[name], x)


_SOFTPLUS_THRESHOLD = 20.0
"""Torch's default; above it softplus and its argument differ by less than 32-bit floats."""


def _softplus(low: Lowering, x: Value, beta: float, threshold: float) -> Value:
    scaled = x if beta == 1 else low.add("Mul", x, low.scalar(beta))
    out = low.add("Softplus", scaled)
    out = out if beta == 1 else low.add("Div", out, low.scalar(beta))
    if threshold >= _SOFTPLUS_THRESHOLD:
        return out
    return low.add("Where", low.add("Greater", scaled, low.scalar(threshold)), x, out)


@elementwise("clone", "contiguous", "alias", "dropout")
def _lower_same(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    if a.get("train") and a.get("p"):
        raise LoweringError("there is no rule for a dropout of units in evaluation mode")
    return low.add("Identity", low.tensor(a["input" if call.name == "dropout" else "self"]))


@elementwise("to", "_to_copy", "type_as", "float", "half", "bool", "long", "int", "double", neutral=("dtype", "other"))
def _lower_cast(low: Lowering, call: Call) -> ResultValues:
    x = call.arguments["self"]
    out = typed_operand(low, x, low.result_type(call))
    return low.add("Identity", out) if out is low.tensor(x) else out


def silu(low: Lowering, x: Value) -> Value:
    """x * sigmoid(x)."""
    return low.add("Mul", x, low.add("Sigmoid", x))


_COMPOSED: Mapping[str, Callable[[Lowering, Value], Value]] = {
    "silu": silu,
    "hardsigmoid": lambda low, x: low.add("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    # The logarithm of a sigmoid would be that of zero for large negative numbers.
    "log_sigmoid": lambda low, x: low.add("Neg", low.add("Softplus", low.add("Neg", x))),
    "rsqrt": lambda low, x: low.add("Reciprocal", low.add("Sqrt", x)),
    "log2": lambda low, x: low.add("Mul", low.add("Log", x), low.scalar(1 / math.log(2))),
    "log1p": lambda low, x: low.add("Log", low.add("Add", x, low.scalar(1.0))),
    "expm1": lambda low, x: low.add("Sub", low.add("Exp", x), low.scalar(1.0)),
    "square": lambda low, x: low.add("Mul", x, x),
    "erfc": lambda low, x: low.add("Sub", low.scalar(1.0), low.add("Erf", x)),
    "tanhshrink": lambda low, x: low.add("Sub", x, low.add("Tanh", x)),
    "trunc": lambda low, x: _truncated(low, x),
    "isnan": lambda low, x: low.add("IsNaN", x),
    "isinf": lambda low, x: low.add("IsInf", x),
    "isfinite": lambda low, x: low.add("Not", low.add("Or", low.add("IsNaN", x), low.add("IsInf", x))),
}
"""Operations of one tensor of floating-point numbers, without other arguments."""


def _truncated(low: Lowering, x: Value) -> Value:
    return low.add("Mul", low.add("Sign", x), low.add("Floor", low.add("Abs", x)))


@elementwise(*_COMPOSED)
def _lower_composed(low: Lowering, call: Call) -> ResultValues:
    return _COMPOSED[call.name](low, low.tensor(call.arguments["self"]))


@elementwise("gelu")
def _lower_gelu(low: Lowering, call: Call) -> ResultValues:
    x, approximate = low.tensor(call.arguments["self"]), cast(str, call.arguments["approximate"])
    return gelu(low, x, approximate)


def gelu(low: Lowering, x: Value, approximate: str = "none") -> Value:
    """x times the normal distribution function. This opset has no such operation; runtimes recognise the pattern."""
    if approximate == "tanh":
        cube = low.add("Mul", low.add("Mul", low.add("Mul", x, x), x), low.scalar(0.044715))
        bent = low.add("Tanh", low.add("Mul", low.add("Add", x, cube), low.scalar(math.sqrt(2 / math.pi))))
    else:
        bent = low.add("Erf", low.add("Div", x, low.scalar(math.sqrt(2))))
    return low.add("Mul", low.add("Mul", x, low.add("Add", bent, low.scalar(1.0))), low.scalar(0.5))


@elementwise("relu6", "hardtanh", "clamp", "clip", "clamp_min", "clamp_max")
def _lower_clip(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    low_bound, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    if call.name == "relu6":
        low_bound, high = 0.0, 6.0
    dtype = low.result_type(call)
    x = typed_operand(low, a["self"], dtype)
    bounds = [None if bound is None else typed_operand(low, bound, dtype) for bound in (low_bound, high)]
    if isinstance(low_bound, Ref) or isinstance(high, Ref):
        for op, bound in zip(("Max", "Min"), bounds, strict=True):
            x = x if bound is None else low.add(op, x, bound)
        return x
    return low.add("Clip", x, *bounds)


@elementwise("hardshrink", "softshrink")
def _lower_shrink(low: Lowering, call: Call) -> ResultValues:
    limit = float(cast(float, call.arguments["lambd"]))
    bias = limit if call.name == "softshrink" else 0.0
    return low.add("Shrink", low.tensor(call.arguments["self"]), lambd=limit, bias=bias)


@elementwise("threshold")
def _lower_threshold(low: Lowering, call: Call) -> ResultValues:
    a, dtype = call.arguments, low.result_type(call)
    x, limit, value = (typed_operand(low, a[name], dtype) for name in ("self", "threshold", "value"))
    return low.add("Where", low.add("LessOrEqual", x, limit), value, x)


@elementwise("remainder", "fmod", "floor_divide")
def _lower_division_with_remainder(low: Lowering, call: Call) -> ResultValues:
    """A remainder has the sign of the divisor, but that of `fmod` has the dividend's."""
    dtype = low.result_type(call)
    x, y = (typed_operand(low, call.arguments[name], dtype) for name in ("self", "other"))
    if call.name == "fmod":
        return low.add("Mod", x, y, fmod=1)
    if call.name == "floor_divide":
        return _floored_quotient(low, x, y, dtype)
    return _remainder(low, x, y, dtype)


def _remainder(low: Lowering, x: Value, y: Value, dtype: str) -> Value:
    """The remainder with the sign of the divisor: exact, where that of a rounded quotient would be off by a whole divisor."""
    if dtype == "int64":
        return low.add("Mod", x, y, fmod=0)
    remainder, zero = low.add("Mod", x, y, fmod=1), low.scalar(0.0)
    signs_differ = low.add("Less", low.add("Mul", low.add("Sign", remainder), low.add("Sign", y)), zero)
    return low.add("Where", signs_differ, low.add("Add", remainder, y), remainder)


def _floored_quotient(low: Lowering, x: Value, y: Value, dtype: str) -> Value:
    """The quotient that the remainder leaves, as torch computes it."""
    quotient = low.add("Div", low.add("Sub", x, _remainder(low, x, y, dtype)), y)
    return quotient if dtype == "int64" else low.add("Round", quotient)


@elementwise("elu", "leaky_relu", "celu")
def _lower_with_slope(low: Lowering, call: Call) -> ResultValues:
    name = {"elu": "Elu", "leaky_relu": "LeakyRelu", "celu": "Celu"}[call.name]
    a = call.arguments
    if a.get("scale", 1) != 1 or a.get("input_scale", 1) != 1:
        raise LoweringError("there is no rule for a scaled elu")
    slope = float(cast(float, a["negative_slope" if call.name == "leaky_relu" else "alpha"]))
    return low.add(name, low.tensor(a["self"]), alpha=slope)


@elementwise("addcmul", "addcdiv")
def _lower_add_product(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    dtype = low.result_type(call)
    x, first, second, value = (typed_operand(low, a[name], dtype) for name in ("self", "tensor1", "tensor2", "value"))
    product = low.add("Mul" if call.name == "addcmul" else "Div", first, second)
    return low.add("Add", x, product if a["value"] == 1 else low.add("Mul", product, value))


@elementwise("lerp")
def _lower_lerp(low: Lowering, call: Call) -> ResultValues:
    names, dtype = ("self", "end", "weight"), low.result_type(call)
    start, end, weight = (typed_operand(low, call.arguments[name], dtype) for name in names)
    return low.add("Add", start, low.add("Mul", weight, low.add("Sub", end, start)))


_BINARY = {
    "add": "Add",
    "sub": "Sub",
    "rsub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "true_divide": "Div",
    "pow": "Pow",
    "maximum": "Max",
    "minimum": "Min",
    "eq": "Equal",
    "ne": "Equal",
    "lt": "Less",
    "gt": "Greater",
    "le": "LessOrEqual",
    "ge": "GreaterOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "bitwise_and": "And",
    "bitwise_or": "Or",
    "bitwise_xor": "Xor",
}
_OF_TRUTH_VALUES = {"add": "Or", "mul": "And", "maximum": "Or", "minimum": "And"}
"""The equivalents of these operations where both operands are truth values."""


@elementwise(*_BINARY)
def _lower_binary(low: Lowering, call: Call) -> ResultValues:
    a, name = call.arguments, call.name
    left, right = a["self"], a["exponent" if name == "pow" else "other"]
    if name == "rsub":
        left, right = right, left
    rounding = a.get("rounding_mode")
    if rounding is not None and low.result_type(call) != "float32":
        raise LoweringError(f"there is no rule for {call.op} of integers with rounding_mode={rounding!r}")
    dtype = common_type(low, left, right)
    if name.startswith("logical"):
        dtype = "bool"
    elif name in ("div", "true_divide"):
        dtype = low.result_type(call)
    elif name.startswith("bitwise") and dtype != "bool":
        raise LoweringError(f"there is no rule for {name} of {dtype}")
    op = _OF_TRUTH_VALUES.get(name, _BINARY[name]) if dtype == "bool" else _BINARY[name]
    if dtype == "bool" and op not in ("And", "Or", "Xor", "Equal"):
        dtype = "int64"  # ONNX orders numbers alone
    x, y = typed_operand(low, left, dtype), typed_operand(low, right, dtype)
    if (alpha := a.get("alpha", 1)) != 1:
        y = low.add("Mul", y, typed_operand(low, alpha, dtype))
    if rounding == "floor":
        return _floored_quotient(low, x, y, dtype)
    out = low.add(op, x, y)
    if rounding is not None:
        return _truncated(low, out)
    return low.add("Not", out) if name == "ne" else out


@elementwise("masked_fill", "where")
def _lower_where(low: Lowering, call: Call) -> ResultValues:
    a, dtype = call.arguments, low.result_type(call)
    names = ("condition", "self", "other") if call.name == "where" else ("mask", "value", "self")
    condition, *branches = (a[name] for name in names)
    values = [typed_operand(low, branch, dtype) for branch in branches]
    return low.add("Where", typed_operand(low, condition, "bool"), *values)


@elementwise("copy", "fill", "zero", "full_like", "zeros_like", "ones_like", neutral=("dtype",))
def _lower_filled(low: Lowering, call: Call) -> ResultValues:
    """A value in the shape of another one."""
    a = call.arguments
    default = 1.0 if call.name == "ones_like" else 0.0
    value = next((a[name] for name in ("src", "value", "fill_value") if name in a), default)
    filling = typed_operand(low, value, low.result_type(call))
    return low.add("Expand", filling, low.add("Shape", low.tensor(a["self"])))


@rule_of("prelu", "_prelu_kernel")
def _prelu_dims(ctx: Inference, call: Call) -> ResultDims:
    x, weight = ctx.tensor_dims(call.arguments["self"]), ctx.tensor_dims(call.arguments["weight"])
    if len(weight) == 1 and find(weight[0]).size != 1 and len(x) > 1:
        unify(x[1], weight[0])
    return x


@lowers("prelu", "_prelu_kernel")
def _lower_prelu(low: Lowering, call: Call) -> ResultValues:
    x, weight = call.arguments["self"], call.arguments["weight"]
    slope = low.tensor(weight)
    if call.name == "prelu" and low.shape(weight) != (1,):
        slope = low.add("Reshape", slope, low.numbers([-1] + [1] * (low.rank(x) - 2)))
    return low.add("PRelu", low.tensor(x), slope)


@rule_of("softmax", "log_softmax", "_softmax", "_log_softmax", neutral=("dim", "half_to_float"))
def _softmax_dims(ctx: Inference, call: Call) -> ResultDims:
    return ctx.tensor_dims(call.arguments["self"])


@lowers("softmax", "log_softmax", neutral=("dtype",))
def _lower_softmax(low: Lowering, call: Call) -> ResultValues:
    x = call.arguments["self"]
    op = "Softmax" if call.name == "softmax" else "LogSoftmax"
    typed = typed_operand(low, x, low.result_type(call))
    return low.add(op, typed, axis=axis(call, low.rank(x)))
