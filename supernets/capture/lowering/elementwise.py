"""Lowering of elementwise operations."""

from __future__ import annotations

import math
from typing import cast

from supernets.capture.lowering.state import TYPES, Lowering, lowers
from supernets.capture.program import Call, Ref
from supernets.errors import LoweringError

_SAME_NAME = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "hardswish": "HardSwish", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
    "abs": "Abs", "neg": "Neg", "erf": "Erf", "sin": "Sin", "cos": "Cos", "floor": "Floor", "ceil": "Ceil", "round": "Round",
    "reciprocal": "Reciprocal", "softplus": "Softplus", "sign": "Sign", "mish": "Mish", "softsign": "Softsign", "selu": "Selu",
    "logical_not": "Not", "bitwise_not": "Not", "tan": "Tan", "atan": "Atan",
}  # fmt: skip


@lowers(*_SAME_NAME)
def _unary(low: Lowering, call: Call) -> None:
    low.returns(call, low.one(_SAME_NAME[call.name], low.tensor(call.arguments["self"])))


@lowers("clone", "contiguous", "detach", "alias", "dropout")
def _same(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("Identity", low.tensor(call.arguments["self"])))


@lowers("to", "_to_copy", "type_as", "float", "half", "bool", "long", "int", "double")
def _cast(low: Lowering, call: Call) -> None:
    source, target = low.dtype(call.arguments["self"]), low.typed(call.outputs[0])
    x = low.tensor(call.arguments["self"])
    if source == target:
        low.returns(call, low.one("Identity", x))
    elif target in TYPES and source in TYPES:
        low.returns(call, low.one("Cast", x, to=TYPES[target]))
    else:
        raise LoweringError(f"there is no rule for a conversion of {source} to {target}")


@lowers("silu")
def _silu(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    low.returns(call, low.one("Mul", x, low.one("Sigmoid", x)))


@lowers("gelu")
def _gelu(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    if call.arguments["approximate"] == "tanh":
        cubed = low.one("Mul", low.one("Mul", low.one("Mul", x, x), x), low.scalar(0.044715))
        inner = low.one("Tanh", low.one("Mul", low.one("Add", x, cubed), low.scalar(math.sqrt(2 / math.pi))))
    else:
        inner = low.one("Erf", low.one("Div", x, low.scalar(math.sqrt(2))))
    half = low.one("Mul", low.one("Mul", x, low.one("Add", inner, low.scalar(1.0))), low.scalar(0.5))
    low.returns(call, half)


@lowers("hardsigmoid")
def _hardsigmoid(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("HardSigmoid", low.tensor(call.arguments["self"]), alpha=1 / 6, beta=0.5))


@lowers("relu6", "hardtanh", "clamp", "clamp_min", "clamp_max")
def _clip(low: Lowering, call: Call) -> None:
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
def _with_slope(low: Lowering, call: Call) -> None:
    name = {"elu": "Elu", "leaky_relu": "LeakyRelu", "celu": "Celu"}[call.name]
    a = call.arguments
    if a.get("scale", 1) != 1 or a.get("input_scale", 1) != 1:
        raise LoweringError("there is no rule for a scaled elu")
    slope = float(cast(float, a["negative_slope" if call.name == "leaky_relu" else "alpha"]))
    low.returns(call, low.one(name, low.tensor(a["self"]), alpha=slope))


@lowers("log_sigmoid")
def _log_sigmoid(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("Log", low.one("Sigmoid", low.tensor(call.arguments["self"]))))


@lowers("rsqrt")
def _rsqrt(low: Lowering, call: Call) -> None:
    low.returns(call, low.one("Reciprocal", low.one("Sqrt", low.tensor(call.arguments["self"]))))


@lowers("log2", "log1p", "expm1")
def _logarithm(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    if call.name == "log2":
        low.returns(call, low.one("Mul", low.one("Log", x), low.scalar(1 / math.log(2))))
    elif call.name == "log1p":
        low.returns(call, low.one("Log", low.one("Add", x, low.scalar(1.0))))
    else:
        low.returns(call, low.one("Sub", low.one("Exp", x), low.scalar(1.0)))


@lowers("addcmul", "addcdiv")
def _add_product(low: Lowering, call: Call) -> None:
    a = call.arguments
    product = low.one("Mul" if call.name == "addcmul" else "Div", low.tensor(a["tensor1"]), low.tensor(a["tensor2"]))
    if a["value"] != 1:
        product = low.one("Mul", product, low.operand(a["value"]))
    low.returns(call, low.one("Add", low.tensor(a["self"]), product))


@lowers("lerp")
def _lerp(low: Lowering, call: Call) -> None:
    start, end, weight = (low.operand(call.arguments[name]) for name in ("self", "end", "weight"))
    low.returns(call, low.one("Add", start, low.one("Mul", weight, low.one("Sub", end, start))))


@lowers("square")
def _square(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    low.returns(call, low.one("Mul", x, x))


_BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "true_divide": "Div", "pow": "Pow", "maximum": "Max",
    "minimum": "Min", "eq": "Equal", "lt": "Less", "gt": "Greater", "le": "LessOrEqual", "ge": "GreaterOrEqual",
    "logical_and": "And", "logical_or": "Or", "bitwise_and": "And", "bitwise_or": "Or",
}  # fmt: skip


@lowers(*_BINARY, "rsub", "ne")
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


@lowers("masked_fill", "where")
def _where(low: Lowering, call: Call) -> None:
    a = call.arguments
    if call.name == "where":
        low.returns(call, low.one("Where", low.tensor(a["condition"]), low.operand(a["self"]), low.operand(a["other"])))
    else:
        low.returns(call, low.one("Where", low.tensor(a["mask"]), low.operand(a["value"]), low.tensor(a["self"])))


@lowers("prelu", "_prelu_kernel")
def _prelu(low: Lowering, call: Call) -> None:
    x, weight = call.arguments["self"], call.arguments["weight"]
    slope = low.tensor(weight)
    if call.name == "prelu" and low.shape(cast(Ref, weight).name) != (1,):
        slope = low.one("Reshape", slope, low.numbers([-1] + [1] * (low.rank(x) - 2)))
    low.returns(call, low.one("PRelu", low.tensor(x), slope))


@lowers("softmax", "log_softmax")
def _softmax(low: Lowering, call: Call) -> None:
    name = "Softmax" if call.name == "softmax" else "LogSoftmax"
    low.returns(
        call,
        low.one(
            name,
            low.tensor(call.arguments["self"]),
            axis=cast(int, call.arguments["dim"]) % low.rank(call.arguments["self"]),
        ),
    )
