"""Rules of elementwise operations, which join sizes, and of those that depend on the order of units."""

from __future__ import annotations

from typing import cast

from supernets.capture.dimensions import (
    find,
    fix,
    fixed,
    unify,
)
from supernets.capture.inference import Inference
from supernets.capture.program import Call, Ref, refs
from supernets.capture.rules.registry import axes, rule_of

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
def _elementwise(ctx: Inference, call: Call) -> None:
    operands = [ctx.of(Ref(name)) for name in refs(call.arguments.values())]
    if call.name == "type_as":
        operands = operands[:1]
    ctx.returns(call, ctx.broadcast(operands))


@rule_of("prelu", "_prelu_kernel")
def _prelu(ctx: Inference, call: Call) -> None:
    x, weight = ctx.of(call.arguments["self"]), ctx.of(call.arguments["weight"])
    if len(weight) == 1 and find(weight[0]).size != 1 and len(x) > 1:
        unify(x[1], weight[0])
    ctx.returns(call, x)


@rule_of("softmax", "log_softmax", "_softmax", "_log_softmax")
def _softmax(ctx: Inference, call: Call) -> None:
    ctx.returns(call, ctx.of(call.arguments["self"]))


@rule_of("tril", "triu", "cumsum", "flip", "roll", "sort", "argsort", "topk")
def _ordered(ctx: Inference, call: Call) -> None:
    """Operations that depend on the order of the units."""
    x = ctx.of(call.arguments["self"])
    if call.name in ("tril", "triu"):
        positions = [len(x) - 2, len(x) - 1]
    else:
        given = call.arguments.get("dims", call.arguments.get("dim"))
        positions = axes(given, len(x))
    for position in positions:
        fix(x[position], f"{call.name} depends on the order")
    if call.name == "topk":
        x[positions[0]] = fixed(cast(int, call.arguments["k"]), "topk")
    ctx.returns(call, *([x] * len(call.outputs)))
