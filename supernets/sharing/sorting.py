"""Sorting of axes by importance, so that smaller networks use the most important channels, heads and neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from supernets.errors import SpaceError
from supernets.networks.live_subnets import clone_tree, place
from supernets.sharing.base import Supernet
from supernets.space.axes import Axes, Dim, axes_in, axis_indices

_invalid_order = partial(SpaceError, code="order.invalid")


@torch.no_grad()
def importance(supernet: Supernet) -> dict[str, Tensor]:
    """The importance of each index of each prefix axis: the L1 norm of the weights that read it.

    Once-for-all's rule for the channels of an expansion (Cai et al. 2020, arXiv 1908.09791), extended to any axis: the sum
    of absolute weights of the largest subnet over all convolutions and linear layers with the axis among their inputs,
    or, if there are none, among their outputs.

    Returns:
        (size,) for each prefix axis of a convolution or linear layer.
    """
    weights = supernet.weights(supernet.family.space.largest)
    return _by_axis(supernet, {name: weights[name].abs() for name in supernet.family.matrices})


def taylor_importance(
    supernet: Supernet, batches: Iterable[tuple[Tensor, Tensor]], loss: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, Tensor]:
    """The importance of each index of each prefix axis: how the loss changes, to first order, when the index is removed.

    That is the squared sum of weight times gradient over the weights that read the index (or, if there are none, that write
    it), averaged over batches (Molchanov et al. 2019, arXiv 1906.10771, equation 8), of the largest subnet in evaluation mode.
    Small batches serve best: a trained network's mean gradient over many examples is near zero.

    Args:
        supernet: The supernet; it is set to evaluation mode.
        batches: Inputs (n, ...) and targets (n, ...) of training examples; at least one batch.
        loss: Function of outputs and targets that returns a scalar.

    Returns:
        (size,) for each prefix axis of a convolution or linear layer.
    """
    supernet.eval()
    largest, importance_by_axis = supernet.family.space.largest, dict[str, Tensor]()
    for inputs, targets in batches:
        weights = supernet.weights(largest)
        matrices = {name: weights[name] for name in supernet.family.matrices}
        network = place(clone_tree(supernet.sharing.template, supernet.family.dropped(largest)), weights)
        gradients = torch.autograd.grad(loss(network(inputs), targets), list(matrices.values()), allow_unused=True)
        changes = {
            name: torch.zeros_like(weight) if gradient is None else weight.detach() * gradient
            for (name, weight), gradient in zip(matrices.items(), gradients, strict=True)
        }
        for axis, change in _by_axis(supernet, changes).items():
            importance_by_axis[axis] = importance_by_axis.get(axis, 0) + change.square()
    return importance_by_axis


def _by_axis(supernet: Supernet, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values of the weights of the largest subnet, summed for each index of each axis over the weights that read it.

    Args:
        values: Values with the shapes of the weights, by name.

    Returns:
        (size,) by axis; over the weights that write an axis, or are divided among experts along it, if none reads it.
    """
    axes, dims = supernet.family.axes, supernet.family.dims()
    totals_of_writers: dict[str, Tensor] = {}
    totals_of_readers: dict[str, Tensor] = {}
    for name, (_, inputs) in supernet.family.matrices.items():
        value = values[name].detach().cpu()
        for position, dim in enumerate(dims[name]):
            if axes_in(dim):
                totals_by_axis = totals_of_readers if position == inputs else totals_of_writers
                _add(totals_by_axis, axes, dim, value.transpose(0, position).flatten(1).sum(1))
    totals = totals_of_writers | totals_of_readers
    return {axis: totals[axis] for axis in axes if axis in totals}


def sort_by_importance(supernet: Supernet) -> None:
    """Sorts every axis of a supernet by the descending norm of the weights that read it, in place."""
    supernet.sort(orders(importance(supernet)))


def orders(importance: Mapping[str, Tensor], groups: Mapping[str, Sequence[int]] | None = None) -> dict[str, Tensor]:
    """The permutation of each axis by descending importance, for `Supernet.sort`.

    Args:
        importance: (size,) by axis, of any scale; equal values keep their order.
        groups: sizes by axis with which smaller networks were already trained. Only indices between two such sizes are
            reordered, so that these networks keep their weights, as in Once-for-all's later phases. None: one group.

    Returns:
        (size,) by axis: new index i gets the old index order[i].

    Raises:
        SpaceError: a group ends outside its axis, or the axis is unknown.
    """
    groups = groups or {}
    if unknown := sorted(groups.keys() - importance.keys()):
        raise _invalid_order(f"groups name the axis {unknown[0]!r}; expected one of {', '.join(importance)}")
    order_by_axis = {}
    for axis, values in importance.items():
        size = len(values)
        ends = sorted({0, *groups.get(axis, ()), size})
        if ends[0] < 0 or ends[-1] > size:
            raise _invalid_order(f"groups of axis {axis} end at {list(groups[axis])}; expected 0 to its size {size}")
        parts = [start + values[start:end].argsort(descending=True, stable=True) for start, end in pairwise(ends)]
        order_by_axis[axis] = torch.cat(parts)
    return order_by_axis


def _add(totals_by_axis: dict[str, Tensor], axes: Axes, dim: Dim, totals: Tensor) -> None:
    """Adds the totals of each position of a dimension to the prefix axes that it consists of."""
    for name in axes_in(dim):
        if axes[name].slice == "prefix":
            indices = axis_indices(dim, axes, name)
            axis_totals = totals_by_axis.setdefault(name, totals.new_zeros(axes[name].size))
            axis_totals.index_add_(0, indices[indices >= 0], totals[indices >= 0])
