"""Mixtures of experts as one function, which is one call in a captured program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from supernets.errors import TrainingError
from supernets.networks.own_operations import own_operation

Gates = Literal["softmax", "softmax-all", "sigmoid", "equal"]
"""The factors of the outputs of a token's experts: the softmax of their logits (Mixtral; Jiang et al. 2024, arXiv 2401.04088);
their part of the softmax over all experts (Switch; Fedus et al. 2021, arXiv 2101.03961); sigmoids that are divided by their sum
(DeepSeek-V3, arXiv 2412.19437); or 1, so that the experts that an MLP was divided into add up to it (MoEfication; Zhang et al.
2022, arXiv 2110.01786)."""
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu-tanh": partial(functional.gelu, approximate="tanh"),
}
"""Activations of experts, by name."""
NULL_LOGIT = -1e4
"""The logit of null experts in a softmax over a token's other ones: no factor remains, and a token of null experts alone has no
NaN."""
UNLIMITED = 2.0
"""Stands for a `top_p` of 1, above which no sum of probabilities is: rounding must not take an expert from a token."""


def past_top_p(logits: Tensor, chosen: Tensor, top_p: Tensor) -> Tensor:
    """A mask of the experts that a token does not have, since the probabilities of those before them sum to `top_p`, (tokens,
    k); the first one it always has.

    Args:
        logits: (tokens, experts).
        chosen: each token's k experts, the greatest logit first, (tokens, k).
        top_p: (n,), of which the greatest counts, so that a smaller network's are the first ones.
    """
    probabilities = logits.softmax(1).gather(1, chosen)
    # No difference of sums, whose rounding is not that of ONNX.
    before = functional.pad(probabilities[:, :-1].cumsum(1), (1, 0))
    return before >= top_p.max()


def routed(logits: Tensor, k: int, gates: Gates, experts: int, top_p: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k experts of each token, (tokens, k), the greatest logit first, and the factors of their outputs, (tokens, k).

    Null experts and those that are `past_top_p` have the number `experts`, and their factors are arbitrary. With ``equal``,
    whose factors are 1, routers learn by a straight-through gradient: that of the softmax times the number of experts.

    Args:
        logits: (tokens, experts), and those of null experts.
        k: Number of experts of a token.
        gates: Kind of the factors.
        experts: Number of experts that are not null.
        top_p: Limit of a token's experts, see `past_top_p`; for the gates ``softmax``, then over the experts that remain, and
            ``softmax-all`` (as in the paper, Huang et al. 2024, arXiv 2403.07652).
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    greatest, chosen = logits.topk(k, dim=1)
    if logits.shape[1] > experts or top_p is not None:
        numbers = chosen.clamp(max=experts)
        if top_p is not None:
            numbers = numbers.masked_fill(past_top_p(logits, chosen, top_p), experts)
        if gates == "softmax-all":
            return numbers, logits.softmax(1).gather(1, chosen)
        return numbers, greatest.masked_fill(numbers == experts, NULL_LOGIT).softmax(1)
    match gates:
        case "softmax":
            return chosen, greatest.softmax(1)
        case "softmax-all":
            return chosen, logits.softmax(1).gather(1, chosen)
        case "sigmoid":
            scores = greatest.sigmoid()
            return chosen, scores / scores.sum(1, keepdim=True)
        case "equal":
            shares = logits.shape[1] * logits.softmax(1).gather(1, chosen)
            return chosen, shares - shares.detach() + 1


@own_operation(
    "(Tensor x, Tensor logits, Tensor active, Tensor up, Tensor down, Tensor? gate=None, Tensor? up_bias=None, "
    "Tensor? top_p=None, *, str gates='softmax', str activation='silu') -> Tensor",
    lambda x, logits, active, up, down, *_, **__: x.new_empty((*x.shape[:-1], down.shape[1])),
)
def mixed_experts(
    x: Tensor,
    logits: Tensor,
    active: Tensor,
    up: Tensor,
    down: Tensor,
    gate: Tensor | None = None,
    up_bias: Tensor | None = None,
    top_p: Tensor | None = None,
    *,
    gates: Gates = "softmax",
    activation: str = "silu",
) -> Tensor:
    """The outputs of each token's experts, times their factors, added up: (..., inputs) -> (..., width).

    An expert computes ``down(activation(up(x)))``, or gated ``down(activation(gate(x)) * up(x))``, of its own tokens alone.
    Where every token has all experts, they are one MLP whose inner channels have factors. Null experts add nothing.

    Args:
        logits: (..., experts), of the router, and those of null experts; a token has the experts of the k greatest.
        active: (k,), anything.
        up, gate: (experts, hidden, inputs).
        down: (experts, width, hidden).
        up_bias: (experts, hidden).
        top_p: (n,), see `past_top_p`; None where every token has k experts.

    Raises:
        TrainingError: a logit is not finite.
    """
    rows, k, n = x.flatten(0, -2), len(active), len(up)
    if not x.is_meta and not logits.isfinite().all():
        problem = "a router of experts returned values that are not finite"
        raise TrainingError(f"{problem}; lower training.learning_rate and train again", code="training.not-finite")
    chosen, factors = routed(logits.flatten(0, -2), k, gates, n, top_p)
    experts = _Experts(ACTIVATIONS[activation], up, down, gate, up_bias)
    # Without values, on the meta device, tokens cannot be divided.
    together = x.is_meta or (k == n == logits.shape[-1] and (top_p is None or bool(top_p.max() > 1)))
    mixed = experts.all(rows, chosen, factors) if together else experts.chosen(rows, chosen, factors)
    return mixed.to(x.dtype).view(*x.shape[:-1], -1)


class _Experts(NamedTuple):
    activation: Callable[[Tensor], Tensor]
    up: Tensor
    down: Tensor
    gate: Tensor | None
    up_bias: Tensor | None

    def all(self, rows: Tensor, chosen: Tensor, factors: Tensor) -> Tensor:
        """Every expert computes all tokens (tokens, inputs)."""
        n = len(self.up)
        joined = [None if tensor is None else tensor.flatten(0, 1) for tensor in (self.up, self.gate, self.up_bias)]
        by_expert = factors.new_zeros(len(rows), n + 1).scatter(1, chosen, factors)[:, :n]  # without null experts
        inner = self._inner(rows, *joined)
        inner = (inner.unflatten(1, (n, -1)) * by_expert[..., None].to(inner.dtype)).flatten(1)
        return functional.linear(inner, self.down.transpose(0, 1).flatten(1))

    def chosen(self, rows: Tensor, chosen: Tensor, factors: Tensor) -> Tensor:
        """Each expert computes the tokens (tokens, inputs) that have chosen it."""
        k, order = chosen.shape[1], chosen.flatten().argsort(stable=True)
        *parts, null = rows[order // k].split(chosen.flatten().bincount(minlength=len(self.up) + 1).tolist())
        # Where all are null, the weights have gradients of zero all the same: workers add up those of equal parameters.
        outputs = [self._one(i, part) for i, part in enumerate(parts) if len(part)] or [self._one(0, parts[0])]
        flat_outputs = torch.cat([*outputs, *([null.new_zeros(len(null), self.down.shape[1])] if len(null) else [])])
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        by_token: Tensor = flat_outputs[places].unflatten(0, (-1, k))
        return (by_token * factors[..., None]).sum(1)

    def _one(self, i: int, rows: Tensor) -> Tensor:
        tensors = [None if tensor is None else tensor[i] for tensor in (self.up, self.gate, self.up_bias)]
        return functional.linear(self._inner(rows, *tensors), self.down[i])

    def _inner(self, rows: Tensor, up: Tensor | None, gate: Tensor | None, bias: Tensor | None) -> Tensor:
        linear = functional.linear(rows, cast(Tensor, up), bias)
        if gate is None:
            return self.activation(linear)
        return self.activation(functional.linear(rows, gate)) * linear
