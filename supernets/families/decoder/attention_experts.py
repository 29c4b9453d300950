"""Attention experts of a decoder as copies of a pretrained network's attention."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from supernets.families.decoder.spec import DecoderSpec
from supernets.families.shared.transformer import TransformerFamily


def has_attention_experts(family: TransformerFamily) -> bool:
    """Returns True if the layers of a family's networks have attention experts."""
    return isinstance(family.spec, DecoderSpec) and family.spec.attention_experts is not None


def with_attention_copies(family: TransformerFamily, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a family's largest network, whose attention experts, if it has some, are copies of one attention.

    The factors of the experts add up to 1, so that the network computes what it did with one, whatever its routers.

    Args:
        family: Family of the networks.
        tensors: Tensors of the largest network by name, with the queries and projections of one attention in each layer, and
            with the routers of the experts.
    """
    largest_tensors = dict(tensors)
    if not has_attention_experts(family):
        return largest_tensors
    groups, n = family.spec.heads[-1], family.spec.attention_experts[-1]
    for module in family.modules_of_layers("attention"):
        for name in (f"{module}.query.weight", f"{module}.query.bias"):
            if name in largest_tensors:
                largest_tensors[name] = _repeated(largest_tensors[name], groups, n)
        project = f"{module}.project.weight"
        largest_tensors[project] = _repeated(largest_tensors[project].T.contiguous(), groups, n).T.contiguous()
    return largest_tensors


def _repeated(rows: Tensor, groups: int, n: int) -> Tensor:
    """The rows of each group, n times: (groups x k, ...) -> (groups x n x k, ...)."""
    return rows.view(groups, -1, *rows.shape[1:]).repeat_interleave(n, dim=0).flatten(0, 1)
