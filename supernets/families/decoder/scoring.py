"""Language models as they are scored: the losses of the tokens of texts, so that no logits leave the network."""

from __future__ import annotations

from torch import Tensor, nn

from supernets.families.decoder.serving import token_inputs
from supernets.networks.family_program import TOKENS_DIM, View
from supernets.networks.network import viewed
from supernets.networks.tokens import divided, token_losses

_TOKENS = 17
"""Number of tokens of captured targets: a prime, so that no size of a layer is a multiple of it by accident."""


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


SCORED = View("scored", TokenLosses, lambda network: [token_inputs(source_tokens(network) + _TOKENS, TOKENS_DIM)])
