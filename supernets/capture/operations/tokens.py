"""Operations of families of transformers, beside those of ATen."""

from __future__ import annotations

from supernets.capture.inference import Inference
from supernets.capture.operations.registry import Products, dims_of, work_of
from supernets.capture.program import Call, refs


@work_of("nas_one.mixed_experts")
def _mixed_experts_work(inference: Inference, call: Call) -> Products:
    a, outputs = call.arguments, inference.dims[call.outputs[0]]
    up, lead = dims_of(inference, a["up"]), [*outputs[:-1], *dims_of(inference, a["active"])]
    n_first = 1 + (a["gate"] is not None)
    return [([*lead, up[1], up[2]], [*lead, up[1]])] * n_first + [([*lead, up[1], outputs[-1]], [*lead, outputs[-1]])]


@work_of("nas_one.cross_memory")
def _cross_memory_work(inference: Inference, call: Call) -> Products:
    a = call.arguments
    first, key = inference.dims[next(refs(a["encoded"]))], dims_of(inference, a["key"])
    lead = [*first[:2], *dims_of(inference, a["attended"]), key[0]]
    return [([*lead, key[1]], lead)] * 2


@work_of("nas_one.attend")
def _attend_work(inference: Inference, call: Call) -> Products:
    query = dims_of(inference, call.arguments["query"])
    return [[*query, query[1]], [*query, query[1]]]
