"""Nested networks of any family: all layers are scaled together, so that each network is a part of every larger one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from supernets.families.wrapped_family import WrappedFamily
from supernets.sharing.base import Family
from supernets.space import Architecture, Choice, Option, SearchSpace, joint_levels
from supernets.space.axes import Axes, Dim, NamedDims


class NestedFamily(WrappedFamily):
    """A family with one choice for each kind of dimension (depth, width, kernel, ...) in place of one a layer.

    There are hundreds of networks, not 10^20, and if one is no larger than another in each choice, its weights are a part of
    the other's: the nested sub-models of SortedNet (Valipour et al. 2023, arXiv 2309.00255). An option of a choice names the
    options of the layers: ``1-2-3`` are the depths of three stages, in their order.
    """

    def __init__(self, inner: Family) -> None:
        super().__init__(inner)
        self.name = f"nested {inner.name}"
        self.axes: Axes = inner.axes
        self.blocks = inner.blocks
        self._kinds: list[tuple[list[int], list[tuple[int, ...]]]] = []
        """The inner choices that each choice scales, and their levels by its own levels."""
        choices: list[Choice] = []
        for kind, indices in inner.space.kinds.items():
            scaled = [inner.space.choices[i] for i in indices]
            levels = joint_levels([len(choice.options) for choice in scaled])
            if len(levels) > 1:
                self._kinds.append((indices, levels))
                choices.append(Choice(kind, _labels(scaled, levels), *_bounded(scaled, choices)))
        self.space = SearchSpace(choices)
        self._inner: dict[Architecture, Architecture] = {}

    def inner_architecture(self, architecture: Architecture) -> Architecture:
        """Returns the architecture of the inner family that is the same network as one of this family."""
        if architecture not in self._inner:
            genes = [0] * len(self.inner.space)
            for gene, (indices, levels) in zip(architecture.genes, self._kinds, strict=True):
                for index, level in zip(indices, levels[gene], strict=True):
                    genes[index] = level
            self._inner[architecture] = self.inner.space.canonical(genes)
        return self._inner[architecture]

    def template(self) -> nn.Module:
        return self.inner.template()

    def named_dims(self) -> Mapping[str, NamedDims]:
        return self.inner.named_dims()

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return self.inner.dims()

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        return self.inner.sizes(self.inner_architecture(architecture))

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        return self.inner.dropped(self.inner_architecture(architecture))

    def plain(self, architecture: Architecture) -> tuple[Family, Architecture]:
        return self.inner.plain(self.inner_architecture(architecture))

    def standalone(self, tree: nn.Module, architecture: Architecture, weights: Mapping[str, Tensor]) -> nn.Module:
        return self.inner.standalone(tree, self.inner_architecture(architecture), weights)

    def to_json(self) -> dict[str, Any]:
        return {"family": "nested", "of": self.inner.to_json()}


def _labels(scaled: list[Choice], levels: list[tuple[int, ...]]) -> tuple[Option, ...]:
    """The option of each level of the joint choice: the layers' own option if all have the same ones."""
    first: dict[tuple[Option, ...], int] = {}  # layers with the same options always get the same one: it is named once
    for i, choice in enumerate(scaled):
        first.setdefault(choice.options, i)
    if len(first) == 1:
        return tuple(scaled[0].options[chosen[0]] for chosen in levels)
    return tuple("-".join(str(scaled[i].options[chosen[i]]) for i in first.values()) for chosen in levels)


def _bounded(scaled: list[Choice], before: list[Choice]) -> tuple[tuple[str, int] | None, tuple[int, ...] | None]:
    """`Choice.requires` and `Choice.most` of a choice, where those that it scales are equally bounded by another kind's."""
    first, alike = scaled[0], len({(choice.options, choice.most) for choice in scaled}) == 1
    if first.most is None or first.requires is None or not alike:
        return None, None
    kind = first.requires[0].rpartition(".")[2]
    return ((kind, first.requires[1]), first.most) if any(choice.name == kind for choice in before) else (None, None)
