"""The operations of `supernets.networks.tokens` and `resizing` in programs: their dimensions, their work and their ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import cast

import numpy as np

from supernets.networks.capture.dimensions import Dimension, divide, find, fix, fixed, product, unify
from supernets.networks.capture.inference import Dims, Inference
from supernets.networks.capture.program import Argument, Call, refs
from supernets.networks.lowering.state import FLOAT, Lowering
from supernets.networks.onnx_graph.ir import Value
from supernets.networks.operations.linear import linear
from supernets.networks.operations.registry import Products, ResultDims, dims_of, onnx_of, own, rule_of, work_of
from supernets.networks.resizing import onnx_scale
from supernets.networks.tokens import MASKED

ONE, CONTEXT_NAME, PAST_NAME = "a size of 1", "context", "past"
_INT32 = 6
"""ONNX's number of 32-bit integers."""


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


@rule_of(own("resize"))
def _resize_dims(ctx: Inference, call: Call) -> ResultDims:
    x, side = ctx.tensor_dims(call.arguments["x"]), cast(int, call.arguments["side"])
    return [*x[:2], *(fixed(side, "an extent of the image") for _ in range(2))]


@rule_of(own("resized"))
def _resized_dims(ctx: Inference, call: Call) -> ResultDims:
    x, pixels = ctx.tensor_dims(call.arguments["x"]), ctx.tensor_dims(call.arguments["pixels"])
    return [*x[:2], pixels[0], pixels[0]]


@onnx_of("resize")
def resize(low: Lowering, x: Value, side: int) -> Value:
    """`supernets.networks.resizing.resize`: written with scales, which every runtime supports."""
    if (side, side) == x.shape[2:]:
        return x
    scales = [np.float32(1), np.float32(1), *(onnx_scale(old, side) for old in x.shape[2:])]
    settings = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return low.add("Resize", x, None, low.constant(np.array(scales)), **settings)


@onnx_of("resized")
def resized(low: Lowering, x: Value, pixels: Value) -> Value:
    """`supernets.networks.resizing.resized`."""
    return resize(low, x, pixels.shape[0])


@rule_of(own("padding_mask"), neutral=("padding",))
def _padding_mask_dims(ctx: Inference, call: Call) -> ResultDims:
    ids = ctx.tensor_dims(call.arguments["ids"])
    return [ids[0], fixed(1, ONE), fixed(1, ONE), ids[1]]


@onnx_of("padding_mask")
def padding_mask(low: Lowering, ids: Value, padding: int) -> Value:
    """`supernets.networks.tokens.padding_mask`: (n, tokens) integers -> (n, 1, 1, tokens)."""
    same = low.add("Equal", ids, low.whole(padding))
    masked = low.add("Mul", low.add("Cast", same, to=FLOAT), low.scalar(MASKED))
    return low.add("Unsqueeze", masked, low.numbers([1, 2]))


@rule_of(own("first_rows"))
def _first_rows_dims(ctx: Inference, call: Call) -> ResultDims:
    table, ids = ctx.tensor_dims(call.arguments["table"]), ctx.tensor_dims(call.arguments["ids"])
    fix(table[0], "the rows of a table")
    return [ids[1], table[1]]


@onnx_of("first_rows")
def first_rows(low: Lowering, table: Value, ids: Value) -> Value:
    """`supernets.networks.tokens.first_rows`: (rows, width), (n, tokens) -> (tokens, width)."""
    tokens, zero = low.add("Shape", ids, start=1, end=2), low.numbers([0])
    return low.add("Slice", table, zero, tokens, zero)


@rule_of(own("attend"), neutral=("mask",))
def _attend_dims(ctx: Inference, call: Call) -> ResultDims:
    query, key, value = (ctx.tensor_dims(call.arguments[name]) for name in ("query", "key", "value"))
    for channels in (query[2], key[2], value[2]):
        _heads(channels, call)
    unify(unify(query[2], key[2]), value[2])
    return query


@work_of(own("attend"))
def _attend_work(inference: Inference, call: Call) -> Products:
    query = dims_of(inference, call.arguments["query"])
    return [[*query, query[1]], [*query, query[1]]]


@onnx_of("attend")
def attend(low: Lowering, query: Value, key: Value, value: Value, head_size: int, mask: Value | None = None) -> Value:
    """`supernets.networks.tokens.attend`: (n, tokens, heads x head_size) -> the same."""
    channels = query.shape[2]

    def split(x: Value, *order: int) -> Value:
        # In ONNX 0 keeps a size, so that both dynamic dimensions stay unknown.
        parted = low.add("Reshape", x, low.numbers([0, 0, channels // head_size, head_size]))
        return low.add("Transpose", parted, perm=order)

    scaled = split(low.add("Mul", query, low.scalar(head_size**-0.5)), 0, 2, 1, 3)
    scores = low.add("MatMul", scaled, split(key, 0, 2, 3, 1))
    scores = scores if mask is None else low.add("Add", scores, mask)
    mixed = low.add("MatMul", low.add("Softmax", scores, axis=3), split(value, 0, 2, 1, 3))
    return low.add("Reshape", low.add("Transpose", mixed, perm=(0, 2, 1, 3)), low.numbers([0, 0, channels]))


def _size(low: Lowering, x: Value, dim: int) -> Value:
    """A size as a number without dimensions."""
    if x.shape[dim] > 0:
        return low.whole(x.shape[dim])
    return low.add("Squeeze", low.add("Shape", x, start=dim, end=dim + 1), low.numbers([0]))


def _ends(low: Lowering, ids: Value, past: Value | None, filled: Value | None) -> tuple[Value, Value]:
    """The number of tokens before, and that of all tokens."""
    tokens = _size(low, ids, 1)
    if past is None:
        return low.whole(0), tokens
    before = _size(low, past, 2) if filled is None else low.add("Squeeze", filled, low.numbers([0]))
    return before, low.add("Add", before, tokens)


def _number_range(low: Lowering, start: Value, end: Value, axes: list[int]) -> Value:
    """The numbers from start to end, with further dimensions of size 1 at these positions."""
    return low.add("Unsqueeze", low.add("Range", start, end, low.whole(1)), low.numbers(axes))


@rule_of(own("token_positions"), neutral=("past", "filled"))
def _token_positions_dims(ctx: Inference, call: Call) -> ResultDims:
    ids, padding = ctx.tensor_dims(call.arguments["ids"]), ctx.optional_dims(call.arguments["padding"])
    return [fixed(1, ONE) if padding is None else ids[0], ids[1]]


@onnx_of("token_positions")
def token_positions(
    low: Lowering, ids: Value, padding: Value | None = None, past: Value | None = None, filled: Value | None = None
) -> Value:
    """`supernets.networks.tokens.token_positions`: (n, tokens) -> (1 or n, tokens)."""
    positions = _number_range(low, *_ends(low, ids, past, filled), [0])
    if padding is None:
        return positions
    later = low.add("Sub", positions, low.add("Unsqueeze", padding, low.numbers([1])))
    return low.add("Max", later, low.whole(0))


@rule_of(own("causal_mask"), neutral=("filled", "window"))
def _causal_mask_dims(ctx: Inference, call: Call) -> ResultDims:
    ids, padding, past = (ctx.optional_dims(call.arguments[name]) for name in ("ids", "padding", "past"))
    assert ids is not None
    total = ids[1] if past is None else _all_tokens(ctx, past[2], ids[1])
    return [fixed(1, ONE) if padding is None else ids[0], fixed(1, ONE), ids[1], total]


@onnx_of("causal_mask")
def causal_mask(
    low: Lowering,
    ids: Value,
    padding: Value | None = None,
    past: Value | None = None,
    filled: Value | None = None,
    window: int = 0,
) -> Value:
    """`supernets.networks.tokens.causal_mask`: (n, tokens) -> (1 or n, 1, tokens, all tokens)."""
    start, end = _ends(low, ids, past, filled)
    keys = _number_range(low, low.whole(0), end, [0, 1, 2])

    def masked(smaller: Value, larger: Value) -> Value:
        return low.add("Mul", low.add("Cast", low.add("Less", smaller, larger), to=FLOAT), low.scalar(MASKED))

    masks: list[Value] = []
    if padding is not None:
        masks.append(masked(keys, low.add("Unsqueeze", padding, low.numbers([1, 2, 3]))))
    if ids.shape[1] != 1 or not masks:  # no token is later than the only one
        masks.insert(0, masked(_number_range(low, start, end, [0, 1, 3]), keys))
    if window:
        first = low.add("Sub", _number_range(low, start, end, [0, 1, 3]), low.whole(window - 1))
        masks.append(masked(keys, first))
    return reduce(partial(low.add, "Add"), masks)


@rule_of(own("rotation"))
def _rotation_dims(ctx: Inference, call: Call) -> ResultDims:
    positions = ctx.tensor_dims(call.arguments["positions"])
    n = len(cast(tuple[float, ...], call.arguments["frequencies"]))
    angles = [positions[0], fixed(1, ONE), positions[1], fixed(n, "the frequencies of rotary positions")]
    return angles, angles


@onnx_of("rotation")
def rotation(low: Lowering, positions: Value, frequencies: tuple[float, ...]) -> tuple[Value, Value]:
    """`supernets.networks.tokens.rotation`: (m, tokens) -> twice (m, 1, tokens, frequencies)."""
    column = low.add("Unsqueeze", low.add("Cast", positions, to=FLOAT), low.numbers([1, 3]))
    angles = low.add("Mul", column, low.constant(np.array(frequencies, dtype=np.float32)))
    return low.add("Cos", angles), low.add("Sin", angles)


@rule_of(own("rotated"), neutral=("cosine", "sine"))
def _rotated_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["x"])
    fix(x[-1], "the size of a head")
    return x


@onnx_of("rotated")
def rotated(low: Lowering, x: Value, cosine: Value, sine: Value) -> Value:
    """`supernets.networks.tokens.rotated`: (n, heads, tokens, channels) -> the same."""
    n, others = cosine.shape[3], list[Value]()
    if 2 * n == x.shape[3]:
        first, second = low.add_many("Split", [x], 2, axis=3, num_outputs=2)
    else:
        sizes = low.numbers([n, n, x.shape[3] - 2 * n])
        first, second, *others = low.add_many("Split", [x, sizes], 3, axis=3)
    turned_first = low.add("Sub", low.add("Mul", first, cosine), low.add("Mul", second, sine))
    turned_second = low.add("Add", low.add("Mul", second, cosine), low.add("Mul", first, sine))
    return low.add("Concat", turned_first, turned_second, *others, axis=3)


@rule_of(own("by_head"))
def _by_head_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["x"])
    heads, size = _heads(x[2], call)
    return [x[0], heads, x[1], size]


@onnx_of("by_head")
def by_head(low: Lowering, x: Value, head_size: int) -> Value:
    """`supernets.networks.tokens.by_head`: (n, tokens, heads x head_size) -> (n, heads, tokens, head_size)."""
    heads = x.shape[2] // head_size
    if x.shape[1] == 1:
        return low.add("Reshape", x, low.numbers([0, heads, 1, head_size]))
    return _divided_by_head(low, x, heads, head_size)


def _divided_by_head(low: Lowering, x: Value, heads: int, head_size: int) -> Value:
    return low.add("Transpose", low.add("Reshape", x, low.numbers([0, 0, heads, head_size])), perm=(0, 2, 1, 3))


@rule_of(own("appended"))
def _appended_dims(ctx: Inference, call: Call) -> ResultDims:
    past, new = ctx.tensor_dims(call.arguments["past"]), ctx.tensor_dims(call.arguments["new"])
    batch, heads, size = (unify(past[i], new[i]) for i in (0, 1, 3))
    return [batch, heads, _all_tokens(ctx, past[2], new[2]), size]


@onnx_of("appended")
def appended(low: Lowering, past: Value, new: Value) -> Value:
    """`tokens.appended`: (n, heads, past, size), (n, heads, tokens, size) -> (n, heads, all tokens, size)."""
    return low.add("Concat", past, new, axis=2)


@rule_of(own("attend_grouped"), neutral=("cap",))
def _attend_grouped_dims(ctx: Inference, call: Call) -> ResultDims:
    query, key, value, mask = (ctx.tensor_dims(call.arguments[name]) for name in ("query", "key", "value", "mask"))
    unify(unify(key[2], value[2]), mask[3])
    return _attended(query, key, value)


@onnx_of("attend_grouped")
def attend_grouped(low: Lowering, query: Value, key: Value, value: Value, mask: Value, cap: float = 0.0) -> Value:
    """`supernets.networks.tokens.attend_grouped`: (n, heads, tokens, head_size) -> (n, tokens, heads x head_size)."""
    _, heads, tokens, head_size = query.shape
    groups, channels, last = key.shape[1], heads * head_size, 3
    x = low.add("Mul", query, low.scalar(head_size**-0.5))
    if tokens == 1:  # the queries of a group are the rows of one product
        x = low.add("Reshape", x, low.numbers([0, groups, heads // groups, head_size]))
    elif heads > groups:
        last = 4
        x = low.add("Reshape", x, low.numbers([0, groups, heads // groups, -1, head_size]))
        key, value, mask = (low.add("Unsqueeze", tensor, low.numbers([2])) for tensor in (key, value, mask))
    transposed = low.add("Transpose", key, perm=(*range(last - 1), last, last - 1))
    scores = low.add("MatMul", x, transposed)
    if cap:
        scores = low.add("Mul", low.add("Tanh", low.add("Div", scores, low.scalar(cap))), low.scalar(cap))
    mixed = low.add("MatMul", low.add("Softmax", low.add("Add", scores, mask), axis=last), value)
    if tokens == 1:
        return low.add("Reshape", mixed, low.numbers([0, 1, channels]))
    if heads > groups:
        mixed = low.add("Reshape", mixed, low.numbers([0, heads, -1, head_size]))
    return low.add("Reshape", low.add("Transpose", mixed, perm=(0, 2, 1, 3)), low.numbers([0, 0, channels]))


@rule_of(own("attend_filled"), neutral=("mask", "filled", "cap"))
def _attend_filled_dims(ctx: Inference, call: Call) -> ResultDims:
    query, key, value, keys, values = (
        ctx.tensor_dims(call.arguments[n]) for n in ("query", "key", "value", "keys", "values")
    )
    unify(key[1], keys[1])
    unify(value[1], values[1])
    return _attended(query, key, value), keys, values


@onnx_of("attend_filled")
def attend_filled(
    low: Lowering,
    query: Value,
    key: Value,
    value: Value,
    keys: Value,
    values: Value,
    mask: Value,
    filled: Value,
    cap: float = 0.0,
) -> tuple[Value, ...]:
    """`tokens.attend_filled`, by an operation of ONNX Runtime, which writes into the cache where its output is in
    the same memory."""
    heads, groups, size = query.shape[1], key.shape[1], query.shape[3]
    # For each text the number of tokens before, and that of all tokens, as 32-bit integers.
    nothing = low.add("Shape", query, start=0, end=1)
    before = low.add("Cast", low.add("Expand", filled, nothing), to=_INT32)
    last = low.add("Squeeze", filled, low.numbers([0]))
    total = low.add("Cast", low.add("Add", last, low.whole(1)), to=_INT32)
    tokens = [
        low.add("Reshape", x, low.numbers([0, 1, n * size]))
        for x, n in ((query, heads), (key, groups), (value, groups))
    ]
    inputs = [*tokens, keys, values, before, total, None, None, None, mask]
    settings = {"num_heads": heads, "kv_num_heads": groups, "scale": size**-0.5, **({"softcap": cap} if cap else {})}
    return tuple(low.add_many("GroupQueryAttention", inputs, 3, **settings))


@rule_of(own("gated_heads"))
def _gated_heads_dims(ctx: Inference, call: Call) -> ResultDims:
    x, gates, key = (ctx.tensor_dims(call.arguments[name]) for name in ("x", "gates", "key"))
    n_groups, n_experts = find(key[1]).size, find(gates[2]).size
    groups, experts, _ = divide(x[2], [n_groups, n_experts, find(x[2]).size // n_groups // n_experts])
    unify(groups, key[1])
    unify(experts, gates[2])
    return x


@onnx_of("gated_heads")
def gated_heads(low: Lowering, x: Value, gates: Value, key: Value) -> Value:
    """`supernets.networks.tokens.gated_heads`: (n, tokens, channels), (n, tokens, experts) -> (n, tokens, channels)."""
    channels, groups, experts = x.shape[2], key.shape[1], gates.shape[2]
    sizes = low.numbers([0, 0, groups, experts, channels // (groups * experts)])
    by_expert = low.add("Reshape", x, sizes)
    scaled = low.add("Mul", by_expert, low.add("Unsqueeze", gates, low.numbers([2, 4])))
    return low.add("Reshape", scaled, low.numbers([0, 0, channels]))


@rule_of(own("last_token"))
def _last_token_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["x"])
    return [x[0], x[2]]


@onnx_of("last_token")
def last_token(low: Lowering, x: Value) -> Value:
    """`supernets.networks.tokens.last_token`: (n, tokens, channels) -> (n, channels)."""
    return low.add("Gather", x, low.whole(-1), axis=1)


@rule_of(own("divided"))
def _divided_dims(ctx: Inference, call: Call) -> ResultDims:
    ids, first = ctx.tensor_dims(call.arguments["ids"]), cast(int, call.arguments["first"])
    remaining = ctx.dynamic(CONTEXT_NAME, find(ids[1]).size - first)
    return [ids[0], fixed(first, "the tokens of a source")], [ids[0], remaining]


@onnx_of("divided")
def divided(low: Lowering, ids: Value, first: int) -> tuple[Value, Value]:
    """`supernets.networks.tokens.divided`: (n, tokens) -> (n, first), (n, tokens - first)."""
    start, middle, end = (low.numbers([at]) for at in (0, first, np.iinfo(np.int64).max))
    token_axis = low.numbers([1])
    return low.add("Slice", ids, start, middle, token_axis), low.add("Slice", ids, middle, end, token_axis)


@rule_of(own("cross_memory"))
def _cross_memory_dims(ctx: Inference, call: Call) -> ResultDims:
    outputs = [ctx.tensor_dims(part) for part in cast(tuple[Argument, ...], call.arguments["encoded"])]
    first = outputs[0]
    for output in outputs[1:]:
        first = [unify(a, b) for a, b in zip(first, output, strict=True)]
    key, value, attended = (ctx.tensor_dims(call.arguments[name]) for name in ("key", "value", "attended"))
    unify(key[1], first[2])
    unify(value[1], first[2])
    heads, size = _heads(unify(key[0], value[0]), call)
    memory = [first[0], heads, product([attended[0], first[1]]), size]
    return memory, memory


@work_of(own("cross_memory"))
def _cross_memory_work(inference: Inference, call: Call) -> Products:
    a = call.arguments
    first, key = inference.dims[next(refs(a["encoded"]))], dims_of(inference, a["key"])
    lead = [*first[:2], *dims_of(inference, a["attended"]), key[0]]
    return [([*lead, key[1]], lead)] * 2


@onnx_of("cross_memory")
def cross_memory(
    low: Lowering, encoded: Sequence[Value], key: Value, value: Value, attended: Value, head_size: int
) -> tuple[Value, ...]:
    """`tokens.cross_memory`: (n, tokens, width) of each layer -> (n, heads, layers x tokens, head_size) twice."""
    layers, heads = encoded[-attended.shape[0] :], key.shape[0] // head_size
    weights = (
        [_divided_by_head(low, linear(low, x, weight), heads, head_size) for x in layers] for weight in (key, value)
    )
    return tuple(_concatenated(low, parts, 2) for parts in weights)


@rule_of(own("repeated_mask"))
def _repeated_mask_dims(ctx: Inference, call: Call) -> ResultDims:
    mask, attended = ctx.tensor_dims(call.arguments["mask"]), ctx.tensor_dims(call.arguments["attended"])
    return [*mask[:3], product([attended[0], mask[3]])]


@onnx_of("repeated_mask")
def repeated_mask(low: Lowering, mask: Value, attended: Value) -> Value:
    """`supernets.networks.tokens.repeated_mask`: (n, 1, 1, tokens) -> (n, 1, 1, layers x tokens)."""
    return _concatenated(low, [mask] * attended.shape[0], 3)


def _concatenated(low: Lowering, parts: Sequence[Value], dim: int) -> Value:
    return parts[0] if len(parts) == 1 else low.add("Concat", *parts, axis=dim)


@rule_of(own("token_losses"))
def _token_losses_dims(ctx: Inference, call: Call) -> ResultDims:
    ids, logits = ctx.tensor_dims(call.arguments["ids"]), ctx.tensor_dims(call.arguments["logits"])
    fix(logits[2], "the vocabulary")
    return [ids[0], ctx.dynamic(PAST_NAME, find(ids[1]).size - 1)]


@onnx_of("token_losses")
def token_losses(low: Lowering, logits: Value, ids: Value) -> Value:
    """`supernets.networks.tokens.token_losses`: (n, tokens, vocabulary), (n, tokens) -> (n, tokens - 1)."""
    ones = low.numbers([1])
    before = low.add("Slice", logits, low.numbers([0]), low.numbers([-1]), ones)
    likelihood = low.add("LogSoftmax", before, axis=2)
    after = low.add("Slice", ids, ones, low.numbers([np.iinfo(np.int64).max]), ones)
    token_likelihood = low.add("GatherElements", likelihood, low.add("Unsqueeze", after, low.numbers([2])), axis=2)
    return low.add("Neg", low.add("Squeeze", token_likelihood, low.numbers([2])))
