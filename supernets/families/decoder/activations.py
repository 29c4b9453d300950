"""The importance of a decoder's layers, heads, neurons and channels, measured on its activations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.families.decoder.decoder_network import MLP, CausalAttention, Decoder, Layer
from supernets.networks.threads import one_thread

MAX_TOKENS = 2**14
"""Number of tokens that importance is measured on; more change the order of SmolLM2's neurons little."""
RIDGE = 1e-3
"""Added to second moments before they are inverted, as a share of their mean."""
_STEPS = 32
"""A step of `elimination` removes one unit of this many that remain."""


@dataclass(frozen=True)
class LayerActivations:
    """Second moments of a layer's activations, means over tokens.

    What is added to the residual stream is weighted by one over the stream's mean square after the layer: all that follows
    reads the stream normalised, and few tokens with large norms would else decide. Where a norm follows a linear layer, its
    inputs are divided by what the norm divides its outputs by, see `fixed_norm`.

    Attributes:
        heads: (n, n), of the inputs of ``attention.project``, weighted.
        neurons: (hidden, hidden), of the inputs of ``mlp.down``, weighted.
        normalised: (2, width), squares of what the attention and the MLP read.
        added: (), the square of all that the layer adds to the stream, weighted, the mean over channels.
    """

    heads: Tensor
    neurons: Tensor
    normalised: Tensor
    added: Tensor


@dataclass(frozen=True)
class Activations:
    """Second moments of the activations of a decoder, means over tokens.

    Attributes:
        layers: Moments of each layer, in their order.
        head: (width,), squares of the inputs of the head's linear layer.
    """

    layers: tuple[LayerActivations, ...]
    head: Tensor


def some_tokens(batches: Iterable[Tensor], max_tokens: int) -> list[Tensor]:
    """Returns the first texts of batches of token ids (n, tokens): at least one, and about `max_tokens` tokens in all."""
    texts: list[Tensor] = []
    for ids in batches:
        if (n_missing := max_tokens - sum(part.numel() for part in texts)) <= 0:
            break
        texts.append(ids[: max(1, n_missing // ids.shape[1])])
    return texts


def inputs_of(module: nn.Module, name: str, *arguments: Any) -> Tensor:
    """Returns the inputs of the last layer of a module, which is left out of the call.

    Args:
        module: Module whose outputs are those of its last layer.
        name: Name of the attribute with the last layer.
        arguments: Arguments of the module's forward.
    """
    last = getattr(module, name)
    setattr(module, name, nn.Identity())
    try:
        return cast(Tensor, module(*arguments))
    finally:
        setattr(module, name, last)


@dataclass(frozen=True)
class Part:
    """The attention or the MLP of a layer.

    Attributes:
        module: The attention or the MLP.
        last: Name of its last linear layer.
        norm: The norm of its inputs.
        post_norm: The norm of its outputs; an identity for none.
        arguments: Further arguments of its forward.
    """

    module: nn.Module
    last: str
    norm: nn.Module
    post_norm: nn.Module
    arguments: tuple[Any, ...] = ()

    @property
    def linear(self) -> nn.Linear:
        """Its last linear layer."""
        return cast(nn.Linear, getattr(self.module, self.last))

    def inputs(self, x: Tensor) -> Tensor:
        """The inputs of the last linear layer for tokens (n, tokens, width) of the residual stream."""
        return inputs_of(self.module, self.last, self.norm(x), *self.arguments)


def parts_of(network: Decoder, ids: Tensor | None = None) -> dict[int, Part]:
    """The parts of a network without experts by number, in their order: 2 i is the attention of layer i, and 2 i + 1 its MLP.

    Args:
        ids: Token ids (n, tokens) of texts for which `Part.inputs` is called; None where it is not.
    """
    parts, masks = dict[int, Part](), {} if ids is None else network.masks_and_turns(ids)
    for name, module in network.layers.items():
        layer, number = cast(Layer, module), 2 * int(name)
        if layer.has_attention:
            parts[number] = Part(layer.attention, "project", layer.norm1, layer.post_norm1, masks.get(name, ()))
        if layer.has_mlp:
            parts[number + 1] = Part(layer.mlp, "down", layer.norm2, layer.post_norm2)
    return parts


def fixed_norm(norm: nn.Module, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """A root-mean-square norm as a linear function, which can be a part of the linear layer before it.

    Returns:
        What the norm divides these outputs by, (..., 1), and its weights, (width, 1); ones, (1, 1), for an identity.
    """
    if isinstance(norm, nn.Identity):
        return torch.ones(1, 1), torch.ones(1, 1)
    norm = cast(nn.RMSNorm, norm)
    return (outputs.square().mean(dim=-1, keepdim=True) + cast(float, norm.eps)).sqrt(), norm.weight[:, None]


@torch.no_grad()
def measure_activations(network: Decoder, batches: Iterable[Tensor], *, max_tokens: int = MAX_TOKENS) -> Activations:
    """The second moments of a decoder's activations on texts.

    Args:
        network: Extracted network in evaluation mode, without experts.
        batches: Token ids, (n, tokens) each; the first ones are read, about `max_tokens` tokens in all.
    """
    layers = [cast(Layer, layer) for layer in network.layers.values()]
    sums: list[list[Tensor]] = [[] for _ in layers]
    head, n = torch.zeros(()), 0
    for ids in (text for batch in some_tokens(batches, max_tokens) for text in batch.split(16)):
        masks, x = network.masks_and_turns(ids), network.embedding(ids)
        n += ids.numel()
        for i, (layer, arguments) in enumerate(zip(layers, masks.values(), strict=True)):
            x, layer_sums = _observed(layer, x, *arguments)
            sums[i] = [old + new for old, new in zip(sums[i], layer_sums, strict=True)] if sums[i] else layer_sums
        head = head + network.head.norm(x).square().flatten(0, -2).sum(0)
    means = ([total / n for total in totals] for totals in sums)
    return Activations(tuple(LayerActivations(*moments) for moments in means), head / n)


@torch.no_grad()
def block_influence(network: Decoder, batches: Iterable[Tensor], *, max_tokens: int = MAX_TOKENS) -> list[float]:
    """How much each layer of a decoder changes the residual stream: one minus the cosine similarity of what it reads and what
    it returns, the mean over tokens (Men et al. 2024, arXiv 2403.03853).

    Args:
        network: Extracted network in evaluation mode, without experts.
        batches: Token ids, (n, tokens) each; the first ones are read.
        max_tokens: Number of tokens that are read, about.

    Returns:
        One value for each layer, from 0 to 2, in their order.
    """
    influences, n = [0.0] * len(network.layers), 0
    for ids in (text for batch in some_tokens(batches, max_tokens) for text in batch.split(16)):
        masks, x = network.masks_and_turns(ids), network.embedding(ids)
        n += ids.numel()
        for i, (name, layer) in enumerate(network.layers.items()):
            before, x = x, layer(x, *masks[name])
            influences[i] += (1 - nn.functional.cosine_similarity(before, x, dim=-1)).sum().item()
    return [value / n for value in influences]


def _observed(layer: Layer, x: Tensor, mask: Tensor, turn: Any) -> tuple[Tensor, list[Tensor]]:
    """Returns the outputs of a layer, and the sums over tokens of the fields of `LayerActivations`."""
    first = layer.norm1(x)
    heads = inputs_of(layer.attention, "project", first, mask, turn)
    attended = layer.attention.project(heads)
    between = x + layer.post_norm1(attended)
    second = layer.norm2(between)
    neurons = inputs_of(layer.mlp, "down", second)
    outputs = layer.mlp.down(neurons)
    after = between + layer.post_norm2(outputs)
    scale = after.square().mean(dim=-1, keepdim=True).clamp(min=1e-12).rsqrt()
    divisors = (fixed_norm(layer.post_norm1, attended)[0], fixed_norm(layer.post_norm2, outputs)[0])
    weighted = (
        (inputs * scale / divisor).flatten(0, -2) for inputs, divisor in zip((heads, neurons), divisors, strict=True)
    )
    moments = [rows.T @ rows for rows in weighted]
    squares = torch.stack([inputs.square().flatten(0, -2).sum(0) for inputs in (first, second)])
    return after, [*moments, squares, ((after - x) * scale).square().mean(dim=-1).sum()]


@torch.no_grad()
def activation_importance(network: Decoder, activations: Activations) -> dict[str, Tensor]:
    """The importance of each index of each axis of a decoder's largest network, for `supernets.sharing.sorting.orders`.

    Of groups of heads, of the queries of all groups, and of hidden channels, it is the squared error of what is added to the
    residual stream once the index and all less important ones are gone and the weights of the others are corrected for it;
    see `elimination`. Of channels of the residual stream, it is the share of squared inputs times squared weights of all
    linear layers that read them, each layer's sum being one.

    Returns:
        (size,) by the name of the axis.
    """
    importance_by_axis, width = dict[str, Tensor](), _shares(_table(network), activations.head)
    for i, (module, layer_activations) in enumerate(zip(network.layers.values(), activations.layers, strict=True)):
        layer = cast(Layer, module)
        attention, (weight, down) = layer.attention, added_weights(layer)
        for axis, units in head_units(attention).items():
            importance_by_axis[f"layer{i}.{axis}"] = elimination(layer_activations.heads, weight, units)
        neurons = torch.arange(down.shape[1])[:, None]
        importance_by_axis[f"layer{i}.hidden"] = elimination(layer_activations.neurons, down, neurons)
        for squares, readers in zip(layer_activations.normalised, _readers(layer), strict=True):
            width = width + sum((_shares(reader.weight, squares) for reader in readers), torch.zeros(()))
    return {"width": width, **importance_by_axis}


def added_weights(layer: Layer) -> tuple[Tensor, Tensor]:
    """The weights of ``attention.project`` and ``mlp.down``, times those of the norms after them, see `fixed_norm`."""
    project, down = layer.attention.project.weight, cast(MLP, layer.mlp).down.weight
    gains = (fixed_norm(norm, project.new_ones(1, 1))[1] for norm in (layer.post_norm1, layer.post_norm2))
    return cast(
        "tuple[Tensor, Tensor]", tuple(gain * weight for gain, weight in zip(gains, (project, down), strict=True))
    )


def head_units(attention: CausalAttention) -> Mapping[str, Tensor]:
    """The inputs of `project` that belong to each group of heads, and to each query of all groups, (units, inputs) by axis."""
    channels = head_channels(attention)
    return {"heads": channels.flatten(1), "queries": channels.transpose(0, 1).flatten(1)}


def head_channels(attention: CausalAttention) -> Tensor:
    """The inputs of `project`, (groups, queries, head_size)."""
    size = attention.head_size
    return torch.arange(attention.project.in_features).view(attention.key.out_features // size, -1, size)


def _readers(layer: Layer) -> tuple[Sequence[nn.Linear], Sequence[nn.Linear]]:
    """The linear layers that read the stream before the attention, and before the MLP."""
    attention, mlp = layer.attention, cast(MLP, layer.mlp)
    return (attention.query, attention.key, attention.value), (mlp.up,) if mlp.gate is None else (mlp.gate, mlp.up)


def _table(network: Decoder) -> Tensor:
    """The weight of the head's linear layer."""
    return cast(nn.Linear, network.head.words).weight if network.table is None else network.table


def _shares(weight: Tensor, squares: Tensor) -> Tensor:
    """Squares of inputs (n,) times those of weights (outputs, n), summed over outputs, as shares of their sum."""
    energies = weight.square().sum(0) * squares
    return energies / energies.sum().clamp(min=1e-30)


@one_thread()  # MKL's solver of several systems stops for good with two threads and blocks of 192
def elimination(moments: Tensor, weight: Tensor, units: Tensor, *, steps: int = _STEPS) -> Tensor:
    """The squared error of a linear layer's outputs once a unit and all less important ones are gone, (units,).

    Units are removed one after another, always the ones that cost least, and the weights of the others are changed each time so
    that the error is least: the optimal brain surgeon (Hassibi and Stork 1993) for groups of inputs, as ZipLM has it (Kurtic
    et al. 2023, arXiv 2302.04089). Departure: several units are removed at once, one of `steps` of those that remain.

    Args:
        moments: (inputs, inputs), second moments of the inputs, means over tokens.
        weight: (outputs, inputs).
        units: (units, k), the inputs of each; all inputs are in one unit.
        steps: A step removes one unit of this many that remain.
    """
    n, k = units.shape
    inputs = units.flatten()
    remaining, weight = torch.arange(n), weight.double()[:, inputs]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ridged(moments.double()[inputs][:, inputs])))
    errors, total = torch.zeros(n, dtype=torch.float64), 0.0
    while len(remaining):
        blocks = inverse.view(len(remaining), k, len(remaining), k).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        unit_weights = weight.view(-1, len(remaining), k).permute(1, 2, 0)
        solved = unit_weights / blocks if k == 1 else torch.linalg.solve(blocks, unit_weights)
        losses = (unit_weights * solved).sum((1, 2))
        chosen = losses.argsort(stable=True)[: max(1, len(remaining) // steps)]
        stays = torch.ones(len(remaining), dtype=torch.bool)
        stays[chosen] = False
        removed_inputs = (chosen[:, None] * k + torch.arange(k)).flatten()
        remaining_inputs = stays.repeat_interleave(k).nonzero().flatten()
        removed_inverse, removed_weight = inverse[removed_inputs][:, removed_inputs], weight[:, removed_inputs]
        error = (removed_weight.T * torch.linalg.solve(removed_inverse, removed_weight.T)).sum().item()
        errors[remaining[chosen]] = total + error * losses[chosen].cumsum(0) / losses[chosen].sum().clamp(min=1e-300)
        total += error
        gain = torch.linalg.solve(removed_inverse, inverse[removed_inputs][:, remaining_inputs])
        weight = weight[:, remaining_inputs] - removed_weight @ gain
        inverse = inverse[remaining_inputs][:, remaining_inputs] - inverse[remaining_inputs][:, removed_inputs] @ gain
        remaining = remaining[stays]
    return errors


def ridged(moments: Tensor, share: float = RIDGE) -> Tensor:
    """Second moments with a share of their mean added to the diagonal."""
    return moments + (share * moments.diagonal().mean() + 1e-12) * torch.eye(len(moments), dtype=moments.dtype)
