"""Attention as one operation."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import divide, find, fix, unify
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Argument, Call
from supernets.networks.lowering.state import Lowering
from supernets.networks.onnx_graph.ir import Value
from supernets.networks.operations.registry import Products, ResultDims, ResultValues, dims_of, lowers, rule_of, work_of
from supernets.networks.own_operations import NAMESPACE


@rule_of("scaled_dot_product_attention")
def _attention_dims(ctx: Inference, call: Call) -> ResultDims:
    query, key, value = (ctx.tensor_dims(call.arguments[name]) for name in ("query", "key", "value"))
    if call.arguments["is_causal"]:
        for position in (query[-2], key[-2]):
            fix(position, "attention depends on the order")
    joined = unify(query[-1], key[-1])
    if not ctx.is_declared(joined):
        fix(joined, "the size of a head, whose root scales attention")
    unify(key[-2], value[-2])
    outer = query[:-2]
    for i, (q, k, v) in enumerate(zip(query[:-2], key[:-2], value[:-2], strict=True)):
        shared = unify(k, v)
        if find(q).size == find(shared).size:
            outer[i] = unify(q, shared)
        elif call.arguments["enable_gqa"]:  # grouped queries: each key serves several heads, one after another
            groups, _ = divide(q, [find(shared).size, find(q).size // find(shared).size])
            unify(groups, shared)
            outer[i] = q
    if (mask := ctx.optional_dims(call.arguments["attn_mask"])) is not None:
        ctx.broadcast([mask, [*outer, query[-2], key[-2]]])
    return [*outer, query[-2], value[-1]]


@work_of(f"{NAMESPACE}.attend_grouped", "scaled_dot_product_attention")
def _attention_work(inference: Inference, call: Call) -> Products:
    query, key, value = (dims_of(inference, call.arguments[name]) for name in ("query", "key", "value"))
    return [[*query[:-1], key[-2], query[-1]], [*query[:-1], key[-2], value[-1]]]


@lowers("scaled_dot_product_attention")
def _lower_attention(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    if a["dropout_p"]:
        raise LoweringError("there is no rule for attention with dropout")
    query, key, value = (low.shape(a[name]) for name in ("query", "key", "value"))
    x, keys, values = (low.tensor(a[name]) for name in ("query", "key", "value"))
    mask = None if a["attn_mask"] is None else low.tensor(a["attn_mask"])
    scale = query[-1] ** -0.5 if a["scale"] is None else cast(float, a["scale"])
    grouped, stacked, rank = bool(a["enable_gqa"]) and query[-3] != key[-3], _is_stacked(low, call), len(query)
    if stacked:  # the queries of a group's heads one below the other: one product for each head of the keys
        n_stacked = query[1] // key[1] * query[2]
        x = low.add("Reshape", x, low.numbers([0, key[1], n_stacked, query[3]]))
    elif grouped:  # the queries of a group have a dimension of their own, in which they share keys and values
        if rank != _RANK:
            raise LoweringError("there is no rule for attention with grouped queries of another rank than 4")
        x, rank = low.add("Reshape", x, low.numbers([0, key[1], query[1] // key[1], -1, query[-1]])), 5
        keys, values = (low.add("Unsqueeze", tensor, low.numbers([2])) for tensor in (keys, values))
        mask = None if mask is None else _grouped_mask(low, a["attn_mask"], mask, key[1])
    if len(key) != len(query) or len(value) != len(query):
        raise LoweringError("there is no rule for attention whose keys have another rank than its queries")
    order = (*range(rank - 2), rank - 1, rank - 2)
    scores = low.add("MatMul", low.add("Mul", x, low.scalar(scale)), low.add("Transpose", keys, perm=order))
    by_head = stacked and (mask is not None or a["is_causal"])
    if by_head:
        scores = low.add("Reshape", scores, low.numbers([0, query[1], query[2], key[2]]))
    weights = low.add("Softmax", _masked(low, call, scores, mask), axis=-1)
    if by_head:
        weights = low.add("Reshape", weights, low.numbers([0, key[1], n_stacked, key[2]]))
    out = low.add("MatMul", weights, values)
    if grouped:
        out = low.add("Reshape", out, low.numbers([0, query[1], query[2] if stacked else -1, value[-1]]))
    return out


def _masked(low: Lowering, call: Call, scores: Value, mask: Value | None) -> Value:
    """The scores of attention after its masks."""
    a = call.arguments
    query, key = (low.shape(a[name]) for name in ("query", "key"))
    if a["is_causal"]:
        if {len(query) - 2, len(key) - 2}.intersection(low.dynamic(a["query"])):
            raise LoweringError("there is no rule for causal attention over a dynamic number of tokens")
        constant = np.triu(np.full((query[-2], key[-2]), -np.inf, dtype=np.float32), 1)
        scores = low.add("Add", scores, low.constant(constant))
    if mask is None:
        return scores
    if low.dtype(a["attn_mask"]) == "bool":
        return low.add("Where", mask, scores, low.scalar(-math.inf))
    return low.add("Add", scores, mask)


def _is_stacked(low: Lowering, call: Call) -> bool:
    """Returns whether the queries of a group are stacked: of users' models, where the batch alone is dynamic."""
    operands = [call.arguments[name] for name in ("query", "key", "value")]
    query, key, value = map(low.shape, operands)
    if not call.arguments["enable_gqa"] or query[-3:-2] == key[-3:-2] or low.declared:
        return False
    same_rank = len(query) == len(key) == len(value) == _RANK and key[1] == value[1]
    return same_rank and all(set(low.dynamic(operand)) <= {0} for operand in operands)


_RANK = 4
"""Dimensions of queries: examples, heads, tokens and channels."""


def _grouped_mask(low: Lowering, argument: Argument, mask: Value, n_groups: int) -> Value:
    """A mask of attention for queries whose heads are divided into groups."""
    shape = low.shape(argument)
    if len(shape) < 3 or shape[-3] == 1:
        return mask if len(shape) < 4 else low.add("Unsqueeze", mask, low.numbers([2]))
    dynamic = low.dynamic(argument)
    if len(dynamic) > 1:
        raise LoweringError("there is no rule for a mask of each head with several dynamic sizes")
    *examples, heads, queries, keys = (-1 if i in dynamic else size for i, size in enumerate(shape))
    return low.add("Reshape", mask, low.numbers([*examples, n_groups, heads // n_groups, queries, keys]))
