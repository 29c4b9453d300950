"""Correction of a decoder's subnets in closed form: their output projections fit the largest network's residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.families.decoder.activations import ridged, some_tokens, with_inputs
from supernets.families.decoder.network import MLP, Decoder, Layer
from supernets.threads import one_thread
from supernets.tokens import causal_mask

MOST_TOKENS = 2**13
"""Of texts that subnets are corrected on."""
RIDGE = 1e-2
"""Added to the second moments, as a share of their mean."""


class Correction:
    """Corrects subnets of one decoder.

    From the first layer to the last, the weights (and biases) of ``attention.project`` and ``mlp.down`` get the addition that
    brings the subnet's residual stream nearest to the largest network's: least squares over tokens, with a ridge, on what the
    corrected layers before return. After the last layer before others that are left out, the stream is that after these.
    Tokens are weighted by one over the mean square of the largest network's stream, as what follows reads it normalised.
    Layers whose inputs and sizes are the largest network's are not changed, so that the largest network is not.

    One such fit for each layer, on the activations of the whole network, is the correction of Frantar and Alistarh (2022, arXiv
    2208.11580) for groups; fits in turn, on the pruned network's own activations, are SparseGPT's (2023, arXiv 2301.00774).

    Args:
        network: the largest one, extracted, in evaluation mode; without experts.
        batches: token ids, (n, tokens) each; the first ones are read, about `most` tokens in all.
    """

    @torch.no_grad()
    def __init__(self, network: Decoder, batches: Sequence[Tensor], *, most: int = MOST_TOKENS) -> None:
        self._ids = torch.cat(some_tokens(batches, most))
        self._width = network.embedding.words.embedding_dim
        layers = [cast(Layer, layer) for layer in network.layers.values()]
        self._sizes = [(layer.attention.project.in_features, _down(layer).in_features) for layer in layers]
        self._streams: list[tuple[Tensor, Tensor]] = []
        """2 i before layer i, 2 i + 1 before its MLP, and at last before the head: the stream (n, tokens, width) in half
        precision, divided by its root mean square, and that, (n, tokens, 1)."""
        with one_thread():
            mask, turn, x = causal_mask(self._ids), network.turn(self._ids), network.embedding(self._ids)
            for layer in layers:
                self._streams.append(_normalised(x))
                x = x + layer.attention(layer.norm1(x), mask, turn)
                self._streams.append(_normalised(x))
                x = x + layer.mlp(layer.norm2(x))
            self._streams.append(_normalised(x))

    @torch.no_grad()
    def __call__(self, network: Decoder) -> Decoder:
        """The network, with its weights changed in place.

        Args:
            network: an extracted subnet of the same decoder, in evaluation mode.
        """
        with one_thread():
            self._correct(network)
        return network

    def _correct(self, network: Decoder) -> None:
        numbers, total = [int(name) for name in network.layers], len(self._sizes)
        mask, turn, x = causal_mask(self._ids), network.turn(self._ids), network.embedding(self._ids)
        same = x.shape[-1] == self._width and numbers[0] == 0
        for number, after in zip(numbers, [*numbers[1:], total], strict=True):
            layer, (heads, hidden) = cast(Layer, network.layers[str(number)]), self._sizes[number]
            same = same and layer.attention.project.in_features == heads
            attend = (layer.attention, layer.attention.project, layer.norm1)
            x = self._fitted(x, *attend, (mask, turn), target=None if same else 2 * number + 1)
            same = same and _down(layer).in_features == hidden and after == number + 1
            x = self._fitted(x, layer.mlp, _down(layer), layer.norm2, (), target=None if same else 2 * after)

    def _fitted(
        self,
        x: Tensor,
        module: nn.Module,
        linear: nn.Linear,
        norm: nn.Module,
        arguments: Sequence[Any],
        *,
        target: int | None,
    ) -> Tensor:
        """The stream after a module, whose last linear layer is fitted to a stream of the largest network (see `_streams`)."""
        found, inputs = with_inputs(module, linear, norm(x), *arguments)
        x = x + found
        if target is None:
            return x
        wanted, scale = self._streams[target]
        missing = (wanted[..., : x.shape[-1]].float() - x / scale).flatten(0, -2)
        own = (inputs / scale).flatten(0, -2)
        if linear.bias is not None:
            own = torch.cat([own, (1 / scale).flatten(0, -2)], dim=1)
        change = _least_squares(own, missing)
        linear.weight.add_(change[:, : linear.in_features])
        if linear.bias is not None:
            linear.bias.add_(change[:, -1])
        return x + (own @ change.T).view_as(x) * scale


def _down(layer: Layer) -> nn.Linear:
    return cast(MLP, layer.mlp).down


def _normalised(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.square().mean(dim=-1, keepdim=True).clamp(min=1e-12).sqrt()
    return (x / scale).half(), scale


def _least_squares(inputs: Tensor, wanted: Tensor) -> Tensor:
    """The weights (outputs, n) with which inputs (tokens, n) are nearest to what is wanted (tokens, outputs)."""
    moments, mixed = (inputs.T @ inputs).double(), (inputs.T @ wanted).double()
    return torch.cholesky_solve(mixed, torch.linalg.cholesky(ridged(moments, RIDGE))).T.float()
