"""Elementwise operations, which join sizes, and softmax."""

from __future__ import annotations

import math
from typing import cast

from supernets.capture.dimensions import (
    find,
    unify,
)
from supernets.capture.inference import Inference
from supernets.capture.lowering.state import TYPES, Lowering, lowers
from supernets.capture.operations.registry import (
    rule_of,
)
from supernets.capture.program import Call, Ref, refs
from supernets.errors import LoweringError

_ELEMENTWISE = [
    "_to_copy", "abs", "acos", "add", "addcdiv", "addcmul", "alias", "asin", "atan", "bernoulli", "bitwise_and", "bitwise_not",
    "bitwise_or", "bitwise_xor", "bool", "ceil", "celu", "clamp", "clamp_max", "clamp_min", "clip", "clone",
    "contiguous", "copy", "cos", "cosh", "div", "double", "dropout", "elu", "empty_like", "eq", "erf", "erfc", "exp",
    "expand_as", "expm1", "fill", "float", "floor", "floor_divide", "fmod", "full_like", "ge", "gelu", "gt", "half",
    "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "imag", "int", "isfinite", "isinf", "isnan", "le",
    "leaky_relu", "lerp", "log", "log1p", "log2", "log_sigmoid", "logical_and", "logical_not", "logical_or",
    "logical_xor", "long", "lt", "masked_fill", "maximum", "minimum", "mish", "mul", "nan_to_num", "ne", "neg",
    "ones_like", "pow", "rand_like", "real", "reciprocal", "relu", "relu6", "remainder", "round", "rsqrt", "rsub",
    "selu", "sigmoid", "sign", "silu", "sin", "sinh", "softplus", "softshrink", "softsign", "sqrt", "square", "sub",
    "swish", "tan", "tanh", "tanhshrink", "threshold", "to", "true_divide", "trunc", "type_as", "where", "xlogy",
    "zero", "zeros_like",
]  # fmt: skip


@rule_of(*_ELEMENTWISE)
def _elementwise_dims(ctx: Inference, call: Call) -> None:
    operands = [ctx.of(Ref(name)) for name in refs(call.arguments.values())]
    if call.name == "type_as":
        operands = operands[:1]
    ctx.returns(call, ctx.broadcast(operands))


_SAME_NAME = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "hardswish": "HardSwish", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
    "abs": "Abs", "neg": "Neg", "erf": "Erf", "sin": "Sin", "cos": "Cos", "floor": "Floor", "ceil": "Ceil", "round": "Round",
    "reciprocal": "Reciprocal", "softplus": "Softplus", "sign": "Sign", "mish": "Mish", "softsign": "Softsign", "selu": "Selu",
    "logical_not": "Not", "bitwise_not": "Not", "tan": "Tan", "atan": "Atan",
}  # fmt: skip


@lowers(*_SAME_NAME)
def _lower_unary(low: Lowering, call: Call) -> None:
    low.returns(call, low.one(_SAME_NAME[call.name], low.tensor(call.arguments["self"])))


@lowers("clone", "contiguous", "detach", "alias", "dropout")
def _lower_same(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("Identity", low.tensor(call.arguments["self"])))


@lowers("to", "_to_copy", "type_as", "float", "half", "bool", "long", "int", "double")
def _lower_cast(low: Lowering, call: Call) -> None:
    source, target = low.dtype(call.arguments["self"]), low.typed(call.outputs[0])
    x = low.tensor(call.arguments["self"])
    if source == target:
        low.returns(call, low.one("Identity", x))
    elif target in TYPES and source in TYPES:
        low.returns(call, low.one("Cast", x, to=TYPES[target]))
    else:
        raise LoweringError(f"there is no rule for a conversion of {source} to {target}")


@lowers("silu")
def _lower_silu(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    low.returns(call, low.one("Mul", x, low.one("Sigmoid", x)))


@lowers("gelu")
def _lower_gelu(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    if call.arguments["approximate"] == "tanh":
        cubed = low.one("Mul", low.one("Mul", low.one("Mul", x, x), x), low.scalar(0.044715))
        inner = low.one("Tanh", low.one("Mul", low.one("Add", x, cubed), low.scalar(math.sqrt(2 / math.pi))))
    else:
        inner = low.one("Erf", low.one("Div", x, low.scalar(math.sqrt(2))))
    half = low.one("Mul", low.one("Mul", x, low.one("Add", inner, low.scalar(1.0))), low.scalar(0.5))
    low.returns(call, half)


@lowers("hardsigmoid")
def _lower_hardsigmoid(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("HardSigmoid", low.tensor(call.arguments["self"]), alpha=1 / 6, beta=0.5))


@lowers("relu6", "hardtanh", "clamp", "clamp_min", "clamp_max")
def _lower_clip(low: Lowering, call: Call) -> None:
    a = call.arguments
    low_bound, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    if call.name == "relu6":
        low_bound, high = 0.0, 6.0
    if isinstance(low_bound, Ref) or isinstance(high, Ref):
        x = low.tensor(a["self"])
        x = x if low_bound is None else low.one("Max", x, low.operand(low_bound))
        low.returns(call, x if high is None else low.one("Min", x, low.operand(high)))
        return
    bounds = [None if bound is None else low.scalar(float(cast(float, bound))) for bound in (low_bound, high)]
    low.returns(call, low.one("Clip", low.tensor(a["self"]), *bounds))


@lowers("elu", "leaky_relu", "celu")
def _lower_with_slope(low: Lowering, call: Call) -> None:
    name = {"elu": "Elu", "leaky_relu": "LeakyRelu", "celu": "Celu"}[call.name]
    a = call.arguments
    if a.get("scale", 1) != 1 or a.get("input_scale", 1) != 1:
        raise LoweringError("there is no rule for a scaled elu")
    slope = float(cast(float, a["negative_slope" if call.name == "leaky_relu" else "alpha"]))
    low.returns(call, low.one(name, low.tensor(a["self"]), alpha=slope))


@lowers("log_sigmoid")
def _lower_log_sigmoid(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("Log", low.one("Sigmoid", low.tensor(call.arguments["self"]))))


@lowers("rsqrt")
def _lower_rsqrt(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("Reciprocal", low.one("Sqrt", low.tensor(call.arguments["self"]))))


@lowers("log2", "log1p", "expm1")
def _lower_logarithm(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    if call.name == "log2":
        low.returns(call, low.one("Mul", low.one("Log", x), low.scalar(1 / math.log(2))))
    elif call.name == "log1p":
        low.returns(call, low.one("Log", low.one("Add", x, low.scalar(1.0))))
    else:
        low.returns(call, low.one("Sub", low.one("Exp", x), low.scalar(1.0)))


@lowers("addcmul", "addcdiv")
def _lower_add_product(low: Lowering, call: Call) -> None:
    a = call.arguments
    product = low.one("Mul" if call.name == "addcmul" else "Div", low.tensor(a["tensor1"]), low.tensor(a["tensor2"]))
    if a["value"] != 1:
        product = low.one("Mul", product, low.operand(a["value"]))
    low.returns(call, low.one("Add", low.tensor(a["self"]), product))


@lowers("lerp")
def _lower_lerp(low: Lowering, call: Call) -> None:
    start, end, weight = (low.operand(call.arguments[name]) for name in ("self", "end", "weight"))
    low.returns(call, low.one("Add", start, low.one("Mul", weight, low.one("Sub", end, start))))


@lowers("square")
def _lower_square(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    low.returns(call, low.one("Mul", x, x))


_BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "true_divide": "Div", "pow": "Pow", "maximum": "Max",
    "minimum": "Min", "eq": "Equal", "lt": "Less", "gt": "Greater", "le": "LessOrEqual", "ge": "GreaterOrEqual",
    "logical_and": "And", "logical_or": "Or", "bitwise_and": "And", "bitwise_or": "Or",
}  # fmt: skip


@lowers(*_BINARY, "rsub", "ne")
def _lower_binary(low: Lowering, call: Call) -> None:
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


@lowers("masked_fill", "where")
def _lower_where(low: Lowering, call: Call) -> None:
    a = call.arguments
    if call.name == "where":
        low.returns(call, low.one("Where", low.tensor(a["condition"]), low.operand(a["self"]), low.operand(a["other"])))
    else:
        low.returns(call, low.one("Where", low.tensor(a["mask"]), low.operand(a["value"]), low.tensor(a["self"])))


@lowers("copy", "fill", "zero")
def _lower_filled(low: Lowering, call: Call) -> None:
    """A value in the shape of another one."""
    a = call.arguments
    value = a.get("src", a.get("value", 0.0))
    if low.dtype(value) not in ("", low.typed(call.outputs[0])):
        raise LoweringError("there is no rule for a change in place by a value of another type")
    x, own = low.tensor(a["self"]), low.operand(value, integer=low.typed(call.outputs[0]) == "int64")
    low.returns(call, low.one("Expand", own, low.one("Shape", x)))


@rule_of("prelu", "_prelu_kernel")
def _prelu_dims(ctx: Inference, call: Call) -> None:
    x, weight = ctx.of(call.arguments["self"]), ctx.of(call.arguments["weight"])
    if len(weight) == 1 and find(weight[0]).size != 1 and len(x) > 1:
        unify(x[1], weight[0])
    ctx.returns(call, x)


@lowers("prelu", "_prelu_kernel")
def _lower_prelu(low: Lowering, call: Call) -> None:
    x, weight = call.arguments["self"], call.arguments["weight"]
    slope = low.tensor(weight)
    if call.name == "prelu" and low.shape(cast(Ref, weight).name) != (1,):
        slope = low.one("Reshape", slope, low.numbers([-1] + [1] * (low.rank(x) - 2)))
    low.returns(call, low.one("PRelu", low.tensor(x), slope))


@rule_of("softmax", "log_softmax", "_softmax", "_log_softmax")
def _softmax_dims(ctx: Inference, call: Call) -> None:
    ctx.returns(call, ctx.of(call.arguments["self"]))


@lowers("softmax", "log_softmax")
def _lower_softmax(low: Lowering, call: Call) -> None:
    name = "Softmax" if call.name == "softmax" else "LogSoftmax"
    low.returns(
        call,
        low.one(
            name,
            low.tensor(call.arguments["self"]),
            axis=cast(int, call.arguments["dim"]) % low.rank(call.arguments["self"]),
        ),
    )
