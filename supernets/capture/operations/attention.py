"""Attention as one operation."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from supernets.capture.dimensions import (
    divide,
    find,
    fix,
    unify,
)
from supernets.capture.inference import Inference
from supernets.capture.lowering.state import Lowering, lowers
from supernets.capture.operations.registry import (
    Products,
    dims_of,
    rule_of,
    work_of,
)
from supernets.capture.program import Call, Ref
from supernets.errors import LoweringError


@rule_of("scaled_dot_product_attention")
def _attention_dims(ctx: Inference, call: Call) -> None:
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


@work_of("nas_one.attend_grouped", "scaled_dot_product_attention")
def _attention_work(inference: Inference, call: Call) -> Products:
    query, key, value = (dims_of(inference, call.arguments[name]) for name in ("query", "key", "value"))
    return [[*query[:-1], key[-2], query[-1]], [*query[:-1], key[-2], value[-1]]]


@lowers("scaled_dot_product_attention")
def _lower_attention(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("enable_gqa") or a.get("dropout_p"):
        raise LoweringError("there is no rule for attention with grouped queries or dropout")
    query, key = low.shape(cast(Ref, a["query"]).name), low.shape(cast(Ref, a["key"]).name)
    scale = cast(float | None, a.get("scale")) or query[-1] ** -0.5
    order = [*range(len(key) - 2), len(key) - 1, len(key) - 2]
    scaled = low.one("Mul", low.tensor(a["query"]), low.scalar(scale))
    scores = low.one("MatMul", scaled, low.one("Transpose", low.tensor(a["key"]), perm=tuple(order)))
    if a.get("is_causal"):
        mask = np.triu(np.full((query[-2], key[-2]), -np.inf, dtype=np.float32), 1)
        scores = low.one("Add", scores, low.graph.constant(mask))
    if a["attn_mask"] is not None:
        mask_value = low.tensor(a["attn_mask"])
        if low.dtype(a["attn_mask"]) == "bool":
            scores = low.one("Where", mask_value, scores, low.scalar(-math.inf))
        else:
            scores = low.one("Add", scores, mask_value)
    low.returns(call, low.one("MatMul", low.one("Softmax", scores, axis=-1), low.tensor(a["value"])))
