"""Language models, of whatever family, as they are scored: the losses of tokens, so that no logits leave the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from supernets.networks.capture.program import BATCH
from supernets.networks.family_program import TOKENS_DIM, View, ViewInput
from supernets.networks.network import viewed
from supernets.networks.tokens import divided, token_losses

N_EXAMPLES, _TOKENS = 5, 17
"""Sizes of captured inputs: primes, so that no size of a layer is a multiple of them by accident."""


@runtime_checkable
class ServedNetwork(Protocol):
    """A language model that is served with a cache of the tokens that it has read."""

    def served_models(self) -> Mapping[str, bytes]:
        """Returns the ONNX models by which the network, extracted, is served, by name."""


class TokenLosses(nn.Module):
    """The losses of the tokens of texts after the first, by a language model: ids (n, tokens) -> (n, tokens - 1), in nats.

    Those of pairs are the losses of targets: (n, source + target) -> (n, target - 1).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.source = source_tokens(network)

    def forward(self, ids: Tensor) -> Tensor:
        return token_losses(self.network(ids), divided(ids, self.source)[1] if self.source else ids)


def source_tokens(network: nn.Module) -> int:
    """The tokens of a network's sources, before the text that it models; 0 for a decoder."""
    tokens = getattr(network, "source", None)
    return tokens if isinstance(tokens, int) else 0


def scored(network: nn.Module) -> TokenLosses:
    """The losses of an extracted network."""
    module = TokenLosses(network)
    viewed(module, network, SCORED)
    return module


def token_inputs(tokens: int, name: str = "") -> ViewInput:
    """Token ids of this length, which the inputs decide if it has a name."""
    return ViewInput(torch.zeros(N_EXAMPLES, tokens, dtype=torch.int64), (BATCH, name))


SCORED = View("scored", TokenLosses, lambda network: [token_inputs(source_tokens(network) + _TOKENS, TOKENS_DIM)])
