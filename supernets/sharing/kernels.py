"""Learned transforms from larger kernels to smaller ones (Once-for-all)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from supernets.errors import SpaceError
from supernets.sharing.base import Family
from supernets.space.axes import Dim


class KernelTransforms(nn.Module):
    """One matrix per convolution with an elastic kernel and per step from a kernel side to the next smaller one.

    Once-for-all's elastic kernels (Cai et al. 2020, arXiv 1908.09791): the smaller kernel is the flattened centre of the
    larger one times the matrix, which all channels share. Steps are chained: with sides 7, 5 and 3, the kernel of side 3
    derives from the transformed one of side 5. The matrices start as identities (plain slices).

    Args:
        template: the largest network.

    Raises:
        SpaceError: the family has no elastic kernel, or one that is not square.
    """

    def __init__(self, family: Family, template: nn.Module) -> None:
        super().__init__()
        sides = sizes_of_axes(family)
        self._chains: dict[str, tuple[str, list[tuple[int, int]]]] = {}
        """The axis of the kernel, and the steps between sides in descending order, by the name of the weight."""
        self.steps = nn.ParameterDict()
        for name, module in template.named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            weight = f"{name}.weight"
            rows, columns = family.dims()[weight][-2:]
            elastic = [dim for dim in (rows, columns) if isinstance(dim, str) and family.axes[dim].slice == "centre"]
            if elastic and rows != columns:
                problem = (
                    f"kernels: transform needs square kernels; {weight} has the sides {rows} and {columns}; use centre"
                )
                raise SpaceError(problem, code="sharing.invalid")
            if elastic and len(sides[elastic[0]]) > 1:
                axis = elastic[0]
                steps = list(pairwise(sorted(sides[axis], reverse=True)))
                self._chains[weight] = axis, steps
                for old, new in steps:
                    self.steps[_key(weight, old, new)] = nn.Parameter(torch.eye(new * new))
        if not self._chains:
            problem = (
                "kernels: transform needs a convolution with an elastic kernel, and the space has none; use centre"
            )
            raise SpaceError(problem, code="sharing.invalid")
        self.axes = frozenset(axis for axis, _ in self._chains.values())
        """The kernel axes that the transforms cut."""

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of the matrices; none is elastic."""
        return {f"steps.{name}": tuple(matrix.shape) for name, matrix in self.steps.items()}

    def transformed(self, name: str, weight: Tensor, sizes: Mapping[str, int]) -> Tensor:
        """A weight with its kernel transformed to its size; any other tensor unchanged.

        Args:
            name: Name of the tensor.
            weight: (outputs, inputs, side, side) with the largest side, if `name` has transforms.
            sizes: Sizes of the network's axes.
        """
        if name not in self._chains:
            return weight
        axis, steps = self._chains[name]
        for old, new in steps:
            if weight.shape[-1] <= sizes[axis]:
                break
            margin = (old - new) // 2
            centre = weight[..., margin : margin + new, margin : margin + new]
            weight = (centre.flatten(-2) @ self.steps[_key(name, old, new)].T).unflatten(-1, (new, new))
        return weight


def _key(weight: str, old: int, new: int) -> str:
    return f"{weight.removesuffix('.weight').replace('.', '/')}/{old}-{new}"


def sizes_of_axes(family: Family) -> Mapping[str, set[int]]:
    """The sizes of each axis in the largest network and in those that differ from it in one choice."""
    sizes_by_axis: dict[str, set[int]] = {name: set() for name in family.axes}
    largest = family.space.largest
    for i, choice in enumerate(family.space.choices):
        for level in range(len(choice.options)):
            genes = [*largest.genes[:i], level, *largest.genes[i + 1 :]]
            for name, size in family.sizes(family.space.canonical(genes)).items():
                sizes_by_axis[name].add(size)
    return sizes_by_axis
