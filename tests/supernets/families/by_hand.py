"""Pieces of forwards written by hand: layers from tensors by name, with none of the families' modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]


def conv_norm(weights: Weights, name: str, x: Tensor, *, stride: int = 1, depthwise: bool = False) -> Tensor:
    """A convolution without a bias, and a batch norm by the formula."""
    w = weights[f"{name}.conv.weight"]
    x = functional.conv2d(x, w, None, stride, w.shape[-1] // 2, groups=w.shape[0] if depthwise else 1)
    norm = {k: weights[f"{name}.norm.{k}"] for k in ("running_mean", "running_var", "weight", "bias")}
    scale = norm["weight"] / torch.sqrt(norm["running_var"] + 1e-5)
    return (x - norm["running_mean"][:, None, None]) * scale[:, None, None] + norm["bias"][:, None, None]


def resized(x: Tensor, side: int) -> Tensor:
    """Square images of another size, bilinear: as products with a matrix for the rows and one for the columns."""
    old = x.shape[-1]
    matrix = np.zeros((side, old))
    for pixel in range(side):
        at = min(max((pixel + 0.5) * old / side - 0.5, 0), old - 1)  # the pixels' centres are at halves
        low = min(int(at), old - 2)
        matrix[pixel, low] += 1 - (at - low)
        matrix[pixel, low + 1] += at - low
    by_rows = torch.from_numpy(matrix)
    return (by_rows @ x.double() @ by_rows.T).float()


def hard_swish(x: Tensor) -> Tensor:
    """x times the hard sigmoid."""
    return x * hard_sigmoid(x)


def hard_sigmoid(x: Tensor) -> Tensor:
    """x / 6 + 1 / 2, between 0 and 1."""
    return (x / 6 + 0.5).clamp(0, 1)


def experts(
    weights: Weights, name: str, x: Tensor, k: int, active: Callable[[Tensor], Tensor], gates: str, *, top_p: float = 1,
    common: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """A layer of experts without its shared one, (..., width) -> (..., width): all experts compute all tokens, and the outputs
    of those that a token has not chosen are multiplied by zero. The last logits are those of null experts;
    they are columns of `common` where layers have no routers."""
    if common is None:
        logits = x @ weights[f"{name}.router.weight"].T + weights.get(f"{name}.router.bias", torch.zeros(()))
    else:
        logits = common[..., weights[f"{name}.columns"]]
    greater = logits[..., None, :] > logits[..., :, None]
    before = (greater * logits.softmax(-1)[..., None, :]).sum(-1)
    chosen = (greater.sum(-1) < k) & ((before < top_p) | (top_p == 1))  # fewer than k have greater logits
    match gates:
        case "softmax":
            own = torch.exp(logits) * chosen * (torch.arange(logits.shape[-1]) < len(weights[f"{name}.up"]))
            factors = own / own.sum(-1, keepdim=True).clamp(min=1e-30)
        case "softmax-all":
            factors = torch.exp(logits) * chosen / torch.exp(logits).sum(-1, keepdim=True)
        case "sigmoid":
            scores = chosen / (1 + torch.exp(-logits))
            factors = scores / scores.sum(-1, keepdim=True)
        case _:
            factors = chosen.to(x.dtype)
    total = weights.get(f"{name}.bias", torch.zeros(())) + torch.zeros_like(x)
    read = x @ weights[f"{name}.base.weight"].T if f"{name}.base.weight" in weights else x
    for i, up in enumerate(weights[f"{name}.up"]):
        inner = read @ up.T
        if f"{name}.up_bias" in weights:
            inner = inner + weights[f"{name}.up_bias"][i]
        gated = f"{name}.gate" in weights
        inner = active(read @ weights[f"{name}.gate"][i].T) * inner if gated else active(inner)
        total = total + factors[..., i, None] * (inner @ weights[f"{name}.down"][i].T)
    return total


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function."""
    return x * (1 + torch.erf(x / 2**0.5)) / 2
