"""Named axes of tensors: sizes, slices and permutations, written once for all families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import accumulate
from operator import add, mul
from types import EllipsisType
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.errors import SpaceError

_inconsistent = partial(SpaceError, code="family.inconsistent")


@dataclass(frozen=True, slots=True)
class Axis:
    """One elastic dimension, shared by every tensor that names it.

    Attributes:
        size: its size in the largest network.
        slice: The part that a smaller network uses: the first indices, or the middle (kernels).
    """

    name: str
    size: int
    slice: Literal["prefix", "centre"] = "prefix"


@dataclass(frozen=True, slots=True)
class Concat:
    """A tensor dimension that concatenates several dimensions (e.g. the input of a layer after a `cat`)."""

    parts: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Derived:
    """(part + offset) // stride + 1: an extent after a convolution, or half of a kernel."""

    part: Dim
    offset: int
    stride: int


Dim = int | str | tuple["Dim", ...] | Concat | Derived
"""One tensor dimension: a fixed size, an axis by name, a product (outermost first), or a concatenation."""

NamedDims = tuple[Dim | EllipsisType, ...]
"""The first dimensions of a tensor, and ``...`` for others, which follow from the network."""

Size = TypeVar("Size", int, NDArray[np.int64])
Axes = Mapping[str, Axis]
Sizes = Mapping[str, int]


_OF_VALUES = "an extent that follows from an axis is a dimension of values; tensors that are stored have none"


def size_of(dim: Dim, sizes: Mapping[str, Size]) -> Size | int:
    """The size of a dimension for these axis sizes: an int, or (n,) for n networks at once (an int if it is fixed)."""
    if isinstance(dim, int):
        return dim
    if isinstance(dim, str):
        return sizes[dim]
    if isinstance(dim, Derived):
        return (size_of(dim.part, sizes) + dim.offset) // dim.stride + 1
    if isinstance(dim, Concat):
        return reduce(add, (size_of(part, sizes) for part in dim.parts), 0)
    return reduce(mul, (size_of(part, sizes) for part in dim), 1)


def full_sizes(axes: Axes) -> dict[str, int]:
    """The sizes of the largest network."""
    return {name: axis.size for name, axis in axes.items()}


def axes_in(dim: Dim) -> frozenset[str]:
    """The axes that a dimension (or several, as a product) consists of."""
    if isinstance(dim, int):
        return frozenset()
    if isinstance(dim, str):
        return frozenset([dim])
    if isinstance(dim, Derived):
        return axes_in(dim.part)
    return frozenset().union(*(axes_in(part) for part in (dim.parts if isinstance(dim, Concat) else dim)))


def axis_indices(dim: Dim, axes: Axes, axis: str) -> Tensor:
    """The index along `axis` of each position of a full dimension, (size,); -1 where it has none."""
    if isinstance(dim, int):
        return torch.full((dim,), -1)
    if isinstance(dim, str):
        return torch.arange(axes[dim].size) if dim == axis else torch.full((axes[dim].size,), -1)
    if isinstance(dim, Concat):
        return torch.cat([axis_indices(part, axes, axis) for part in dim.parts])
    if isinstance(dim, Derived):
        raise TypeError(_OF_VALUES)
    indices = torch.full((1,), -1)
    for part in _factors(dim):  # at most one of the factors is the axis
        indices = torch.maximum(indices[:, None], axis_indices(part, axes, axis)[None, :]).flatten()
    return indices


def slice_tensor(tensor: Tensor, dims: Sequence[Dim], axes: Axes, sizes: Sizes) -> Tensor:
    """The part of a full tensor that a network of these sizes uses; a view where possible."""
    for position, dim in enumerate(dims):
        tensor = _slice_dim(tensor, position, dim, axes, sizes)
    return tensor


def _slice_dim(tensor: Tensor, position: int, dim: Dim, axes: Axes, sizes: Sizes) -> Tensor:
    if isinstance(dim, int):
        return tensor
    if isinstance(dim, str):
        axis, size = axes[dim], sizes[dim]
        if size == axis.size:
            return tensor
        start = 0 if axis.slice == "prefix" else (axis.size - size) // 2
        return tensor.narrow(position, start, size)
    if isinstance(dim, Derived):
        raise TypeError(_OF_VALUES)
    full = full_sizes(axes)
    if isinstance(dim, Concat):
        pieces = tensor.split([size_of(part, full) for part in dim.parts], dim=position)
        sliced = [_slice_dim(t, position, part, axes, sizes) for t, part in zip(pieces, dim.parts, strict=True)]
        return torch.cat(sliced, dim=position)
    factors = _factors(dim)
    tensor = tensor.unflatten(position, [size_of(part, full) for part in factors])
    for offset, part in enumerate(factors):
        tensor = _slice_dim(tensor, position + offset, part, axes, sizes)
    return tensor.flatten(position, position + len(factors) - 1)


def _factors(dim: Dim) -> tuple[Dim, ...]:
    """The factors of a product; raises `TypeError` for a derived extent, which no tensor of a network has."""
    if isinstance(dim, tuple):
        return dim
    raise TypeError(f"a tensor has the dimension {dim}")


def permute_tensor(tensor: Tensor, dims: Sequence[Dim], axes: Axes, axis: str, order: Tensor) -> Tensor:
    """A copy of a full tensor with `axis` reordered; the tensor itself if it lacks the axis.

    Args:
        order: (axes[axis].size,) a permutation, on the CPU: new index i holds the old index order[i].
    """
    for position, dim in enumerate(dims):
        if axis in axes_in(dim):
            tensor = tensor.index_select(position, _reordered(dim, axes, axis, order).to(tensor.device))
    return tensor


def _reordered(dim: Dim, axes: Axes, axis: str, order: Tensor) -> Tensor:
    """The position that each position of a full dimension holds after `axis` is reordered, (size,)."""
    if isinstance(dim, str):
        return order if dim == axis else torch.arange(axes[dim].size)
    if isinstance(dim, Concat):
        parts = [_reordered(part, axes, axis, order) for part in dim.parts]
        starts = accumulate((len(part) for part in parts), initial=0)
        return torch.cat([part + start for start, part in zip(starts, parts, strict=False)])
    if isinstance(dim, tuple):  # the axis may be several of the factors: products of units with each other
        positions = torch.zeros(1, dtype=torch.int64)
        for factor in (_reordered(part, axes, axis, order) for part in dim):
            positions = (positions[:, None] * len(factor) + factor[None, :]).flatten()
        return positions
    return torch.arange(size_of(dim, full_sizes(axes)))


def check_dims(shapes: Mapping[str, Sequence[int]], dims: Mapping[str, Sequence[Dim]], axes: Axes) -> None:
    """Raises `SpaceError` unless `dims` names every tensor and gives its full shape."""
    if differing := sorted(set(shapes) ^ set(dims)):
        raise _inconsistent(f"only one of the family's dims and its template has {', '.join(differing[:5])}")
    full = full_sizes(axes)
    for name, shape in shapes.items():
        declared = tuple(size_of(dim, full) for dim in dims[name])
        if declared != tuple(shape):
            raise _inconsistent(f"tensor {name} has the shape {tuple(shape)}; the family's dims declare {declared}")
