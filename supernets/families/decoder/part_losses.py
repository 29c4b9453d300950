"""The losses of subnets of a pretrained decoder in which single parts are replaced: what each option alone costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from supernets.families.decoder.activations import parts_of
from supernets.families.decoder.correction import Correction
from supernets.families.decoder.decoder_network import Decoder
from supernets.sharing.base import Supernet
from supernets.space import Architecture

TOKENS = 2**10
"""Number of tokens on which losses are measured."""
_EXPONENTS = (0.5, 2.0)
"""Least and greatest exponents of errors in interpolated losses: 1 for small errors, whose divergence is quadratic."""
_LEAST = 1e-12
_BATCH_SIZE = 4
"""Number of texts whose logits are in memory at once."""


class PartLosses:
    """Distillation losses of subnets that are the largest network but for few parts, on texts.

    A loss is the divergence of Kullback and Leibler of the subnet's distributions of the next token from the largest network's,
    in nats, the mean over tokens. The subnet begins at its first part that is another than the largest network's, from that
    one's activations, which are computed once; changed parts, and those before missing ones, are corrected by themselves (see
    `Correction.fitted_alone`), and the parts after them are the largest network's. It is how Puzzle scores the replacement of
    single blocks (Bercovich et al. 2025, arXiv 2411.19146).

    Args:
        supernet: Supernet of a decoder without experts, in evaluation mode.
        correction: Correction of its subnets; None for none.
        texts: Token ids, (n, tokens), preferably none that the correction was fitted to; the first ones are read, about
            `TOKENS` tokens in all.
    """

    @torch.no_grad()
    def __init__(self, supernet: Supernet, correction: Correction | None, texts: Tensor) -> None:
        self._supernet, self._correction = supernet, correction
        self._ids = texts[: max(1, TOKENS // texts.shape[1])]
        network = self._network(supernet.space.largest)
        self._sizes = {number: part.linear.weight.shape for number, part in parts_of(network).items()}
        self._streams, x = [network.embedding(self._ids)], network.embedding(self._ids)
        for part in parts_of(network, self._ids).values():
            x = x + part.post_norm(part.linear(part.inputs(x)))
            self._streams.append(x)
        logits = torch.cat([network.head(rows, network.table) for rows in x.split(_BATCH_SIZE)])
        self._expected = logits.softmax(-1)
        self._negative_entropy = torch.linalg.vecdot(self._expected, logits) - logits.logsumexp(-1)

    @torch.no_grad()
    def __call__(self, architecture: Architecture) -> float:
        """The loss of a subnet, in nats, at least 0."""
        network = self._network(architecture)
        parts, end = parts_of(network, self._ids), len(self._sizes)
        places = list(zip(parts, [*list(parts)[1:], end], strict=True))
        sizes = {number: part.linear.weight.shape for number, part in parts.items()}
        first = next((n for n, after in places if sizes[n] != self._sizes[n] or after > n + 1), end)
        x = self._streams[first]
        if (
            sizes[places[0][0]][0] != self._sizes[0][0] or places[0][0] > 0
        ):  # of another width, or without the first part
            first, x = 0, network.embedding(self._ids)
        for number, after in places:
            if number >= first:
                part, linear, correction = parts[number], parts[number].linear, self._correction
                fitted: tuple[Tensor, Tensor | None] = linear.weight, linear.bias
                if correction is not None:
                    fitted = correction.fitted_alone(network, number, after)
                x = x + part.post_norm(functional.linear(part.inputs(x), *fitted))
        divergences = [
            entropies + logits.logsumexp(-1) - torch.linalg.vecdot(expected, logits)
            for rows, expected, entropies in zip(
                *(values.split(_BATCH_SIZE) for values in (x, self._expected, self._negative_entropy)), strict=True
            )
            for logits in [network.head(rows, network.table)]
        ]
        return max(0.0, torch.cat(divergences).double().mean().item())

    def _network(self, architecture: Architecture) -> Decoder:
        """A live subnet, which has no copies of weights."""
        return cast(Decoder, self._supernet.subnet(architecture).eval())


def sizes_to_measure(sizes: Sequence[int]) -> set[int]:
    """The options of a layer's hidden channels whose losses are measured: no MLP, the smallest size, and that in the middle
    between it and the largest; see `interpolated_loss` for the others.

    Args:
        sizes: All options, increasing; the last one is the largest network's.
    """
    reduced = [size for size in sizes[:-1] if size > 0]
    return {
        *(size for size in sizes[:-1] if size == 0),
        *reduced[:1],
        *reduced[len(reduced) // 2 : len(reduced) // 2 + 1],
    }


def interpolated_loss(errors: Tensor, measured: Mapping[int, float], size: int) -> float:
    """The loss of an MLP with some of its hidden channels, by a power of its squared error through two measured losses.

    Args:
        errors: Squared errors for each number of channels, see `Correction.prefix_errors`.
        measured: Losses of two sizes above 0.
        size: Another size above 0.
    """
    small, middle = sorted(measured)
    exponent = math.log(max(measured[small], _LEAST) / max(measured[middle], _LEAST)) / max(
        math.log(max(float(errors[small]), _LEAST) / max(float(errors[middle]), _LEAST)), _LEAST
    )
    exponent = min(max(exponent, _EXPONENTS[0]), _EXPONENTS[1])
    ratio = max(float(errors[size]), _LEAST) / max(float(errors[middle]), _LEAST)
    return measured[middle] * math.pow(ratio, exponent)
