"""Weights of the experts of a layer, all of one size; those of a dense MLP are one expert."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from supernets.errors import SpaceError

invalid_experts = partial(SpaceError, code="experts.invalid")


@dataclass(frozen=True, eq=False)
class ExpertWeights:
    """n MLPs ``down(activation(up(x)))``, or gated ones ``down(activation(gate(x)) * up(x))`` (arXiv 2002.05202).

    Attributes:
        up: (n, hidden, inputs).
        down: (n, width, hidden).
        gate: Of the shape of `up`; None for plain MLPs.
        up_bias, gate_bias: (n, hidden), or None.
        down_bias: (n, width), or None.

    Raises:
        SpaceError: the shapes do not fit each other.
    """

    up: Tensor
    down: Tensor
    gate: Tensor | None = None
    up_bias: Tensor | None = None
    gate_bias: Tensor | None = None
    down_bias: Tensor | None = None

    def __post_init__(self) -> None:
        (n, hidden, inputs), width = self.up.shape, self.down.shape[1]
        rows = {"up_bias": (n, hidden), "gate_bias": (n, hidden), "gate": (n, hidden, inputs), "down_bias": (n, width)}
        for name, shape in {"down": (n, width, hidden), **rows}.items():
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape != shape:
                raise invalid_experts(
                    f"{name} of experts has the shape {tuple(tensor.shape)}; expected {shape}, as of up"
                )

    def __len__(self) -> int:
        return len(self.up)

    @property
    def hidden(self) -> int:
        """Neurons of each expert."""
        return self.up.shape[1]

    @property
    def neurons(self) -> Tensor:
        """All that each neuron reads and writes, biases included, (n, hidden, features)."""
        biases = [bias[..., None] for bias in (self.up_bias, self.gate_bias) if bias is not None]
        gates = [] if self.gate is None else [self.gate]
        return torch.cat([self.up, *gates, self.down.transpose(1, 2), *biases], dim=-1)

    def inner(self, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """The inputs of `down` for tokens (tokens, inputs), (n, tokens, hidden)."""
        up = _linear(x, self.up, self.up_bias)
        return activation(up) if self.gate is None else activation(_linear(x, self.gate, self.gate_bias)) * up

    def outputs(self, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """The outputs of every expert for tokens (tokens, inputs), (n, tokens, width)."""
        outputs = self.inner(x, activation) @ self.down.transpose(1, 2)
        return outputs if self.down_bias is None else outputs + self.down_bias[:, None]

    def chosen(self, experts: Tensor) -> ExpertWeights:
        """The experts of these numbers, (m,), in their order."""
        selected: list[Any] = [None if tensor is None else tensor[experts] for tensor in vars(self).values()]
        return ExpertWeights(*selected)

    def mixed(self, weights: Tensor) -> ExpertWeights:
        """One expert for each row of weights (m, n): the sum of all experts, times the row."""

        def mix(tensor: Tensor | None) -> Any:
            return None if tensor is None else torch.tensordot(weights.to(tensor), tensor, 1)

        return ExpertWeights(*map(mix, vars(self).values()))

    def regrouped(self, neurons: Tensor, down_bias: Tensor | None) -> ExpertWeights:
        """Experts made of these experts' neurons.

        Args:
            neurons: (m, size), int64: the neurons of each new expert; neuron j of expert i has the number i * hidden + j.
            down_bias: Biases of the new experts, (m, width).
        """
        rows = {**vars(self), "down": self.down.transpose(1, 2), "down_bias": None}
        fields: dict[str, Any] = {
            name: None if tensor is None else tensor.flatten(0, 1)[neurons] for name, tensor in rows.items()
        }
        return ExpertWeights(**{**fields, "down": fields["down"].transpose(1, 2), "down_bias": down_bias})


def stacked(experts: Sequence[ExpertWeights]) -> ExpertWeights:
    """The experts of several weights as those of one layer."""
    columns = zip(*(vars(expert).values() for expert in experts), strict=True)
    joined: list[Any] = [None if tensors[0] is None else torch.cat(tensors) for tensors in columns]
    return ExpertWeights(*joined)


def common_factors(weights: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors A_i (n, rows, rank) and B (rank, columns) for which the squared error of all A_i B is least.

    B has the first right singular vectors of the matrices stacked (MoLAE, Liu et al. 2025, arXiv 2503.23100): the error is the
    sum of the other singular values' squares, and a smaller rank is a prefix of a larger one.

    Args:
        weights: (n, rows, columns).

    Raises:
        SpaceError: the rank is below 1 or above the number of columns.
    """
    if not 1 <= rank <= weights.shape[2]:
        raise invalid_experts(f"experts of rank {rank}; expected 1 to {weights.shape[2]}")
    stack = weights.detach().flatten(0, 1).double()
    # By second moments, as the stack may have many more rows than columns; eigenvalues ascend.
    base = torch.linalg.eigh(stack.T @ stack).eigenvectors.flip(1)[:, :rank].T.to(weights)
    return weights @ base.T, base


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    outputs = x @ weight.transpose(1, 2)
    return outputs if bias is None else outputs + bias[:, None]
