"""Normalisations of activations and of weights."""

from __future__ import annotations

from typing import cast

import numpy as np

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import divide, find, unify
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Call, Ref
from supernets.networks.lowering.state import Lowering
from supernets.networks.operations.registry import ResultDims, ResultValues, axis, lowers, rule_of, unify_parameters


@rule_of("batch_norm", "instance_norm", "_native_batch_norm_legit", neutral=("training", "use_input_stats"))
def _batch_norm_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["input"])
    unify_parameters(ctx, call, [x[1]], "weight", "bias", "running_mean", "running_var")
    return x


@lowers("batch_norm", "instance_norm")
def _lower_batch_norm(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    own_statistics = a.get("training", a.get("use_input_stats"))
    name, shape = cast(Ref, a["input"]).name, low.shape(a["input"])
    weights_alone = not low.program.dynamic.get(name) and shape[0] == 1  # a convolution's standardised weights
    if call.name == "batch_norm" and own_statistics and not weights_alone:
        raise LoweringError("a batch norm has no running statistics, so that its outputs depend on the batch")
    scale, shift = (
        low.constant(np.full(shape[1], fill, dtype=np.float32)) if a[name] is None else low.tensor(a[name])
        for name, fill in (("weight", 1.0), ("bias", 0.0))
    )
    inputs, epsilon = [low.tensor(a["input"]), scale, shift], cast(float, a["eps"])
    if own_statistics:
        return low.add("InstanceNormalization", *inputs, epsilon=epsilon)
    inputs += [low.tensor(a["running_mean"]), low.tensor(a["running_var"])]
    return low.add("BatchNormalization", *inputs, epsilon=epsilon)


@rule_of("layer_norm", "rms_norm")
def _layer_norm_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["input"])
    n = len(cast(tuple[int, ...], call.arguments["normalized_shape"]))
    unify_parameters(ctx, call, x[-n:], "weight", "bias")
    ctx.depends(normalized_shape=tuple(x[-n:]))
    return x


@lowers("layer_norm")
def _lower_layer_norm(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    sizes = cast(tuple[int, ...], a["normalized_shape"])
    scale = low.constant(np.ones(sizes, dtype=np.float32)) if a["weight"] is None else low.tensor(a["weight"])
    inputs = [low.tensor(a["input"]), scale] + ([] if a["bias"] is None else [low.tensor(a["bias"])])
    return low.add("LayerNormalization", *inputs, axis=-len(sizes), epsilon=cast(float, a["eps"]))


@lowers("rms_norm")
def _lower_rms_norm(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    x, n = low.tensor(a["input"]), len(cast(tuple[int, ...], a["normalized_shape"]))
    eps = float(np.finfo(np.float32).eps) if a["eps"] is None else cast(float, a["eps"])
    # Runtimes recognise the norm by Pow and replace it by one operation; a product of x with itself they do not.
    mean = low.add("ReduceMean", low.add("Pow", x, low.scalar(2.0)), low.numbers(list(range(-n, 0))), keepdims=1)
    out = low.add("Div", x, low.add("Sqrt", low.add("Add", mean, low.scalar(eps))))
    return out if a["weight"] is None else low.add("Mul", out, low.tensor(a["weight"]))


@rule_of("group_norm")
def _group_norm_dims(ctx: Inference, call: Call) -> ResultDims:
    x, n_groups = ctx.tensor_dims(call.arguments["input"]), cast(int, call.arguments["num_groups"])
    if n_groups > 1:
        groups, _ = divide(x[1], [n_groups, find(x[1]).size // n_groups])
        ctx.depends(num_groups=groups)
    unify_parameters(ctx, call, [x[1]], "weight", "bias")
    return x


@lowers("group_norm")
def _lower_group_norm(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    shape, groups = low.shape(a["input"]), cast(int, a["num_groups"])
    ones, zeros = (low.constant(np.full(groups, fill, dtype=np.float32)) for fill in (1.0, 0.0))
    grouped = low.add("Reshape", low.tensor(a["input"]), low.numbers([0, groups, -1]))
    normed = low.add("InstanceNormalization", grouped, ones, zeros, epsilon=cast(float, a["eps"]))
    out = low.add("Reshape", normed, low.numbers([-1, *shape[1:]]))
    for name, op in (("weight", "Mul"), ("bias", "Add")):
        if a[name] is not None:
            column = low.add("Reshape", low.tensor(a[name]), low.numbers([-1] + [1] * (len(shape) - 2)))
            out = low.add(op, out, column)
    return out


_WHOLE_TENSOR = -1
"""The dimension of a weight norm with one length for all of the weight."""


@rule_of("_weight_norm")
def _weight_norm_dims(ctx: Inference, call: Call) -> ResultDims:
    direction, length = ctx.tensor_dims(call.arguments["v"]), ctx.tensor_dims(call.arguments["g"])
    if call.arguments["dim"] != _WHOLE_TENSOR:
        unify(length[axis(call, len(direction))], direction[axis(call, len(direction))])
    return direction


@lowers("_weight_norm")
def _lower_weight_norm(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    direction, rank = low.tensor(a["v"]), low.rank(a["v"])
    dim = cast(int, a["dim"])
    axes = low.numbers([i for i in range(rank) if dim == _WHOLE_TENSOR or i != dim % rank])
    norm = low.add("ReduceL2", direction, axes, keepdims=1)
    return low.add("Div", low.add("Mul", direction, low.tensor(a["g"])), norm)
