"""The operations of `supernets.networks.tokens` and `resizing` in programs: their dimensions, their work and their ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from supernets.networks.capture.dimensions import Dimension, divide, find, fix, fixed, product, unify
from supernets.networks.capture.inference import Dims, Inference
from supernets.networks.capture.program import Argument, Call, refs
from supernets.networks.onnx_graph.functions import (
    add,
    concatenate,
    halves,
    linear,
    matmul,
    multiply,
    permute,
    softmax,
    subtract,
)
from supernets.networks.onnx_graph.ir import CONTEXT, MEMORIES, PAST, Graph, Shape, Value
from supernets.networks.operations.own import onnx_of, own_rule, own_work
from supernets.networks.operations.registry import Products, dims_of
from supernets.networks.resizing import onnx_scale
from supernets.networks.tokens import MASKED

ONE, CONTEXT_NAME, PAST_NAME = "a size of 1", "context", "past"
_FLOAT, _INT = 1, 6
"""ONNX's numbers of 32-bit floats and integers."""


def _heads(channels: Dimension, call: Call) -> tuple[Dimension, Dimension]:
    """The heads that channels consist of, and the fixed size of a head."""
    size = cast(int, call.arguments["head_size"])
    heads, channels_of_head = divide(channels, [find(channels).size // size, size])
    fix(channels_of_head, "the size of a head")
    return heads, channels_of_head


def _all_tokens(ctx: Inference, past: Dimension, new: Dimension) -> Dimension:
    """The tokens in a cache and the new ones."""
    return ctx.dynamic(CONTEXT_NAME, find(past).size + find(new).size)


def _attended(query: Dims, key: Dims, value: Dims) -> Dims:
    """The dimensions (n, tokens, heads x head size) of attention with groups of queries."""
    unify(key[1], value[1])
    unify(unify(query[3], key[3]), value[3])
    n_groups, n_queries = find(key[1]).size, find(query[1]).size
    if n_groups == n_queries:  # with one query to a group in the largest network there is one in all
        unify(query[1], key[1])
    else:
        groups, _ = divide(query[1], [n_groups, n_queries // n_groups])
        unify(groups, key[1])
    return [query[0], query[2], product([query[1], value[3]])]


@own_rule("resize")
def _resize_dims(ctx: Inference, call: Call) -> None:
    x, side = ctx.tensor_dims(call.arguments["x"]), cast(int, call.arguments["side"])
    ctx.returns(call, [*x[:2], *(fixed(side, "an extent of the image") for _ in range(2))])


@own_rule("resized")
def _resized_dims(ctx: Inference, call: Call) -> None:
    x, pixels = ctx.tensor_dims(call.arguments["x"]), ctx.tensor_dims(call.arguments["pixels"])
    ctx.returns(call, [*x[:2], pixels[0], pixels[0]])


@onnx_of("resize")
def resize(graph: Graph, x: Value, side: int) -> Value:
    """`supernets.networks.resizing.resize`: written with scales, which every runtime supports."""
    if (side, side) == x.shape[2:]:
        return x
    scales = [np.float32(1), np.float32(1), *(onnx_scale(old, side) for old in x.shape[2:])]
    inputs, shape = [x, None, graph.constant(np.array(scales))], (*x.shape[:2], side, side)
    return graph.add("Resize", inputs, shape, mode="linear", coordinate_transformation_mode="half_pixel")


@onnx_of("resized")
def resized(graph: Graph, x: Value, pixels: Value) -> Value:
    """`supernets.networks.resizing.resized`."""
    image: Value = resize(graph, x, pixels.shape[0])
    return image


@own_rule("padding_mask", neutral=("padding",))
def _padding_mask_dims(ctx: Inference, call: Call) -> None:
    ids = ctx.tensor_dims(call.arguments["ids"])
    ctx.returns(call, [ids[0], fixed(1, ONE), fixed(1, ONE), ids[1]])


@onnx_of("padding_mask")
def padding_mask(graph: Graph, ids: Value, padding: int) -> Value:
    """`supernets.networks.tokens.padding_mask`: (n, tokens) integers -> (n, 1, 1, tokens)."""
    same = graph.add("Equal", [ids, graph.whole(padding)], ids.shape)
    masked = graph.add("Mul", [graph.add("Cast", [same], ids.shape, to=1), graph.scalar(MASKED)], ids.shape)
    return graph.add("Unsqueeze", [masked, graph.numbers([1, 2])], (ids.shape[0], 1, 1, ids.shape[1]))


@own_rule("first_rows")
def _first_rows_dims(ctx: Inference, call: Call) -> None:
    table, ids = ctx.tensor_dims(call.arguments["table"]), ctx.tensor_dims(call.arguments["ids"])
    fix(table[0], "the rows of a table")
    ctx.returns(call, [ids[1], table[1]])


@onnx_of("first_rows")
def first_rows(graph: Graph, table: Value, ids: Value) -> Value:
    """`supernets.networks.tokens.first_rows`: (rows, width), (n, tokens) -> (tokens, width)."""
    tokens = graph.add("Shape", [ids], (1,), start=1, end=2)
    zero = graph.numbers([0])
    return graph.add("Slice", [table, zero, tokens, zero], (ids.shape[1], table.shape[1]))


@own_rule("attend", neutral=("mask",))
def _attend_dims(ctx: Inference, call: Call) -> None:
    query, key, value = (ctx.tensor_dims(call.arguments[name]) for name in ("query", "key", "value"))
    for channels in (query[2], key[2], value[2]):
        _heads(channels, call)
    unify(unify(query[2], key[2]), value[2])
    ctx.returns(call, query)


@own_work("attend")
def _attend_work(inference: Inference, call: Call) -> Products:
    query = dims_of(inference, call.arguments["query"])
    return [[*query, query[1]], [*query, query[1]]]


@onnx_of("attend")
def attend(graph: Graph, query: Value, key: Value, value: Value, head_size: int, mask: Value | None = None) -> Value:
    """`supernets.networks.tokens.attend`: (n, tokens, heads x head_size) -> the same."""
    n, tokens, channels = query.shape
    heads = channels // head_size

    def split(x: Value, *order: int) -> Value:
        # In ONNX 0 keeps a size, so that both dynamic dimensions stay unknown.
        parted = graph.add("Reshape", [x, graph.numbers([0, 0, heads, head_size])], (n, tokens, heads, head_size))
        return permute(graph, parted, *order)

    scaled = split(multiply(graph, query, head_size**-0.5), 0, 2, 1, 3)
    scores = matmul(graph, scaled, split(key, 0, 2, 3, 1))
    scores = scores if mask is None else add(graph, scores, mask)
    mixed = permute(graph, matmul(graph, softmax(graph, scores, -1), split(value, 0, 2, 1, 3)), 0, 2, 1, 3)
    return graph.add("Reshape", [mixed, graph.numbers([0, 0, channels])], (n, tokens, channels))


def _size(graph: Graph, x: Value, dim: int) -> Value:
    """A size as a number without dimensions."""
    if x.shape[dim] > 0:
        return graph.whole(x.shape[dim])
    size = graph.add("Shape", [x], (1,), start=dim, end=dim + 1)
    return graph.add("Squeeze", [size, graph.numbers([0])], ())


def _ends(graph: Graph, ids: Value, past: Value | None, filled: Value | None) -> tuple[Value, Value, int]:
    """The number of tokens before, that of all tokens, and the latter's size in shapes."""
    tokens = _size(graph, ids, 1)
    if past is None:
        return graph.whole(0), tokens, ids.shape[1]
    before = _size(graph, past, 2) if filled is None else graph.add("Squeeze", [filled, graph.numbers([0])], ())
    return before, graph.add("Add", [before, tokens], ()), _total(past.shape[2], ids.shape[1])


def _total(before: int, tokens: int) -> int:
    return before + tokens if before > 0 and tokens > 0 else CONTEXT


def _number_range(graph: Graph, start: Value, end: Value, size: int, axes: list[int], shape: Shape) -> Value:
    """The numbers from start to end as a tensor of this shape, whose other sizes are 1."""
    numbers = graph.add("Range", [start, end, graph.whole(1)], (size,))
    return graph.add("Unsqueeze", [numbers, graph.numbers(axes)], shape)


@own_rule("token_positions", neutral=("past", "filled"))
def _token_positions_dims(ctx: Inference, call: Call) -> None:
    ids, padding = ctx.tensor_dims(call.arguments["ids"]), ctx.optional_dims(call.arguments["padding"])
    ctx.returns(call, [fixed(1, ONE) if padding is None else ids[0], ids[1]])


@onnx_of("token_positions")
def token_positions(
    graph: Graph, ids: Value, padding: Value | None = None, past: Value | None = None, filled: Value | None = None
) -> Value:
    """`supernets.networks.tokens.token_positions`: (n, tokens) -> (1 or n, tokens)."""
    start, end, _ = _ends(graph, ids, past, filled)
    positions = _number_range(graph, start, end, ids.shape[1], [0], (1, ids.shape[1]))
    if padding is None:
        return positions
    n_padding = graph.add("Unsqueeze", [padding, graph.numbers([1])], (*padding.shape, 1))
    later = subtract(graph, positions, n_padding)
    return graph.add("Max", [later, graph.whole(0)], later.shape)


@own_rule("causal_mask", neutral=("filled",))
def _causal_mask_dims(ctx: Inference, call: Call) -> None:
    ids, padding, past = (ctx.optional_dims(call.arguments[name]) for name in ("ids", "padding", "past"))
    assert ids is not None
    total = ids[1] if past is None else _all_tokens(ctx, past[2], ids[1])
    ctx.returns(call, [fixed(1, ONE) if padding is None else ids[0], fixed(1, ONE), ids[1], total])


@onnx_of("causal_mask")
def causal_mask(
    graph: Graph, ids: Value, padding: Value | None = None, past: Value | None = None, filled: Value | None = None
) -> Value:
    """`supernets.networks.tokens.causal_mask`: (n, tokens) -> (1 or n, 1, tokens, all tokens)."""
    start, end, total = _ends(graph, ids, past, filled)
    tokens = ids.shape[1]
    keys = _number_range(graph, graph.whole(0), end, total, [0, 1, 2], (1, 1, 1, total))

    def masked(low: Value, high: Value, shape: Shape) -> Value:
        less = graph.add("Cast", [graph.add("Less", [low, high], shape)], shape, to=_FLOAT)
        return multiply(graph, less, MASKED)

    of_padding = None
    if padding is not None:
        n_padding = graph.add("Unsqueeze", [padding, graph.numbers([1, 2, 3])], (*padding.shape, 1, 1, 1))
        of_padding = masked(keys, n_padding, (*padding.shape, 1, 1, total))
    if tokens == 1 and of_padding is not None:  # no token is later than the only one
        return of_padding
    queries = _number_range(graph, start, end, tokens, [0, 1, 3], (1, 1, tokens, 1))
    later = masked(queries, keys, (1, 1, tokens, total))
    return later if of_padding is None else add(graph, later, of_padding)


@own_rule("rotation")
def _rotation_dims(ctx: Inference, call: Call) -> None:
    positions = ctx.tensor_dims(call.arguments["positions"])
    n = len(cast(tuple[float, ...], call.arguments["frequencies"]))
    angles = [positions[0], fixed(1, ONE), positions[1], fixed(n, "the frequencies of rotary positions")]
    ctx.returns(call, angles, angles)


@onnx_of("rotation")
def rotation(graph: Graph, positions: Value, frequencies: tuple[float, ...]) -> tuple[Value, Value]:
    """`supernets.networks.tokens.rotation`: (m, tokens) -> twice (m, 1, tokens, frequencies)."""
    n, tokens = positions.shape
    floats = graph.add("Cast", [positions], positions.shape, to=_FLOAT)
    column = graph.add("Unsqueeze", [floats, graph.numbers([1, 3])], (n, 1, tokens, 1))
    angles = multiply(graph, column, graph.constant(np.array(frequencies, dtype=np.float32)))
    return graph.add("Cos", [angles], angles.shape), graph.add("Sin", [angles], angles.shape)


@own_rule("rotated", neutral=("cosine", "sine"))
def _rotated_dims(ctx: Inference, call: Call) -> None:
    x = ctx.tensor_dims(call.arguments["x"])
    fix(x[-1], "the size of a head")
    ctx.returns(call, x)


@onnx_of("rotated")
def rotated(graph: Graph, x: Value, cosine: Value, sine: Value) -> Value:
    """`supernets.networks.tokens.rotated`: (n, heads, tokens, channels) -> the same."""
    first, second = halves(graph, x, x.rank - 1)
    turned = (
        subtract(graph, multiply(graph, first, cosine), multiply(graph, second, sine)),
        add(graph, multiply(graph, second, cosine), multiply(graph, first, sine)),
    )
    return concatenate(graph, turned, x.rank - 1)


@onnx_of("rows_at")
def rows_at(graph: Graph, table: Value, positions: Value) -> Value:
    """`supernets.networks.tokens.rows_at`: (rows, width), (m, tokens) -> (m, tokens, width)."""
    return graph.add("Gather", [table, positions], (*positions.shape, table.shape[1]), axis=0)


@own_rule("by_head")
def _by_head_dims(ctx: Inference, call: Call) -> None:
    x = ctx.tensor_dims(call.arguments["x"])
    heads, size = _heads(x[2], call)
    ctx.returns(call, [x[0], heads, x[1], size])


@onnx_of("by_head")
def by_head(graph: Graph, x: Value, head_size: int) -> Value:
    """`supernets.networks.tokens.by_head`: (n, tokens, heads x head_size) -> (n, heads, tokens, head_size)."""
    n, tokens, channels = x.shape
    heads = channels // head_size
    if tokens == 1:
        return graph.add("Reshape", [x, graph.numbers([0, heads, 1, head_size])], (n, heads, 1, head_size))
    parted = graph.add("Reshape", [x, graph.numbers([0, 0, heads, head_size])], (n, tokens, heads, head_size))
    return permute(graph, parted, 0, 2, 1, 3)


@own_rule("appended")
def _appended_dims(ctx: Inference, call: Call) -> None:
    past, new = ctx.tensor_dims(call.arguments["past"]), ctx.tensor_dims(call.arguments["new"])
    batch, heads, size = (unify(past[i], new[i]) for i in (0, 1, 3))
    ctx.returns(call, [batch, heads, _all_tokens(ctx, past[2], new[2]), size])


@onnx_of("appended")
def appended(graph: Graph, past: Value, new: Value) -> Value:
    """`tokens.appended`: (n, heads, past, size), (n, heads, tokens, size) -> (n, heads, all tokens, size)."""
    n, heads, before, size = past.shape
    return graph.add("Concat", [past, new], (n, heads, _total(before, new.shape[2]), size), axis=2)


@own_rule("attend_grouped")
def _attend_grouped_dims(ctx: Inference, call: Call) -> None:
    query, key, value, mask = (ctx.tensor_dims(call.arguments[name]) for name in ("query", "key", "value", "mask"))
    unify(unify(key[2], value[2]), mask[3])
    ctx.returns(call, _attended(query, key, value))


@onnx_of("attend_grouped")
def attend_grouped(graph: Graph, query: Value, key: Value, value: Value, mask: Value) -> Value:
    """`supernets.networks.tokens.attend_grouped`: (n, heads, tokens, head_size) -> (n, tokens, heads x head_size)."""
    n, heads, tokens, head_size = query.shape
    groups, total = key.shape[1], key.shape[2]
    heads_per_group, channels = heads // groups, heads * head_size
    scaled = multiply(graph, query, head_size**-0.5)

    def reshaped(x: Value, sizes: list[int], shape: Shape) -> Value:
        return graph.add("Reshape", [x, graph.numbers(sizes)], shape)

    if tokens == 1:  # the queries of a group are the rows of one product
        by_group = reshaped(scaled, [0, groups, heads_per_group, head_size], (n, groups, heads_per_group, head_size))
        scores = add(graph, matmul(graph, by_group, permute(graph, key, 0, 1, 3, 2)), mask)
        return reshaped(matmul(graph, softmax(graph, scores, -1), value), [0, 1, channels], (n, 1, channels))
    if heads_per_group > 1:
        scaled = reshaped(
            scaled, [0, groups, heads_per_group, -1, head_size], (n, groups, heads_per_group, tokens, head_size)
        )
        key, value = (
            graph.add("Unsqueeze", [x, graph.numbers([2])], (n, groups, 1, total, head_size)) for x in (key, value)
        )
        mask = graph.add("Unsqueeze", [mask, graph.numbers([2])], (*mask.shape[:2], 1, *mask.shape[2:]))
    last = key.rank - 1
    transposed = permute(graph, key, *range(last - 1), last, last - 1)
    mixed = matmul(graph, softmax(graph, add(graph, matmul(graph, scaled, transposed), mask), -1), value)
    if heads_per_group > 1:
        mixed = reshaped(mixed, [0, heads, -1, head_size], (n, heads, tokens, head_size))
    return reshaped(permute(graph, mixed, 0, 2, 1, 3), [0, 0, channels], (n, tokens, channels))


@own_rule("attend_filled", neutral=("mask", "filled"))
def _attend_filled_dims(ctx: Inference, call: Call) -> None:
    query, key, value, keys, values = (
        ctx.tensor_dims(call.arguments[n]) for n in ("query", "key", "value", "keys", "values")
    )
    unify(key[1], keys[1])
    unify(value[1], values[1])
    ctx.returns(call, _attended(query, key, value), keys, values)


@onnx_of("attend_filled")
def attend_filled(
    graph: Graph, query: Value, key: Value, value: Value, keys: Value, values: Value, mask: Value, filled: Value
) -> tuple[Value, ...]:
    """`tokens.attend_filled`, by an operation of ONNX Runtime, which writes into the cache where its output is in
    the same memory."""
    n, heads, _, size = query.shape
    groups = key.shape[1]

    def joined(x: Value, heads: int) -> Value:
        return graph.add("Reshape", [x, graph.numbers([0, 1, heads * size])], (n, 1, heads * size))

    # For each text the number of tokens before, and that of all tokens, as 32-bit integers.
    nothing = graph.add("Shape", [query], (1,), start=0, end=1)
    before = graph.add("Cast", [graph.add("Expand", [filled, nothing], (n,))], (n,), to=_INT)
    last = graph.add("Squeeze", [filled, graph.numbers([0])], ())
    total = graph.add("Cast", [graph.add("Add", [last, graph.whole(1)], ())], (), to=_INT)
    tokens = [joined(query, heads), joined(key, groups), joined(value, groups)]
    inputs = [*tokens, keys, values, before, total, None, None, None, mask]
    shapes = [(n, 1, heads * size), keys.shape, values.shape]
    settings = {"num_heads": heads, "kv_num_heads": groups, "scale": size**-0.5}
    return tuple(graph.add_many("GroupQueryAttention", inputs, shapes, **settings))


@own_rule("gated_heads")
def _gated_heads_dims(ctx: Inference, call: Call) -> None:
    x, gates, key = (ctx.tensor_dims(call.arguments[name]) for name in ("x", "gates", "key"))
    n_groups, n_experts = find(key[1]).size, find(gates[2]).size
    groups, experts, _ = divide(x[2], [n_groups, n_experts, find(x[2]).size // n_groups // n_experts])
    unify(groups, key[1])
    unify(experts, gates[2])
    ctx.returns(call, x)


@onnx_of("gated_heads")
def gated_heads(graph: Graph, x: Value, gates: Value, key: Value) -> Value:
    """`supernets.networks.tokens.gated_heads`: (n, tokens, channels), (n, tokens, experts) -> (n, tokens, channels)."""
    n, tokens, channels = x.shape
    groups, experts = key.shape[1], gates.shape[2]
    expert_channels = channels // (groups * experts)
    sizes = graph.numbers([0, 0, groups, experts, expert_channels])
    by_expert = graph.add("Reshape", [x, sizes], (n, tokens, groups, experts, expert_channels))
    factors = graph.add("Unsqueeze", [gates, graph.numbers([2, 4])], (n, tokens, 1, experts, 1))
    return graph.add("Reshape", [multiply(graph, by_expert, factors), graph.numbers([0, 0, channels])], x.shape)


@own_rule("last_token")
def _last_token_dims(ctx: Inference, call: Call) -> None:
    x = ctx.tensor_dims(call.arguments["x"])
    ctx.returns(call, [x[0], x[2]])


@onnx_of("last_token")
def last_token(graph: Graph, x: Value) -> Value:
    """`supernets.networks.tokens.last_token`: (n, tokens, channels) -> (n, channels)."""
    return graph.add("Gather", [x, graph.whole(-1)], (x.shape[0], x.shape[2]), axis=1)


@own_rule("divided")
def _divided_dims(ctx: Inference, call: Call) -> None:
    ids, first = ctx.tensor_dims(call.arguments["ids"]), cast(int, call.arguments["first"])
    remaining = ctx.dynamic(CONTEXT_NAME, find(ids[1]).size - first)
    ctx.returns(call, [ids[0], fixed(first, "the tokens of a source")], [ids[0], remaining])


@onnx_of("divided")
def divided(graph: Graph, ids: Value, first: int) -> tuple[Value, Value]:
    """`supernets.networks.tokens.divided`: (n, tokens) -> (n, first), (n, tokens - first)."""
    n, tokens = ids.shape
    ends, token_axis = [graph.numbers([at]) for at in (0, first, np.iinfo(np.int64).max)], graph.numbers([1])
    source = graph.add("Slice", [ids, ends[0], ends[1], token_axis], (n, first))
    n_remaining = tokens - first if tokens > 0 else CONTEXT
    return source, graph.add("Slice", [ids, ends[1], ends[2], token_axis], (n, n_remaining))


@own_rule("cross_memory")
def _cross_memory_dims(ctx: Inference, call: Call) -> None:
    outputs = [ctx.tensor_dims(part) for part in cast(tuple[Argument, ...], call.arguments["encoded"])]
    first = outputs[0]
    for output in outputs[1:]:
        first = [unify(a, b) for a, b in zip(first, output, strict=True)]
    key, value, attended = (ctx.tensor_dims(call.arguments[name]) for name in ("key", "value", "attended"))
    unify(key[1], first[2])
    unify(value[1], first[2])
    heads, size = _heads(unify(key[0], value[0]), call)
    memory = [first[0], heads, product([attended[0], first[1]]), size]
    ctx.returns(call, memory, memory)


@own_work("cross_memory")
def _cross_memory_work(inference: Inference, call: Call) -> Products:
    a = call.arguments
    first, key = inference.dims[next(refs(a["encoded"]))], dims_of(inference, a["key"])
    lead = [*first[:2], *dims_of(inference, a["attended"]), key[0]]
    return [([*lead, key[1]], lead)] * 2


@onnx_of("cross_memory")
def cross_memory(
    graph: Graph, encoded: Sequence[Value], key: Value, value: Value, attended: Value, head_size: int
) -> tuple[Value, ...]:
    """`tokens.cross_memory`: (n, tokens, width) of each layer -> (n, heads, layers x tokens, head_size) twice."""
    layers = encoded[-attended.shape[0] :]
    weights = ([by_head(graph, linear(graph, x, weight), head_size) for x in layers] for weight in (key, value))
    return tuple(_concatenate(graph, parts, 2) for parts in weights)


@own_rule("repeated_mask")
def _repeated_mask_dims(ctx: Inference, call: Call) -> None:
    mask, attended = ctx.tensor_dims(call.arguments["mask"]), ctx.tensor_dims(call.arguments["attended"])
    ctx.returns(call, [*mask[:3], product([attended[0], mask[3]])])


@onnx_of("repeated_mask")
def repeated_mask(graph: Graph, mask: Value, attended: Value) -> Value:
    """`supernets.networks.tokens.repeated_mask`: (n, 1, 1, tokens) -> (n, 1, 1, layers x tokens)."""
    return _concatenate(graph, [mask] * attended.shape[0], 3)


def _concatenate(graph: Graph, parts: Sequence[Value], dim: int) -> Value:
    """One to three tensors of one shape along the dimension of their tokens."""
    shape = list(parts[0].shape)
    if len(parts) == 1:
        return parts[0]
    shape[dim] = len(parts) * shape[dim] if shape[dim] > 0 else MEMORIES[len(parts) - 1]
    return graph.add("Concat", parts, tuple(shape), axis=dim)


@own_rule("token_losses")
def _token_losses_dims(ctx: Inference, call: Call) -> None:
    ids, logits = ctx.tensor_dims(call.arguments["ids"]), ctx.tensor_dims(call.arguments["logits"])
    fix(logits[2], "the vocabulary")
    ctx.returns(call, [ids[0], ctx.dynamic(PAST_NAME, find(ids[1]).size - 1)])


@onnx_of("token_losses")
def token_losses(graph: Graph, logits: Value, ids: Value) -> Value:
    """`supernets.networks.tokens.token_losses`: (n, tokens, vocabulary), (n, tokens) -> (n, tokens - 1)."""
    (n, tokens), vocabulary, ones = ids.shape, logits.shape[2], graph.numbers([1])
    fewer = tokens - 1 if tokens > 0 else PAST  # every token but the last is before another
    before = graph.add("Slice", [logits, graph.numbers([0]), graph.numbers([-1]), ones], (n, fewer, vocabulary))
    likelihood = graph.add("LogSoftmax", [before], before.shape, axis=2)
    after = graph.add("Slice", [ids, ones, graph.numbers([np.iinfo(np.int64).max]), ones], (n, fewer))
    at = graph.add("Unsqueeze", [after, graph.numbers([2])], (n, fewer, 1))
    token_likelihood = graph.add("GatherElements", [likelihood, at], at.shape, axis=2)
    return graph.add("Neg", [graph.add("Squeeze", [token_likelihood, graph.numbers([2])], after.shape)], after.shape)
