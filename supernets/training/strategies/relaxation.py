"""Continuous relaxation of a convolutional family's choices: networks between those of its space, and expected costs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernets.errors import TrainingError
from supernets.families.convolutional.convolutional_family import RESOLUTION, ConvolutionalFamily
from supernets.networks.live_subnets import clone_tree, place
from supernets.sharing.base import Supernet
from supernets.space import INACTIVE, Architecture

Probabilities = Sequence[Tensor]
"""Probabilities of the levels of each choice, in the space's order; a choice that is not learned has its last level for
sure."""
_NOISE = 1e-3
"""Standard deviation of the first logits, which breaks ties."""


@dataclass(frozen=True)
class _Expectation:
    """The expected value of a function of a few choices.

    Attributes:
        choices: Indices of the choices.
        values: (levels of the first choice, ..., levels of the last one, ...) the function's values.
    """

    choices: tuple[int, ...]
    values: Tensor

    def mean(self, probabilities: Probabilities) -> Tensor:
        """Its value where the choices' levels are independent and have these probabilities."""
        expectation = self.values
        for i in self.choices:
            expectation = torch.tensordot(probabilities[i], expectation, dims=1)
        return expectation


class Relaxation(nn.Module):
    """Logits of the levels of every choice but the resolution, which stays the largest.

    A network between those of the space multiplies each channel, and each ring of a kernel, by the probability that a network
    has it: the mask that weighs nested widths (Wan et al. 2020, FBNetV2, arXiv 2004.05565). A block that may be missing is
    interpolated with its input. Where every level is certain, this is the subnet itself.

    Args:
        supernet: A supernet for sizes and costs; its weights are not read.

    Raises:
        TrainingError: the family is not convolutional, or has no widths and depths to choose.
    """

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        family, space = supernet.family, supernet.space
        self.learned = [
            i for i, choice in enumerate(space.choices) if len(choice.options) > 1 and choice.name != RESOLUTION
        ]
        if not isinstance(family, ConvolutionalFamily) or not self.learned:
            raise TrainingError(
                f"the strategy differentiable learns widths and depths of CNNs, and {family.name} has none to choose; take "
                "the family mobile-cnn or resnet (not nested), or another strategy",
                code="training.unsupported-family",
            )
        self._space, self._costs = space, supernet.costs
        self._levels: list[int] = space.levels.tolist()
        noise = torch.Generator().manual_seed(0)
        self.logits = nn.ParameterDict(
            {str(i): nn.Parameter(_NOISE * torch.randn(self._levels[i], generator=noise)) for i in self.learned}
        )
        self._tabulate_all(family)

    def _tabulate_all(self, family: ConvolutionalFamily) -> None:
        """Tables of axis sizes, as masks, of the presence of blocks and of their multiply-accumulates."""
        depths = set(family.space.kinds.get("depth", ()))
        non_depths = [i for i in self.learned if i not in depths]  # the depth decides alone whether a block counts
        names = list(family.axes)
        sizes = self._tabulate(
            non_depths, lambda networks: np.array([[family.sizes(a)[n] for n in names] for a in networks])
        )
        self._masks: Mapping[str, _Expectation] = {
            name: _mask(table, family.axes[name].size, centre=family.axes[name].slice == "centre")
            for name, table in zip(names, sizes, strict=True)
            if table.choices
        }
        blocks = family.blocks
        present = self._tabulate(
            [i for i in self.learned if i in depths],
            lambda networks: np.array([[block not in family.dropped(a) for block in blocks] for a in networks]),
        )
        self._gates = {name: table for name, table in zip(blocks, present, strict=True) if table.choices}
        largest_macs = self._costs([family.space.largest]).macs.sum()
        self._block_shares = self._tabulate(self.learned, lambda networks: self._costs(networks).macs / largest_macs)

    def _tabulate(
        self, choices: Sequence[int], values: Callable[[list[Architecture]], NDArray[np.generic]]
    ) -> list[_Expectation]:
        """One table for each column of `values`, (n, n_columns) for n networks, over the choices that it depends on."""
        top = [n - 1 for n in self._levels]
        # With the other choices at either end: rounding can hide a change at one of them.
        low = [0 if i in choices and self._space.choices[i].kind != "depth" else t for i, t in enumerate(top)]
        depends: list[set[int]] = []
        for base in (top, low):
            reference = values([self._space.canonical(base)])[0]
            depends = depends or [set() for _ in reference]
            for i in choices:
                near = [self._space.canonical([*base[:i], level, *base[i + 1 :]]) for level in range(self._levels[i])]
                for column in np.flatnonzero((values(near) != reference).any(axis=0)).tolist():
                    depends[column].add(i)
        tables = []
        for column, relevant in enumerate(map(sorted, depends)):
            levels = itertools.product(*(range(self._levels[i]) for i in relevant))
            networks = []
            for chosen in levels:
                genes = list(top)
                for i, level in zip(relevant, chosen, strict=True):
                    genes[i] = level
                networks.append(self._space.canonical(genes))
            table = torch.from_numpy(values(networks)[:, column].astype(np.float32))
            tables.append(_Expectation(tuple(relevant), table.reshape([self._levels[i] for i in relevant])))
        return tables

    @property
    def probabilities(self) -> list[Tensor]:
        """Probabilities of the levels of each choice, on the autograd graph."""
        return [self._sure(i) if logits is None else logits.softmax(0) for i, logits in enumerate(self._each)]

    @property
    def likeliest(self) -> list[int]:
        """The likeliest level of each choice, whether it is active or not."""
        return [int(shares.argmax()) for shares in self.probabilities]

    def shares(self, networks: Sequence[Architecture]) -> NDArray[np.float64]:
        """Multiply-accumulates of networks as shares of the largest one's, (n,)."""
        macs = self._costs([*networks, self._space.largest]).macs.sum(axis=1)
        return np.asarray(macs[:-1] / macs[-1], dtype=np.float64)

    @cached_property
    def min_share(self) -> float:
        """The share of the smallest network of the largest resolution."""
        genes = [0 if i in self.learned else n - 1 for i, n in enumerate(self._levels)]
        return float(self.shares([self._space.canonical(genes)])[0])

    def expected_share(self) -> Tensor:
        """The exact expectation of `shares` over networks drawn from the probabilities, on the autograd graph."""
        probabilities = self.probabilities
        return torch.stack([table.mean(probabilities) for table in self._block_shares]).sum()

    def neighbours(self, levels: Sequence[int]) -> list[list[int]]:
        """Levels that differ in one learned choice, which is active."""
        active = self._space.canonical(levels).genes
        return [
            [*levels[:i], level, *levels[i + 1 :]]
            for i in self.learned
            for level in range(self._levels[i])
            if active[i] != INACTIVE and level != levels[i]
        ]

    def sample(self, temperature: float, rng: np.random.Generator) -> tuple[Architecture, list[Tensor]]:
        """Two levels of each choice, drawn without replacement by Gumbel-softmax probabilities, which they share then.

        Returns:
            The network of the larger levels, which has all that a mixture of both needs, and the probabilities.
        """
        upper, drawn = [], []
        for i, logits in enumerate(self._each):
            n = self._levels[i]
            if logits is None:
                upper.append(n - 1)
                drawn.append(self._sure(i))
                continue
            noise = torch.from_numpy(rng.gumbel(size=n)).to(logits.dtype)
            soft = ((logits.log_softmax(0) + noise) / temperature).softmax(0)
            # The two largest sums with Gumbel noise are a draw of two without replacement.
            again = np.log(soft.detach().double().numpy() + 1e-30) + rng.gumbel(size=n)
            pair = torch.from_numpy(np.argsort(-again, kind="stable")[:2].copy())
            pair_shares = soft[pair]
            drawn.append(torch.zeros(n).scatter(0, pair, pair_shares / pair_shares.sum()))
            upper.append(int(pair.max()))
        return self._space.canonical(upper), drawn

    def subnet(self, supernet: Supernet, architecture: Architecture, probabilities: Probabilities) -> nn.Module:
        """A live network between those of the space, on the autograd graph of the weights and the probabilities.

        Args:
            architecture: one that has every level of positive probability.
        """
        masks = {name: table.mean(probabilities) for name, table in self._masks.items()}
        weights, dims = supernet.weights(architecture), supernet.family.dims()
        for name, weight in weights.items():
            for position, dim in enumerate(dims[name][1:3], start=1):
                if isinstance(dim, str) and dim in masks:
                    weights[name] = weights[name] * _cut(masks[dim].to(weight.device), weight, position)
        absent = supernet.family.dropped(architecture)
        network = place(clone_tree(supernet.sharing.template, absent), weights)
        for name, module in network.named_modules():
            if name in self._gates:
                module.__dict__["forward"] = partial(
                    _interpolated, module.forward, self._gates[name].mean(probabilities)
                )
        return network

    @property
    def _each(self) -> list[Tensor | None]:
        """The logits of each choice; None for one that is not learned."""
        return [self.logits[str(i)] if i in self.learned else None for i in range(len(self._levels))]

    def _sure(self, i: int) -> Tensor:
        """The probabilities of a choice that is not learned: its last level."""
        levels = torch.arange(self._levels[i])
        return (levels == len(levels) - 1).float()


def _mask(sizes: _Expectation, size: int, *, centre: bool) -> _Expectation:
    """A mask of the units that a network has, for each size of an axis: (..., size), or (..., size, size) for a kernel's
    side."""
    if not centre:
        return _Expectation(sizes.choices, (torch.arange(size) < sizes.values[..., None]).float())
    ring = 2 * (torch.arange(size) - size // 2).abs() + 1  # the smallest kernel that has it
    ring = torch.maximum(ring[:, None], ring[None, :])
    return _Expectation(sizes.choices, (ring <= sizes.values[..., None, None]).float())


def _cut(mask: Tensor, weight: Tensor, position: int) -> Tensor:
    """The part of a mask that a weight has, in the shape to multiply it by."""
    if mask.ndim == 1:
        shape = [1] * weight.ndim
        shape[position] = -1
        return mask[: weight.shape[position]].view(shape)
    margin = (len(mask) - weight.shape[-1]) // 2
    return mask[margin : len(mask) - margin, margin : len(mask) - margin]


def _interpolated(forward: Callable[[Tensor], Tensor], gate: Tensor, x: Tensor) -> Tensor:
    return x + gate.to(x.device) * (forward(x) - x)
