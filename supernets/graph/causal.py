"""Lowering rules for the functions of causal attention in `supernets.tokens`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supernets.graph.functions import add, chunk, concatenate, matmul, multiply, permute, softmax, subtract
from supernets.graph.ir import CONTEXT, MEMORIES, PAST, Graph, Shape, Value
from supernets.tokens import MASKED

_FLOAT, _INT = 1, 6
"""ONNX's numbers of 32-bit floats and integers."""


def _whole(graph: Graph, number: int) -> Value:
    return graph.constant(np.array(number, dtype=np.int64))


def _size(graph: Graph, x: Value, dim: int) -> Value:
    """A size as a number without dimensions."""
    if x.shape[dim] > 0:
        return _whole(graph, x.shape[dim])
    size = graph.add("Shape", [x], (1,), start=dim, end=dim + 1)
    return graph.add("Squeeze", [size, graph.numbers([0])], ())


def _ends(graph: Graph, ids: Value, past: Value | None, filled: Value | None) -> tuple[Value, Value, int]:
    """The number of tokens before, that of all tokens, and the latter's size in shapes."""
    tokens = _size(graph, ids, 1)
    if past is None:
        return _whole(graph, 0), tokens, ids.shape[1]
    before = _size(graph, past, 2) if filled is None else graph.add("Squeeze", [filled, graph.numbers([0])], ())
    return before, graph.add("Add", [before, tokens], ()), _total(past.shape[2], ids.shape[1])


def _total(before: int, tokens: int) -> int:
    return before + tokens if before > 0 and tokens > 0 else CONTEXT


def _counted(graph: Graph, start: Value, end: Value, size: int, axes: list[int], shape: Shape) -> Value:
    """The numbers from start to end as a tensor of this shape, whose other sizes are 1."""
    numbers = graph.add("Range", [start, end, _whole(graph, 1)], (size,))
    return graph.add("Unsqueeze", [numbers, graph.numbers(axes)], shape)


def token_positions(
    graph: Graph, ids: Value, padding: Value | None = None, past: Value | None = None, filled: Value | None = None
) -> Value:
    """`supernets.tokens.token_positions`: (n, tokens) -> (1 or n, tokens)."""
    start, end, _ = _ends(graph, ids, past, filled)
    positions = _counted(graph, start, end, ids.shape[1], [0], (1, ids.shape[1]))
    if padding is None:
        return positions
    own = graph.add("Unsqueeze", [padding, graph.numbers([1])], (*padding.shape, 1))
    later = subtract(graph, positions, own)
    return graph.add("Max", [later, _whole(graph, 0)], later.shape)


def causal_mask(
    graph: Graph, ids: Value, padding: Value | None = None, past: Value | None = None, filled: Value | None = None
) -> Value:
    """`supernets.tokens.causal_mask`: (n, tokens) -> (1 or n, 1, tokens, all tokens)."""
    start, end, total = _ends(graph, ids, past, filled)
    tokens = ids.shape[1]
    keys = _counted(graph, _whole(graph, 0), end, total, [0, 1, 2], (1, 1, 1, total))

    def masked(low: Value, high: Value, shape: Shape) -> Value:
        less = graph.add("Cast", [graph.add("Less", [low, high], shape)], shape, to=_FLOAT)
        return multiply(graph, less, MASKED)

    of_padding = None
    if padding is not None:
        own = graph.add("Unsqueeze", [padding, graph.numbers([1, 2, 3])], (*padding.shape, 1, 1, 1))
        of_padding = masked(keys, own, (*padding.shape, 1, 1, total))
    if tokens == 1 and of_padding is not None:  # no token is later than the only one
        return of_padding
    queries = _counted(graph, start, end, tokens, [0, 1, 3], (1, 1, tokens, 1))
    later = masked(queries, keys, (1, 1, tokens, total))
    return later if of_padding is None else add(graph, later, of_padding)


def rotation(graph: Graph, positions: Value, frequencies: tuple[float, ...]) -> tuple[Value, Value]:
    """`supernets.tokens.rotation`: (m, tokens) -> twice (m, 1, tokens, frequencies)."""
    n, tokens = positions.shape
    floats = graph.add("Cast", [positions], positions.shape, to=_FLOAT)
    column = graph.add("Unsqueeze", [floats, graph.numbers([1, 3])], (n, 1, tokens, 1))
    angles = multiply(graph, column, graph.constant(np.array(frequencies, dtype=np.float32)))
    return graph.add("Cos", [angles], angles.shape), graph.add("Sin", [angles], angles.shape)


def rotated(graph: Graph, x: Value, cosine: Value, sine: Value) -> Value:
    """`supernets.tokens.rotated`: (n, heads, tokens, channels) -> the same."""
    first, second = chunk(graph, x, 2, -1)
    turned = (
        subtract(graph, multiply(graph, first, cosine), multiply(graph, second, sine)),
        add(graph, multiply(graph, second, cosine), multiply(graph, first, sine)),
    )
    return concatenate(graph, turned, -1)


def rows_at(graph: Graph, table: Value, positions: Value) -> Value:
    """`supernets.tokens.rows_at`: (rows, width), (m, tokens) -> (m, tokens, width)."""
    return graph.add("Gather", [table, positions], (*positions.shape, table.shape[1]), axis=0)


def by_head(graph: Graph, x: Value, head_size: int) -> Value:
    """`supernets.tokens.by_head`: (n, tokens, heads x head_size) -> (n, heads, tokens, head_size)."""
    n, tokens, channels = x.shape
    heads = channels // head_size
    if tokens == 1:
        return graph.add("Reshape", [x, graph.numbers([0, heads, 1, head_size])], (n, heads, 1, head_size))
    parted = graph.add("Reshape", [x, graph.numbers([0, 0, heads, head_size])], (n, tokens, heads, head_size))
    return permute(graph, parted, 0, 2, 1, 3)


def appended(graph: Graph, past: Value, new: Value) -> Value:
    """`supernets.tokens.appended`: (n, heads, past, size), (n, heads, tokens, size) -> (n, heads, all tokens, size)."""
    n, heads, before, size = past.shape
    return graph.add("Concat", [past, new], (n, heads, _total(before, new.shape[2]), size), axis=2)


def attend_grouped(graph: Graph, query: Value, key: Value, value: Value, mask: Value) -> Value:
    """`supernets.tokens.attend_grouped`: (n, heads, tokens, head_size) -> (n, tokens, heads x head_size)."""
    n, heads, tokens, head_size = query.shape
    groups, total = key.shape[1], key.shape[2]
    own, channels = heads // groups, heads * head_size
    scaled = multiply(graph, query, head_size**-0.5)

    def reshaped(x: Value, sizes: list[int], shape: Shape) -> Value:
        return graph.add("Reshape", [x, graph.numbers(sizes)], shape)

    if tokens == 1:  # the queries of a group are the rows of one product
        by_group = reshaped(scaled, [0, groups, own, head_size], (n, groups, own, head_size))
        scores = add(graph, matmul(graph, by_group, permute(graph, key, 0, 1, 3, 2)), mask)
        return reshaped(matmul(graph, softmax(graph, scores, -1), value), [0, 1, channels], (n, 1, channels))
    if own > 1:
        scaled = reshaped(scaled, [0, groups, own, -1, head_size], (n, groups, own, tokens, head_size))
        key, value = (
            graph.add("Unsqueeze", [x, graph.numbers([2])], (n, groups, 1, total, head_size)) for x in (key, value)
        )
        mask = graph.add("Unsqueeze", [mask, graph.numbers([2])], (*mask.shape[:2], 1, *mask.shape[2:]))
    last = key.rank - 1
    transposed = permute(graph, key, [*range(last - 1), last, last - 1])
    mixed = matmul(graph, softmax(graph, add(graph, matmul(graph, scaled, transposed), mask), -1), value)
    if own > 1:
        mixed = reshaped(mixed, [0, heads, -1, head_size], (n, heads, tokens, head_size))
    return reshaped(permute(graph, mixed, 0, 2, 1, 3), [0, 0, channels], (n, tokens, channels))


def attend_filled(
    graph: Graph, query: Value, key: Value, value: Value, keys: Value, values: Value, mask: Value, filled: Value
) -> tuple[Value, ...]:
    """`supernets.tokens.attend_filled`, by an operation of ONNX Runtime, which writes into the cache where its output is in
    the same memory."""
    n, heads, _, size = query.shape
    groups = key.shape[1]

    def joined(x: Value, heads: int) -> Value:
        return graph.add("Reshape", [x, graph.numbers([0, 1, heads * size])], (n, 1, heads * size))

    # For each text the number of tokens before, and that of all tokens, as 32-bit integers.
    nothing = graph.add("Shape", [query], (1,), start=0, end=1)
    before = graph.add("Cast", [graph.add("Expand", [filled, nothing], (n,))], (n,), to=_INT)
    last = graph.add("Squeeze", [filled, graph.numbers([0])], ())
    total = graph.add("Cast", [graph.add("Add", [last, _whole(graph, 1)], ())], (), to=_INT)
    tokens = [joined(query, heads), joined(key, groups), joined(value, groups)]
    inputs = [*tokens, keys, values, before, total, None, None, None, mask]
    shapes = [(n, 1, heads * size), keys.shape, values.shape]
    settings = {"num_heads": heads, "kv_num_heads": groups, "scale": size**-0.5}
    return tuple(graph.add_many("GroupQueryAttention", inputs, shapes, **settings))


def gated_heads(graph: Graph, x: Value, gates: Value, key: Value) -> Value:
    """`supernets.tokens.gated_heads`: (n, tokens, channels), (n, tokens, experts) -> (n, tokens, channels)."""
    n, tokens, channels = x.shape
    groups, experts = key.shape[1], gates.shape[2]
    own = channels // (groups * experts)
    sizes = graph.numbers([0, 0, groups, experts, own])
    by_expert = graph.add("Reshape", [x, sizes], (n, tokens, groups, experts, own))
    factors = graph.add("Unsqueeze", [gates, graph.numbers([2, 4])], (n, tokens, 1, experts, 1))
    return graph.add("Reshape", [multiply(graph, by_expert, factors), graph.numbers([0, 0, channels])], x.shape)


def last_token(graph: Graph, x: Value) -> Value:
    """`supernets.tokens.last_token`: (n, tokens, channels) -> (n, channels)."""
    return graph.add("Gather", [x, _whole(graph, -1)], (x.shape[0], x.shape[2]), axis=1)


def divided(graph: Graph, ids: Value, first: int) -> tuple[Value, Value]:
    """`supernets.tokens.divided`: (n, tokens) -> (n, first), (n, tokens - first)."""
    n, tokens = ids.shape
    ends, one = [graph.numbers([at]) for at in (0, first, np.iinfo(np.int64).max)], graph.numbers([1])
    source = graph.add("Slice", [ids, ends[0], ends[1], one], (n, first))
    rest = tokens - first if tokens > 0 else CONTEXT
    return source, graph.add("Slice", [ids, ends[1], ends[2], one], (n, rest))


def joined(graph: Graph, parts: Sequence[Value], dim: int) -> Value:
    """`supernets.tokens.joined`: tensors of one shape along a dimension, perhaps that of the tokens."""
    shape = list(parts[0].shape)
    if len(parts) == 1:
        return parts[0]
    shape[dim] = len(parts) * shape[dim] if shape[dim] > 0 else MEMORIES[len(parts) - 1]
    return graph.add("Concat", parts, tuple(shape), axis=dim)


def token_losses(graph: Graph, logits: Value, ids: Value) -> Value:
    """`supernets.tokens.token_losses`: (n, tokens, vocabulary), (n, tokens) -> (n, tokens - 1)."""
    (n, tokens), vocabulary, one = ids.shape, logits.shape[2], graph.numbers([1])
    fewer = tokens - 1 if tokens > 0 else PAST  # every token but the last is before another
    before = graph.add("Slice", [logits, graph.numbers([0]), graph.numbers([-1]), one], (n, fewer, vocabulary))
    likelihood = graph.add("LogSoftmax", [before], before.shape, axis=2)
    after = graph.add("Slice", [ids, one, graph.numbers([np.iinfo(np.int64).max]), one], (n, fewer))
    at = graph.add("Unsqueeze", [after, graph.numbers([2])], (n, fewer, 1))
    found = graph.add("GatherElements", [likelihood, at], at.shape, axis=2)
    return graph.add("Neg", [graph.add("Squeeze", [found, graph.numbers([2])], after.shape)], after.shape)


RULES = (
    token_positions, causal_mask, rotation, rotated, rows_at, by_head, appended, attend_grouped, attend_filled,
    gated_heads, last_token, divided, joined, token_losses,
)  # fmt: skip
"""Each of the function of its name."""
