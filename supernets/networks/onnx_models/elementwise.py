"""ONNX operators on elements: activations, arithmetic, comparisons and types."""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor

from supernets.networks.onnx_models.registry import OperatorCall, operator

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Asin": torch.asin,
    "Atan": torch.atan,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": python.add,
    "Sub": python.sub,
    "Mul": python.mul,
    "Pow": torch.pow,
    "Equal": python.eq,
    "Greater": python.gt,
    "GreaterOrEqual": python.ge,
    "Less": python.lt,
    "LessOrEqual": python.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
}


@operator(*_UNARY)
def _unary(call: OperatorCall) -> Tensor:
    return _UNARY[call.node.op](call.tensor(0))


@operator(*_BINARY)
def _binary(call: OperatorCall) -> Any:
    if call.version < 7 and call.attribute("broadcast"):
        call.reject("broadcasting of opsets before 7")
    if call.node.op in ("And", "Or", "Xor"):
        return _BINARY[call.node.op](call.tensor(0), call.tensor(1))
    a, b = call.operand(0), call.operand(1)
    result = _BINARY[call.node.op](a, b)
    if call.node.op == "Pow" and isinstance(a, Tensor):
        return result.to(a.dtype)
    return result


@operator("Div")
def _div(call: OperatorCall) -> Any:
    a, b = call.operand(0), call.operand(1)
    if all(not value.is_floating_point() if isinstance(value, Tensor) else isinstance(value, int) for value in (a, b)):
        _check_divisor(call)
        return torch.div(a if isinstance(a, Tensor) else torch.tensor(a), b, rounding_mode="trunc")
    return a / b


def _check_divisor(call: OperatorCall) -> None:
    """Rejects divisions of whole numbers that end the process: by zero, and of the least number by -1."""
    dividend, divisor = call.value(0), call.value(1)
    if isinstance(divisor, Tensor):
        if not divisor.is_floating_point():
            call.reject("a division of whole numbers by values of the network's input")
        return
    if divisor.dtype.kind not in "iu":
        return
    if (divisor == 0).any():
        call.reject("a division of whole numbers by zero")
    is_least = isinstance(dividend, Tensor) or (dividend.size and dividend.min() <= np.iinfo(np.int32).min)
    if (divisor == -1).any() and is_least:
        call.reject("a division of whole numbers by -1")


@operator("Mod")
def _mod(call: OperatorCall) -> Tensor:
    a, b = call.operand(0), call.operand(1)
    _check_divisor(call)
    return torch.fmod(a, b) if call.attribute("fmod") else torch.remainder(a, b)


@operator("Max", "Min", "Sum", "Mean")
def _variadic(call: OperatorCall) -> Any:
    tensors = [call.tensor(i) for i in range(len(call.values))]
    if call.node.op in ("Max", "Min"):
        return reduce(torch.maximum if call.node.op == "Max" else torch.minimum, tensors)
    total = reduce(python.add, tensors)
    return total / len(tensors) if call.node.op == "Mean" else total


@operator("BitShift")
def _shifted(call: OperatorCall) -> Any:
    a, b = call.operand(0), call.operand(1)
    return a << b if call.attribute("direction") == "LEFT" else a >> b


@operator("LeakyRelu")
def _leaky_relu(call: OperatorCall) -> Tensor:
    return F.leaky_relu(call.tensor(0), call.attribute("alpha", 0.01))


@operator("PRelu")
def _prelu(call: OperatorCall) -> Tensor:
    x, slope = call.tensor(0), call.tensor(1)
    channels = (slope.shape[0] if slope.ndim else 1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else ()
    if slope.shape == channels or slope.numel() == 1:
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


@operator("Elu")
def _elu(call: OperatorCall) -> Tensor:
    return F.elu(call.tensor(0), call.attribute("alpha", 1.0))


@operator("Celu")
def _celu(call: OperatorCall) -> Tensor:
    return F.celu(call.tensor(0), call.attribute("alpha", 1.0))


@operator("Selu")
def _selu(call: OperatorCall) -> Tensor:
    x, alpha, gamma = call.tensor(0), call.attribute("alpha", 1.67326319217681884765625), call.attribute("gamma")
    if abs(alpha - 1.6732632) < 1e-5 and (gamma is None or abs(gamma - 1.0507009) < 1e-5):
        return F.selu(x)
    return F.elu(x, alpha) * (1.0507010221481323 if gamma is None else gamma)


@operator("ThresholdedRelu")
def _thresholded_relu(call: OperatorCall) -> Tensor:
    x = call.tensor(0)
    return torch.where(x > call.attribute("alpha", 1.0), x, torch.zeros_like(x))


@operator("HardSigmoid")
def _hard_sigmoid(call: OperatorCall) -> Tensor:
    x, alpha, beta = call.tensor(0), call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0, 1)


@operator("Swish")
def _swish(call: OperatorCall) -> Tensor:
    x, alpha = call.tensor(0), call.attribute("alpha", 1.0)
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


@operator("Clip")
def _clip(call: OperatorCall) -> Tensor:
    low, high = call.number(1, "min"), call.number(2, "max")
    x = call.tensor(0)
    if low == 0 and high == 6:
        return F.relu6(x)
    return x if low is None and high is None else torch.clamp(x, low, high)


@operator("Where")
def _where(call: OperatorCall) -> Tensor:
    return torch.where(call.tensor(0).bool(), call.operand(1), call.operand(2))


@operator("IsInf")
def _is_infinite(call: OperatorCall) -> Tensor:
    x, positive, negative = call.tensor(0), call.attribute("detect_positive", 1), call.attribute("detect_negative", 1)
    return (x.isinf() & (x > 0) & bool(positive)) | (x.isinf() & (x < 0) & bool(negative))


@operator("Cast", "CastLike")
def _cast(call: OperatorCall) -> Tensor:
    x = call.tensor(0)
    if call.node.op == "CastLike":
        dtype = call.tensor(1).dtype
    else:
        kind = call.attribute("to", onnx.TensorProto.FLOAT)
        name = helper.tensor_dtype_to_np_dtype(kind).name
        if kind == onnx.TensorProto.STRING:
            call.reject("a conversion to texts")
        dtype = torch.from_numpy(np.zeros(1, name)).dtype if not _is_real(name) else torch.float32
    if dtype.is_floating_point and x.is_floating_point():
        return x  # all weights are of single precision here
    return x.to(dtype)


def _is_real(name: str) -> bool:
    return name.startswith(("float", "bfloat", "double"))


@operator("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def _bitwise(call: OperatorCall) -> Any:
    functions = {"BitwiseAnd": python.and_, "BitwiseOr": python.or_, "BitwiseXor": python.xor}
    return functions[call.node.op](call.operand(0), call.operand(1))


@operator("BitwiseNot")
def _bitwise_not(call: OperatorCall) -> Tensor:
    return torch.bitwise_not(call.tensor(0))
