"""Sorts units by importance, so that smaller networks get the units that matter most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from supernets.axes import Axes, Dim, axes_in, units_of
from supernets.base import Supernet
from supernets.errors import SpaceError


@torch.no_grad()
def importance(supernet: Supernet) -> dict[str, Tensor]:
    """How much each unit of each prefix axis matters: the L1 norm of the weights that read it.

    Once-for-all's rule for channels that an expansion makes (Cai et al. 2020, arXiv 1908.09791), written for any axis:
    absolute weights of the largest subnet, as the sharing makes them, are summed over all convolutions and linear layers
    that have the axis among their inputs. Where none has, it is the weights that make the units.

    Returns:
        (size,) for each prefix axis that a convolution or linear layer has.
    """
    family = supernet.family
    weights, dims = supernet.weights(family.space.largest), family.dims()
    made: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    for name, module in supernet.sharing.template.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight, (outputs, inputs, *_) = weights[f"{name}.weight"].cpu().abs(), dims[f"{name}.weight"]
            weight = weight.flatten(2).sum(dim=2) if weight.ndim > 2 else weight
            _add(made, family.axes, outputs, weight.sum(dim=1))
            _add(read, family.axes, inputs, weight.sum(dim=0))
    found = made | read
    return {axis: found[axis] for axis in family.axes if axis in found}


def orders(importance: Mapping[str, Tensor], groups: Mapping[str, Sequence[int]] | None = None) -> dict[str, Tensor]:
    """The permutation of each axis that puts the more important units first, for `Supernet.sort`.

    Args:
        importance: (size,) by axis, of any scale; equal units keep their order.
        groups: sizes by axis that smaller networks were already trained with: units are reordered between two of them
            alone, so that each of those networks keeps its units, as in Once-for-all's later phases. None: one group.

    Returns:
        (size,) by axis: position i gets the unit order[i].

    Raises:
        SpaceError: a group ends outside of its axis, or the axis is unknown.
    """
    groups = groups or {}
    if unknown := sorted(groups.keys() - importance.keys()):
        raise SpaceError(f"groups of the axis {unknown[0]!r}, which has no importance; known: {', '.join(importance)}")
    found = {}
    for axis, values in importance.items():
        size = len(values)
        ends = sorted({0, *groups.get(axis, ()), size})
        if ends[0] < 0 or ends[-1] > size:
            raise SpaceError(f"axis {axis} has {size} units; got groups that end at {list(groups[axis])}")
        parts = [start + values[start:end].argsort(descending=True, stable=True) for start, end in pairwise(ends)]
        found[axis] = torch.cat(parts)
    return found


def _add(found: dict[str, Tensor], axes: Axes, dim: Dim, totals: Tensor) -> None:
    """Adds what each position of a tensor's dimension came to to the units of its axes."""
    for name in axes_in(dim):
        if axes[name].slice == "prefix":
            units = units_of(dim, axes, name)
            own = found.setdefault(name, torch.zeros(axes[name].size))
            own.index_add_(0, units[units >= 0], totals[units >= 0])
