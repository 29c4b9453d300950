"""Training of routers: losses by which they spread tokens over experts and keep their logits small."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from supernets.errors import TrainingError
from supernets.experts.layer import ExpertLayer
from supernets.experts.mixing import past_top_p


class Routed(NamedTuple):
    """The output of a router.

    Attributes:
        logits: (..., experts), and those of null experts.
        k: Number of experts of each token, null ones included.
        nulls: Number of null experts.
        top_p: Limit of a token's experts, see `past_top_p`.
    """

    logits: Tensor
    k: int
    nulls: int = 0
    top_p: Tensor | None = None


def record_routing(network: nn.Module, records: list[Routed]) -> None:
    """Makes forwards of a live subnet add the output of each router that is trained to `records`; in place."""

    def logits(layer: ExpertLayer, x: Tensor, common: Tensor | None) -> Tensor:
        values = ExpertLayer.logits(layer, x, common)
        records.append(Routed(values, len(layer.active), values.shape[-1] - len(layer.up), layer.top_p))
        return values

    common = _common_router(network)
    for module in network.modules():
        if isinstance(module, ExpertLayer):
            router = common[-1] if module.router is None and common is not None else module.router
            if router.weight.requires_grad:
                module.__dict__["logits"] = partial(logits, module)


def check_trained(network: nn.Module) -> None:
    """Raises `TrainingError` unless a router that the losses are of is trained: not those of attention experts."""
    _trained(_with_losses(network), needed_by="entropy_loss")


def freeze_all_but_routers(network: nn.Module) -> None:
    """Lets a network train its routers alone, but for those that are never trained; in place.

    Raises:
        TrainingError: it has no router that is trained.
    """
    trained = _trained(routers(network), needed_by="parameters: routers")
    network.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)


def routers(network: nn.Module) -> list[nn.Module]:
    """The routers of a network: those of layers, also of their attention experts, and the one that layers have in common."""
    candidates = (getattr(module, "router", None) for module in network.modules())
    return [router for router in candidates if isinstance(router, nn.Linear | nn.Sequential)]


def _trained(routers: Sequence[nn.Module], *, needed_by: str) -> list[nn.Parameter]:
    trained = [parameter for router in routers for parameter in router.parameters() if parameter.requires_grad]
    if not trained:
        problem = f"training.{needed_by} is of the routers of experts, and the networks have none that is trained"
        raise TrainingError(f"{problem}; give experts with learned routers, or remove it", code="training.no-experts")
    return trained


def _with_losses(network: nn.Module) -> list[nn.Module]:
    layer_routers = [module.router for module in network.modules() if isinstance(module, ExpertLayer)]
    return [router for router in (_common_router(network), *layer_routers) if router is not None]


def _common_router(network: nn.Module) -> nn.Sequential | None:
    """The router of layers that have none of their own, whose last module is linear; None without such layers."""
    for module in network.modules():
        router = getattr(module, "router", None)
        if isinstance(router, nn.Sequential) and any(
            isinstance(child, ExpertLayer) and child.router is None for child in module.modules()
        ):
            return router
    return None


def balance_loss(routing: Sequence[Routed]) -> Tensor:
    """The mean over layers of Switch's load-balancing loss (Fedus et al. 2021, arXiv 2101.03961): 1 where tokens are spread
    evenly, up to the number of experts.

    That is the number of experts times the sum over experts of the share of tokens that are sent to one and its mean
    probability. Departure: with several experts for each token, the shares are of all pairs of a token and an expert
    that it has.

    Null experts, which compute the same, need no balance among themselves: each has their mean share (AdaMoE; Zeng et al.
    2024, arXiv 2406.13233, whose code takes the mean over another axis). At balance, a token is sent to the share of k that
    the other experts are of all.

    Args:
        routing: Output of the router of each layer; at least one.
    """
    losses = []
    for logits, k, nulls, top_p in routing:
        rows = logits.float().flatten(0, -2)
        n = rows.shape[1]
        chosen = rows.topk(k, dim=1).indices
        assigned = chosen.flatten() if top_p is None else chosen[~past_top_p(rows, chosen, top_p)]
        sent = assigned.bincount(minlength=n) / len(assigned)
        if nulls:
            sent = torch.cat([sent[:-nulls], sent[-nulls:].mean().expand(nulls)])
        losses.append(n * (sent * rows.softmax(1).mean(0)).sum())
    return torch.stack(losses).mean()


def z_loss(routing: Sequence[Routed]) -> Tensor:
    """The mean over layers and tokens of the squared logarithm of the sum of the logits' exponentials.

    The z-loss of ST-MoE (Zoph et al. 2022, arXiv 2202.08906).

    Args:
        routing: Output of the router of each layer; at least one.
    """
    return torch.stack([logits.float().logsumexp(-1).square().mean() for logits, *_ in routing]).mean()


def entropy_loss(routing: Sequence[Routed]) -> Tensor:
    """The mean over layers and tokens of the entropy of a router's probabilities, in nats; where it is low, few experts have
    a sum of `top_p`. The dynamic loss of Huang et al. 2024 (arXiv 2403.07652).

    Args:
        routing: Output of the router of each layer; at least one.
    """
    shares = [logits.float().log_softmax(-1) for logits, *_ in routing]
    return -torch.stack([(log_p.exp() * log_p).sum(-1).mean() for log_p in shares]).mean()
