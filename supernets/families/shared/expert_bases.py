"""Experts of pretrained networks as factors on a base that a layer's experts have in common."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from supernets.experts.low_rank import common_factors
from supernets.families.shared.transformer import TransformerFamily


def with_bases(family: TransformerFamily, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a family's largest network, whose experts are factors if its spec has an `expert_rank`.

    The first matrices of all experts of a layer become factors on one base (`common_factors`). Where its rank is the width,
    the network computes what it did; a smaller rank is the first channels of it, of the least squared error.

    Args:
        family: Family of the networks.
        tensors: Tensors of the largest network by name, with whole matrices of experts; what they have as a base is replaced.
    """
    largest_tensors = dict(tensors)
    if family.spec.expert_rank is None:
        return largest_tensors
    for module in family.modules_of_layers("mlp"):
        names = [name for name in (f"{module}.up", f"{module}.gate") if name in largest_tensors]
        factors, base = common_factors(
            torch.cat([largest_tensors[name] for name in names], dim=1), family.spec.expert_rank[-1]
        )
        largest_tensors |= dict(zip(names, factors.chunk(len(names), dim=1), strict=True))
        largest_tensors[f"{module}.base.weight"] = base
    return largest_tensors
