"""Layers of experts in the families of transformers: their choices and dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from supernets.families.shared.transformer_spec import ExpertsSpec
from supernets.space import Choice, Option
from supernets.space.axes import Concat, Dim, NamedDims

KINDS = ("experts", "active_experts")
"""Choices of a layer, and axes of its tensors."""
RANK, NULLS, TOP_P = "expert_rank", "null_experts", "top_p"
"""Three more: where a layer's experts read tokens through a common base, where it has experts that compute nothing, and where
tokens have as many experts as have a sum of probabilities."""

SHARED = "shared"
"""The value of `ExpertsSpec.routers` for a network that has one router."""


def expert_kinds(spec: ExpertsSpec) -> tuple[str, ...]:
    """The choices of each layer that are about experts; none without experts."""
    if spec.experts is None:
        return ()
    return (*KINDS, *(name for name in (RANK, NULLS, TOP_P) if getattr(spec, name) is not None))


def expert_choices(spec: ExpertsSpec, layer: str, requires: tuple[str, int] | None) -> Iterator[Choice]:
    """The choices of a layer, by the name of its choices; none without experts."""
    if spec.experts is None or spec.active_experts is None:
        return
    yield Choice(f"{layer}.experts", spec.experts, requires)
    highest_levels = tuple(sum(active <= n_experts for active in spec.active_experts) - 1 for n_experts in spec.experts)
    yield Choice(f"{layer}.active_experts", spec.active_experts, (f"{layer}.experts", 0), highest_levels)
    for name in expert_kinds(spec)[len(KINDS) :]:
        yield Choice(f"{layer}.{name}", getattr(spec, name), requires)


def top_p_options(spec: ExpertsSpec, chosen: Mapping[str, Option]) -> tuple[float, ...]:
    """The options of `top_p` of a layer up to the chosen one, whose number is the size of the axis; () without `top_p`."""
    return () if spec.top_p is None else spec.top_p[: spec.top_p.index(cast(float, chosen[TOP_P])) + 1]


def expert_dims(spec: ExpertsSpec, layer: str) -> Mapping[str, NamedDims]:
    """Dimensions of an `ExpertLayer`, by the name of its layer's choices."""
    experts, rank = f"{layer}.experts", f"{layer}.{RANK}"
    routed: Dim = experts if spec.null_experts is None else Concat((experts, f"{layer}.{NULLS}"))
    dims: dict[str, NamedDims] = {"active": (f"{layer}.active_experts",), "up": (experts, f"{layer}.hidden", ...)}
    dims |= {"columns": (experts,)} if spec.routers == SHARED else {"router.weight": (routed, ...)}
    if spec.expert_rank is not None:
        dims["base.weight"] = (rank, ...)
    if spec.top_p is not None:
        dims[TOP_P] = (f"{layer}.{TOP_P}",)
    return dims
