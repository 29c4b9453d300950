"""Rules of linear layers, convolutions, products of matrices, attention and normalisations."""

from __future__ import annotations

from typing import cast

from supernets.capture.dimensions import (
    Dimension,
    MismatchError,
    derived,
    divide,
    find,
    fix,
    fixed,
    is_plain,
    product,
    unify,
)
from supernets.capture.inference import Dims, Inference
from supernets.capture.lowering.state import ints
from supernets.capture.program import Argument, Call
from supernets.capture.rules.registry import axis, extents, rule_of


@rule_of("linear")
def _linear(ctx: Inference, call: Call) -> None:
    x, weight = ctx.of(call.arguments["input"]), ctx.of(call.arguments["weight"])
    unify(x[-1], weight[1])
    if (bias := ctx.optional(call.arguments["bias"])) is not None:
        unify(bias[0], weight[0])
    ctx.returns(call, [*x[:-1], weight[0]])


@rule_of("conv1d", "conv2d", "conv3d")
def _convolution(ctx: Inference, call: Call) -> None:
    x, weight, n_groups = ctx.of(call.arguments["input"]), ctx.of(call.arguments["weight"]), call.arguments["groups"]
    assert isinstance(n_groups, int)
    if n_groups == 1:
        unify(x[1], weight[1])
    else:
        groups, per_group = divide(x[1], [n_groups, find(x[1]).size // n_groups])
        unify(per_group, weight[1])
        same, _ = divide(weight[0], [n_groups, find(weight[0]).size // n_groups])
        ctx.depends(groups=unify(groups, same))
    if (bias := ctx.optional(call.arguments["bias"])) is not None:
        unify(bias[0], weight[0])
    ctx.returns(call, [x[0], weight[0], *_extents(ctx, call, x[2:], weight[2:])])


def _extents(ctx: Inference, call: Call, x: list[Dimension], kernel: list[Dimension]) -> list[Dimension]:
    """Extents after a convolution; a kernel is elastic where a family declares it and its half is the padding."""
    a, n = call.arguments, len(x)
    sizes = [find(extent).size for extent in kernel]
    if isinstance(a["padding"], str):
        for extent in (*x, *kernel):
            fix(extent, "a kernel or an extent of the image")
        return extents(ctx, call, 2)
    pads, strides, dilations = (ints(a[name], n) for name in ("padding", "stride", "dilation"))
    centred = all(find(extent).centred and not find(extent).fixed for extent in kernel)
    if centred and all(k % 2 and p == k // 2 and d == 1 for k, p, d in zip(sizes, pads, dilations, strict=True)):
        halves = tuple(derived(extent, -2, 2) for extent in kernel)
        ctx.depends(padding=halves)
        offsets = [-1] * n
    else:
        for extent in kernel:
            fix(extent, "a kernel or an extent of the image")
        offsets = [2 * p - d * (k - 1) - 1 for k, p, d in zip(sizes, pads, dilations, strict=True)]
    after = ctx.shape(call.outputs[0])[2:]
    return [
        fixed(size, "an extent of the image") if is_plain(extent) else derived(extent, offset, stride)
        for extent, size, offset, stride in zip(x, after, offsets, strides, strict=True)
    ]


@rule_of("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed_convolution(ctx: Inference, call: Call) -> None:
    x, weight, n_groups = ctx.of(call.arguments["input"]), ctx.of(call.arguments["weight"]), call.arguments["groups"]
    assert isinstance(n_groups, int)
    unify(x[1], weight[0])
    out = weight[1]
    if n_groups > 1:
        groups, _ = divide(x[1], [n_groups, find(x[1]).size // n_groups])
        out = product([groups, weight[1]])
        ctx.depends(groups=groups)
    if (bias := ctx.optional(call.arguments["bias"])) is not None:
        unify(bias[0], out)
    for extent in [*x[2:], *weight[2:]]:
        fix(extent, "a kernel or an extent of the image")
    ctx.returns(call, [x[0], out, *extents(ctx, call, 2)])


def _contract(ctx: Inference, a: Dimension, b: Dimension, left: Argument, right: Argument) -> None:
    """Joins the dimensions over which a product sums; between two activations it stays as it is.

    Their product is usually scaled by a constant of its size (attention).
    """
    joined = unify(a, b)
    if not (ctx.is_state(left) or ctx.is_state(right)):
        fix(joined, "a size over which two activations are multiplied (the size of a head)")


@rule_of("matmul", "mm", "bmm")
def _matmul(ctx: Inference, call: Call) -> None:
    first, second = (name for name in call.arguments if name in ("self", "other", "mat2"))
    ctx.returns(call, _product(ctx, call.arguments[first], call.arguments[second]))


def _product(ctx: Inference, left: Argument, right: Argument) -> Dims:
    a, b = ctx.of(left), ctx.of(right)
    if len(b) == 1:
        _contract(ctx, a[-1], b[0], left, right)
        return a[:-1]
    if len(a) == 1:
        _contract(ctx, a[0], b[-2], left, right)
        return [*b[:-2], b[-1]]
    _contract(ctx, a[-1], b[-2], left, right)
    outer = ctx.broadcast([a[:-2], b[:-2]]) if a[:-2] and b[:-2] else a[:-2] or b[:-2]
    return [*outer, a[-2], b[-1]]


@rule_of("addmm", "baddbmm")
def _add_product(ctx: Inference, call: Call) -> None:
    left, right = [call.arguments[name] for name in call.arguments if name.startswith(("mat", "batch"))][:2]
    ctx.returns(call, ctx.broadcast([ctx.of(call.arguments["self"]), _product(ctx, left, right)]))


@rule_of("einsum")
def _einsum(ctx: Inference, call: Call) -> None:
    equation = cast(str, call.arguments["equation"]).replace(" ", "")
    operands = cast(tuple[Argument, ...], call.arguments["tensors"])
    inputs, _, output = equation.partition("->")
    if "." in equation:
        raise MismatchError("an equation with dots")
    terms, by_letter, users = inputs.split(","), dict[str, Dimension](), dict[str, list[Argument]]()
    for term, operand in zip(terms, operands, strict=True):
        for letter, dimension in zip(term, ctx.of(operand), strict=True):
            by_letter[letter] = unify(by_letter[letter], dimension) if letter in by_letter else dimension
            users.setdefault(letter, []).append(operand)
    for letter, own in users.items():
        if letter not in output and len(own) > 1 and not any(map(ctx.is_state, own)):
            fix(by_letter[letter], "a size over which two activations are multiplied (the size of a head)")
    ctx.returns(call, [by_letter[letter] for letter in output])


@rule_of("scaled_dot_product_attention")
def _attention(ctx: Inference, call: Call) -> None:
    query, key, value = (ctx.of(call.arguments[name]) for name in ("query", "key", "value"))
    joined = unify(query[-1], key[-1])
    fix(joined, "the size of a head, whose root scales attention")
    unify(key[-2], value[-2])
    outer = query[:-2]
    for i, (q, k, v) in enumerate(zip(query[:-2], key[:-2], value[:-2], strict=True)):
        shared = unify(k, v)
        if find(q).size == find(shared).size:
            outer[i] = unify(q, shared)
        elif find(shared).size != 1:  # grouped queries: each key serves several heads, one after another
            groups, _ = divide(q, [find(shared).size, find(q).size // find(shared).size])
            unify(groups, shared)
            outer[i] = q
    if (mask := ctx.optional(call.arguments["attn_mask"])) is not None:
        ctx.broadcast([mask, [*outer, query[-2], key[-2]]])
    ctx.returns(call, [*outer, query[-2], value[-1]])


@rule_of("embedding")
def _embedding(ctx: Inference, call: Call) -> None:
    weight, indices = ctx.of(call.arguments["weight"]), ctx.of(call.arguments["indices"])
    fix(weight[0], "the rows of an embedding")
    ctx.returns(call, [*indices, weight[1]])


@rule_of("batch_norm", "instance_norm", "_native_batch_norm_legit")
def _batch_norm(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["input"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        if (own := ctx.optional(call.arguments.get(name))) is not None:
            unify(own[0], x[1])
    ctx.returns(call, x)


@rule_of("_weight_norm")
def _weight_norm(ctx: Inference, call: Call) -> None:
    direction, length = ctx.of(call.arguments["v"]), ctx.of(call.arguments["g"])
    unify(length[axis(call, len(direction))], direction[axis(call, len(direction))])
    ctx.returns(call, direction)


@rule_of("layer_norm", "rms_norm")
def _layer_norm(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["input"])
    n = len(cast(tuple[int, ...], call.arguments["normalized_shape"]))
    for name in ("weight", "bias"):
        if (own := ctx.optional(call.arguments.get(name))) is not None:
            for a, b in zip(own, x[-n:], strict=True):
                unify(a, b)
    ctx.depends(normalized_shape=tuple(x[-n:]))
    ctx.returns(call, x)


@rule_of("group_norm")
def _group_norm(ctx: Inference, call: Call) -> None:
    x, n_groups = ctx.of(call.arguments["input"]), cast(int, call.arguments["num_groups"])
    if n_groups > 1:
        groups, _ = divide(x[1], [n_groups, find(x[1]).size // n_groups])
        ctx.depends(num_groups=groups)
    for name in ("weight", "bias"):
        if (own := ctx.optional(call.arguments.get(name))) is not None:
            unify(own[0], x[1])
    ctx.returns(call, x)
