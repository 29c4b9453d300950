"""What each ATen operation does to the dimensions of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from supernets.capture.dimensions import (
    Dimension,
    MismatchError,
    concatenation,
    divide,
    find,
    fix,
    fixed,
    product,
    split,
    unify,
)
from supernets.capture.inference import Dims, Inference, reshaped
from supernets.capture.program import Argument, Call, Ref, refs

Rule = Callable[[Inference, Call], None]
RULES: dict[str, Rule] = {}
"""By the operation's name without overload."""


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _axis(call: Call, rank: int, name: str = "dim") -> int:
    return cast(int, call.arguments[name]) % max(rank, 1)


def _axes(argument: Argument, rank: int) -> list[int]:
    """Positions of dimensions as an argument gives them: none or empty for all."""
    if argument is None or argument == ():
        return list(range(rank))
    given = argument if isinstance(argument, tuple) else (argument,)
    return [cast(int, one) % rank for one in given]


# Elementwise operations: sizes are joined.

_ELEMENTWISE = (
    "abs add addcdiv addcmul bitwise_and bitwise_not bitwise_or bitwise_xor ceil celu clamp clamp_max clamp_min clip clone "
    "contiguous cos div elu eq erf erfc exp expand_as expm1 floor floor_divide fmod ge gelu gt hardshrink hardsigmoid hardswish hardtanh "
    "isfinite isinf isnan le leaky_relu lerp log log1p log2 log_sigmoid logical_and logical_not logical_or logical_xor lt masked_fill "
    "maximum minimum mish mul nan_to_num ne neg ones_like pow reciprocal relu relu6 remainder round rsqrt rsub selu sigmoid sign "
    "silu sin softplus softshrink softsign sqrt square sub tan tanh tanhshrink threshold to true_divide trunc where zeros_like full_like "
    "_to_copy type_as float half bool long int double bernoulli real imag empty_like rand_like dropout swish addcmul xlogy atan asin acos sinh cosh"
).split()


@_rule(*_ELEMENTWISE)
def _elementwise(ctx: Inference, call: Call) -> None:
    operands = [ctx.of(Ref(name)) for name in refs(call.arguments.values())]
    if call.name == "type_as":
        operands = operands[:1]
    ctx.returns(call, ctx.broadcast(operands))


@_rule("prelu", "_prelu_kernel")
def _prelu(ctx: Inference, call: Call) -> None:
    x, weight = ctx.of(call.arguments["self"]), ctx.of(call.arguments["weight"])
    if len(weight) == 1 and find(weight[0]).size != 1 and len(x) > 1:
        unify(x[1], weight[0])
    ctx.returns(call, x)


@_rule("softmax", "log_softmax", "_softmax", "_log_softmax")
def _softmax(ctx: Inference, call: Call) -> None:
    ctx.returns(call, ctx.of(call.arguments["self"]))


@_rule("tril", "triu", "cumsum", "flip", "roll", "sort", "argsort", "topk")
def _ordered(ctx: Inference, call: Call) -> None:
    """Operations that depend on the order of the units."""
    x = ctx.of(call.arguments["self"])
    if call.name in ("tril", "triu"):
        positions = [len(x) - 2, len(x) - 1]
    else:
        given = call.arguments.get("dims", call.arguments.get("dim"))
        positions = _axes(given, len(x))
    for position in positions:
        fix(x[position], f"{call.name} depends on the order")
    if call.name == "topk":
        x[positions[0]] = fixed(cast(int, call.arguments["k"]), "topk")
    ctx.returns(call, *([x] * len(call.outputs)))


# Linear operations.


@_rule("linear")
def _linear(ctx: Inference, call: Call) -> None:
    x, weight = ctx.of(call.arguments["input"]), ctx.of(call.arguments["weight"])
    unify(x[-1], weight[1])
    if (bias := ctx.optional(call.arguments["bias"])) is not None:
        unify(bias[0], weight[0])
    ctx.returns(call, [*x[:-1], weight[0]])


@_rule("conv1d", "conv2d", "conv3d")
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
    for kernel in weight[2:]:
        fix(kernel, "a kernel")
    ctx.returns(call, [x[0], weight[0], *_extents(ctx, call, 2)])


@_rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
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
    for kernel in weight[2:]:
        fix(kernel, "a kernel")
    ctx.returns(call, [x[0], out, *_extents(ctx, call, 2)])


def _extents(ctx: Inference, call: Call, start: int, output: int = 0) -> Dims:
    """New fixed dimensions for the spatial extents of an output."""
    return [fixed(size, "an extent of the image") for size in ctx.shape(call.outputs[output])[start:]]


def _contract(ctx: Inference, a: Dimension, b: Dimension, left: Argument, right: Argument) -> None:
    """Joins the dimensions over which a product sums; between two activations it stays as it is.

    Their product is usually scaled by a constant of its size (attention).
    """
    joined = unify(a, b)
    if not (ctx.is_state(left) or ctx.is_state(right)):
        fix(joined, "a size over which two activations are multiplied (the size of a head)")


@_rule("matmul", "mm", "bmm")
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


@_rule("addmm", "baddbmm")
def _add_product(ctx: Inference, call: Call) -> None:
    left, right = [call.arguments[name] for name in call.arguments if name.startswith(("mat", "batch"))][:2]
    ctx.returns(call, ctx.broadcast([ctx.of(call.arguments["self"]), _product(ctx, left, right)]))


@_rule("einsum")
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


@_rule("scaled_dot_product_attention")
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


@_rule("embedding")
def _embedding(ctx: Inference, call: Call) -> None:
    weight, indices = ctx.of(call.arguments["weight"]), ctx.of(call.arguments["indices"])
    fix(weight[0], "the rows of an embedding")
    ctx.returns(call, [*indices, weight[1]])


# Normalisations.


@_rule("batch_norm", "instance_norm", "_native_batch_norm_legit")
def _batch_norm(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["input"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        if (own := ctx.optional(call.arguments.get(name))) is not None:
            unify(own[0], x[1])
    ctx.returns(call, x)


@_rule("layer_norm", "rms_norm")
def _layer_norm(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["input"])
    n = len(cast(tuple[int, ...], call.arguments["normalized_shape"]))
    for name in ("weight", "bias"):
        if (own := ctx.optional(call.arguments.get(name))) is not None:
            for a, b in zip(own, x[-n:], strict=True):
                unify(a, b)
    ctx.depends(normalized_shape=tuple(x[-n:]))
    ctx.returns(call, x)


@_rule("group_norm")
def _group_norm(ctx: Inference, call: Call) -> None:
    x, n_groups = ctx.of(call.arguments["input"]), cast(int, call.arguments["num_groups"])
    if n_groups > 1:
        groups, _ = divide(x[1], [n_groups, find(x[1]).size // n_groups])
        ctx.depends(num_groups=groups)
    for name in ("weight", "bias"):
        if (own := ctx.optional(call.arguments.get(name))) is not None:
            unify(own[0], x[1])
    ctx.returns(call, x)


# Shapes.


@_rule("view", "reshape", "_unsafe_view", "_reshape_copy")
def _view(ctx: Inference, call: Call) -> None:
    if not call.op.endswith("default"):
        raise MismatchError("a view as another type")
    out = reshaped(ctx.of(call.arguments["self"]), ctx.shape(call.outputs[0]))
    ctx.depends(**{"size" if "size" in call.arguments else "shape": tuple(out)})
    ctx.returns(call, out)


@_rule("flatten")
def _flatten(ctx: Inference, call: Call) -> None:
    ctx.returns(call, reshaped(ctx.of(call.arguments["self"]), ctx.shape(call.outputs[0])))


@_rule("view_as", "reshape_as")
def _view_as(ctx: Inference, call: Call) -> None:
    out = reshaped(ctx.of(call.arguments["self"]), ctx.shape(call.outputs[0]))
    ctx.returns(call, [unify(a, b) for a, b in zip(out, ctx.of(call.arguments["other"]), strict=True)])


@_rule("unflatten")
def _unflatten(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position, n = _axis(call, len(x)), len(cast(tuple[int, ...], call.arguments["sizes"]))
    sizes = ctx.shape(call.outputs[0])[position : position + n]
    parts = divide(x[position], sizes)
    ctx.depends(sizes=tuple(parts))
    ctx.returns(call, [*x[:position], *parts, *x[position + 1 :]])


@_rule("squeeze")
def _squeeze(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    chosen = _axes(call.arguments.get("dim"), len(x))
    ctx.returns(call, [own for i, own in enumerate(x) if not (i in chosen and find(own).size == 1)])


@_rule("unsqueeze")
def _unsqueeze(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    x.insert(_axis(call, len(x) + 1), fixed(1, "a size of 1"))
    ctx.returns(call, x)


@_rule("transpose", "swapaxes", "swapdims")
def _transpose(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    i, j = (cast(int, value) % len(x) for name, value in call.arguments.items() if name != "self")
    x[i], x[j] = x[j], x[i]
    ctx.returns(call, x)


@_rule("permute")
def _permute(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    ctx.returns(call, [x[i] for i in _axes(call.arguments["dims"], len(x))])


@_rule("movedim", "moveaxis")
def _movedim(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    source, target = (_axes(call.arguments[name], len(x)) for name in ("source", "destination"))
    moved = dict(zip(target, source, strict=True))
    rest = iter(i for i in range(len(x)) if i not in source)
    ctx.returns(call, [x[moved[i]] if i in moved else x[next(rest)] for i in range(len(x))])


@_rule("t", "numpy_T", "mT")
def _t(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    ctx.returns(call, x[::-1] if call.name != "mT" else [*x[:-2], x[-1], x[-2]])


@_rule("expand", "broadcast_to")
def _expand(ctx: Inference, call: Call) -> None:
    x, sizes = ctx.of(call.arguments["self"]), ctx.shape(call.outputs[0])
    x = [fixed(1, "a size of 1") for _ in range(len(sizes) - len(x))] + x
    out = [
        own if find(own).size == size else ctx.batch if not i and size == ctx.program.batch else fixed(size, "expanded")
        for i, (own, size) in enumerate(zip(x, sizes, strict=True))
    ]
    ctx.depends(size=tuple(out))
    ctx.returns(call, out)


@_rule("repeat", "tile")
def _repeat(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    times = list(cast(tuple[int, ...], call.arguments["repeats" if call.name == "repeat" else "dims"]))
    times = [1] * (len(x) - len(times)) + times
    x = [fixed(1, "a size of 1") for _ in range(len(times) - len(x))] + x
    counts: list[Dimension | int] = [
        ctx.batch if not i and n == ctx.program.batch and find(own).size == 1 else n
        for i, (own, n) in enumerate(zip(x, times, strict=True))
    ]
    if call.name == "repeat":
        ctx.depends(repeats=tuple(counts))
    ctx.returns(call, [
        own if n == 1 else product([n if isinstance(n, Dimension) else fixed(n, "repeated"), own])
        for own, n in zip(x, counts, strict=True)
    ])  # fmt: skip


@_rule("repeat_interleave")
def _repeat_interleave(ctx: Inference, call: Call) -> None:
    x, n = ctx.of(call.arguments["self"]), cast(int, call.arguments["repeats"])
    position = _axis(call, len(x))
    x[position] = product([x[position], fixed(n, "repeated")])
    ctx.returns(call, x)


@_rule("new_zeros", "new_ones", "new_full", "new_empty")
def _new(ctx: Inference, call: Call) -> None:
    sizes = ctx.shape(call.outputs[0])
    out = [ctx.batch if not i and n == ctx.program.batch else fixed(n, "created") for i, n in enumerate(sizes)]
    ctx.depends(size=tuple(out))
    ctx.returns(call, out)


# Joining and dividing.


@_rule("cat", "concat")
def _cat(ctx: Inference, call: Call) -> None:
    parts = [ctx.of(part) for part in cast(tuple[Argument, ...], call.arguments["tensors"])]
    parts = [part for part in parts if len(part) > 1 or find(part[0]).size]
    position = _axis(call, len(parts[0]))
    out = list(parts[0])
    for part in parts[1:]:
        out = [own if i == position else unify(own, part[i]) for i, own in enumerate(out)]
    out[position] = concatenation([part[position] for part in parts])
    ctx.returns(call, out)


@_rule("stack")
def _stack(ctx: Inference, call: Call) -> None:
    parts = [ctx.of(part) for part in cast(tuple[Argument, ...], call.arguments["tensors"])]
    out = parts[0]
    for part in parts[1:]:
        out = [unify(a, b) for a, b in zip(out, part, strict=True)]
    out = list(out)
    out.insert(_axis(call, len(out) + 1), fixed(len(parts), "stacked"))
    ctx.returns(call, out)


@_rule("split", "split_with_sizes", "chunk", "tensor_split")
def _split(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = _axis(call, len(x))
    sizes = [ctx.shape(name)[position] if name else 0 for name in call.outputs]
    missing = find(x[position]).size - sum(sizes)
    if missing:  # of outputs that nothing reads
        unread = [i for i, name in enumerate(call.outputs) if not name]
        sizes = [missing // len(unread) if i in unread else size for i, size in enumerate(sizes)]
    pieces = split(x[position], sizes)
    ctx.depends(split_sizes=tuple(pieces))
    ctx.returns(call, *([*x[:position], piece, *x[position + 1 :]] for piece in pieces))


@_rule("glu")
def _glu(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = _axis(call, len(x))
    half = find(x[position]).size // 2
    first, second = split(x[position], [half, half])
    x[position] = unify(first, second)
    ctx.returns(call, x)


@_rule("unbind")
def _unbind(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = _axis(call, len(x))
    fix(x[position], "taken apart unit by unit")
    ctx.returns(call, *([own for i, own in enumerate(x) if i != position] for _ in call.outputs))


@_rule("select")
def _select(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = _axis(call, len(x))
    fix(x[position], "one unit of it is selected")
    ctx.returns(call, [own for i, own in enumerate(x) if i != position])


@_rule("slice", "narrow")
def _slice(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = _axis(call, len(x))
    size, kept = find(x[position]).size, ctx.shape(call.outputs[0])[position]
    start, step = cast(int | None, call.arguments["start"]) or 0, call.arguments.get("step", 1)
    if kept == size and step == 1:
        if "end" in call.arguments:
            ctx.depends(end=2**62)
        else:
            ctx.depends(length=x[position])
        ctx.returns(call, x)
        return
    if step != 1 or find(x[position]).fixed or all(own.fixed for own in _singles(x[position])):
        fix(x[position], "a part of it is taken")
        x[position] = fixed(kept, "a part of a fixed size")
        ctx.returns(call, x)
        return
    first = start % size if start < 0 else min(start, size)
    sizes = [first, kept, size - first - kept]
    before, piece, _ = (
        split(x[position], [n for n in sizes if n])
        if all(sizes)
        else _with_empty(split(x[position], [n for n in sizes if n]), sizes)
    )
    if "end" in call.arguments:
        ctx.depends(start=before, end=concatenation([before, piece]) if sizes[0] else piece)
    else:
        ctx.depends(start=before, length=piece)
    x[position] = piece
    ctx.returns(call, x)


def _with_empty(pieces: list[Dimension], sizes: Sequence[int]) -> list[Dimension]:
    left = iter(pieces)
    return [next(left) if size else fixed(0, "empty") for size in sizes]


def _singles(dimension: Dimension) -> list[Dimension]:
    from supernets.capture.dimensions import singles

    return list(singles(dimension))


@_rule("index_select", "gather", "take_along_dim", "scatter", "index_add")
def _index_select(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = _axis(call, len(x))
    fix(x[position], "units of it are chosen by index")
    if call.name == "index_select":
        x[position] = fixed(ctx.shape(call.outputs[0])[position], "chosen by index")
        ctx.returns(call, x)
        return
    raise MismatchError("an index of all dimensions")


@_rule("index")
def _index(ctx: Inference, call: Call) -> None:
    x, indices = ctx.of(call.arguments["self"]), cast(tuple[Argument, ...], call.arguments["indices"])
    used = [i for i, index in enumerate(indices) if index is not None]
    for i in used:
        fix(x[i], "units of it are chosen by index")
    if used != list(range(used[0], used[0] + len(used))):
        raise MismatchError("indices that are apart")
    chosen = ctx.broadcast([ctx.of(indices[i]) for i in used])
    ctx.returns(call, [*x[: used[0]], *chosen, *x[used[-1] + 1 :]])


@_rule("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad2d")
def _pad(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    amounts = cast(tuple[int, ...], call.arguments.get("pad", call.arguments.get("padding")))
    for i in range(len(amounts) // 2):
        before, after = amounts[2 * i : 2 * i + 2]
        position = len(x) - 1 - i
        if before < 0 or after < 0:
            fix(x[position], "cut")
            x[position] = fixed(ctx.shape(call.outputs[0])[position], "cut")
        elif before or after:
            x[position] = concatenation([fixed(before, "padding"), x[position], fixed(after, "padding")])
    ctx.returns(call, x)


@_rule("pixel_shuffle")
def _pixel_shuffle(ctx: Inference, call: Call) -> None:
    x, factor = ctx.of(call.arguments["self"]), cast(int, call.arguments["upscale_factor"])
    channels, square = divide(x[-3], [find(x[-3]).size // factor**2, factor**2])
    fix(square, "pixels")
    ctx.returns(call, [*x[:-3], channels, *_extents(ctx, call, -2)])


@_rule("pixel_unshuffle")
def _pixel_unshuffle(ctx: Inference, call: Call) -> None:
    x, factor = ctx.of(call.arguments["self"]), cast(int, call.arguments["downscale_factor"])
    ctx.returns(call, [*x[:-3], product([x[-3], fixed(factor**2, "pixels")]), *_extents(ctx, call, -2)])


@_rule("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(ctx: Inference, call: Call) -> None:
    x, n = ctx.of(call.arguments["self"]), cast(int, call.arguments["groups"])
    groups, units = divide(x[1], [n, find(x[1]).size // n])
    fix(groups, "groups of a shuffle")
    x[1] = product([units, groups])
    ctx.returns(call, x)


# Reductions and pooling.


@_rule(
    "mean", "sum", "amax", "amin", "logsumexp", "linalg_vector_norm", "norm", "var", "std", "var_mean", "std_mean", "prod",
    "any", "all", "max", "min", "argmax", "argmin",
)  # fmt: skip
def _reduce(ctx: Inference, call: Call) -> None:
    given = call.arguments.get("dim")
    x = ctx.of(call.arguments["self"])
    if "other" in call.arguments:
        _elementwise(ctx, call)
        return
    if call.name in ("argmax", "argmin") or (call.name in ("max", "min") and len(call.outputs) > 1):
        for position in _axes(given, len(x)):
            fix(x[position], "a position in it is chosen")
    chosen = _axes(given, len(x))
    if call.arguments.get("keepdim"):
        out = [fixed(1, "a size of 1") if i in chosen else own for i, own in enumerate(x)]
    else:
        out = [own for i, own in enumerate(x) if i not in chosen]
    ctx.returns(call, *([out] * len(call.outputs)))


@_rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "max_pool2d_with_indices", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d", "upsample_trilinear3d",
    "upsample_nearest3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "grid_sampler", "grid_sampler_2d",
)  # fmt: skip
def _pool(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self" if "self" in call.arguments else "input"])
    n = {"1": 1, "2": 2, "3": 3}.get(next((c for c in call.name if c in "123"), "2"), 2)
    ctx.returns(call, *([*x[:-n], *_extents(ctx, call, -n, i)] for i, name in enumerate(call.outputs) if name))
