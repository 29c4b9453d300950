"""The losses of subnets of a pretrained decoder in which single parts are replaced: what each option alone costs."""

from __future__ import annotations

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
        self._expected = [network.head(rows, network.table).log_softmax(-1) for rows in x.split(_BATCH_SIZE)]

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
        divergence = 0.0
        for rows, expected in zip(x.split(_BATCH_SIZE), self._expected, strict=True):
            logits = network.head(rows, network.table).log_softmax(-1)
            divergence += functional.kl_div(logits, expected, reduction="sum", log_target=True).item()
        return max(0.0, divergence / self._ids.numel())

    def _network(self, architecture: Architecture) -> Decoder:
        """A live subnet, which has no copies of weights."""
        return cast(Decoder, self._supernet.subnet(architecture).eval())
