"""A layer of experts in place of an MLP: a router, the experts' weights, and perhaps an expert that all tokens share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.experts import operations as _rules  # noqa: F401  # registers those of `mixed_experts`
from supernets.experts.expert_weights import ExpertWeights
from supernets.experts.mixing import UNLIMITED, Gates, mixed_experts


class ExpertLayer(nn.Module):
    """Experts of one size, of which each token has the ones that the router gives the greatest logits (arXiv 1701.06538).

    No expert has a limit of tokens. The number of experts follows from the weights, and that of each token's experts from the
    length of the buffer `active`, so that a live subnet's smaller tensors need no correction. Where gates are equal, the router
    has a bias, because it is fitted to the norms of the experts' outputs. The router's last logits are those of null experts.

    Args:
        hidden: channels of an expert.
        rank: channels that all experts read, which one matrix makes of tokens (MoLAE; Liu et al. 2025, arXiv 2503.23100;
            departure: gated experts have it once, not for each of their two matrices); None for tokens themselves.
        gated: True if experts are gated MLPs; else plain ones.
        bias: True if the first linear layers have biases, and the sum of the experts' outputs another one.
        own_router: True if it has a router; else `forward` reads the outputs of one that several layers have in common.
        nulls: experts that compute nothing (AdaMoE; Zeng et al. 2024, arXiv 2406.13233), so that tokens have fewer others.
        top_p: shares of probability, of which the last one counts: a token has the fewest of its `active` experts whose
            probabilities sum to it (Huang et al. 2024, arXiv 2403.07652; departure: its k has a limit, `active`); none, and it
            has all of them.
        shared: an MLP for all tokens, whose output is added; None for none.
        shared_gate: True if the shared output is multiplied by the sigmoid of a linear function of the token.
    """

    router: Any
    """A linear layer; None for layers with one in common."""
    active: Tensor
    columns: Tensor
    top_p: Tensor | None

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        experts: int,
        active: int,
        gates: Gates,
        gated: bool,
        activation: str,
        bias: bool,
        rank: int | None = None,
        nulls: int = 0,
        top_p: Sequence[float] = (),
        shared: nn.Module | None = None,
        shared_gate: bool = False,
        own_router: bool = True,
    ) -> None:
        super().__init__()
        self.gates, self.activation = gates, activation
        self.router = nn.Linear(width, experts + nulls, bias=gates == "equal") if own_router else None
        self.register_buffer("columns", None if own_router else torch.arange(experts))
        self.base = None if rank is None else nn.Linear(width, rank, bias=False)
        self.up = _uniform(experts, hidden, rank or width)
        self.gate = _uniform(experts, hidden, rank or width) if gated else None
        self.down = _uniform(experts, width, hidden)
        self.up_bias = nn.Parameter(torch.zeros(experts, hidden)) if bias else None
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.register_buffer("active", torch.arange(active))
        limits = torch.tensor(top_p, dtype=torch.float32)
        self.register_buffer("top_p", torch.where(limits < 1, limits, UNLIMITED) if top_p else None)
        self.shared = shared
        self.shared_gate = nn.Linear(width, 1, bias=False) if shared_gate else None

    def forward(self, x: Tensor, common: Tensor | None = None) -> Tensor:
        """Tokens (..., width) -> (..., width).

        Args:
            common: the outputs of a router that is not the layer's own, one for each expert of the largest layer.
        """
        outputs = mixed_experts(
            x if self.base is None else self.base(x),
            self.logits(x, common),
            self.active,
            self.up,
            self.down,
            self.gate,
            self.up_bias,
            self.top_p,
            gates=self.gates,
            activation=self.activation,
        )
        if self.bias is not None:
            outputs = outputs + self.bias
        if self.shared is None:
            return outputs
        shared = self.shared(x)
        return outputs + (
            shared if self.shared_gate is None else torch.sigmoid(self.shared_gate(x)) * cast(Tensor, shared)
        )

    def logits(self, x: Tensor, common: Tensor | None) -> Tensor:
        """The router's outputs for the layer's experts, as of `forward`, (..., experts)."""
        if self.router is not None:
            return cast(Tensor, self.router(x))
        # By their numbers, because each layer sorts its experts by itself.
        return torch.index_select(cast(Tensor, common), -1, self.columns)

    @property
    def weights(self) -> ExpertWeights:
        """The experts' weights, detached; the last bias is not theirs, but the layer's."""
        optional = (None if tensor is None else tensor.detach() for tensor in (self.gate, self.up_bias))
        return ExpertWeights(self.up.detach(), self.down.detach(), *optional)

    def fit(self, weights: Mapping[str, Tensor]) -> None:
        """Does nothing, for live subnets: no attribute repeats a shape."""

    def extra_repr(self) -> str:
        return f"gates={self.gates}, activation={self.activation}"


def _uniform(experts: int, outputs: int, inputs: int) -> nn.Parameter:
    """Weights drawn as those of torch's linear layers."""
    return nn.Parameter(torch.empty(experts, outputs, inputs).uniform_(-(inputs**-0.5), inputs**-0.5))
