"""An estimate of what a subnet of a pretrained decoder loses: the energy that its missing parts add to the residual stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.families.decoder.activations import added_weights, head_channels, measure_activations
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder, Layer
from supernets.networks.threads import one_thread
from supernets.space import Architecture, Option

OptionT = TypeVar("OptionT")
TOKENS = 2**12
"""Number of tokens that energies are measured on: 15 CPU seconds for SmolLM2-135M."""


class RemovedEnergy:
    """The energy of what subnets of a decoder lack, layer by layer, on texts.

    For missing heads, queries and hidden channels, to all of a layer's, it is the square of what they add to the residual
    stream in the whole network, as a share of the stream's square after the layer, the mean over tokens; for a missing layer
    that of all that it adds. Norms after attention and MLPs divide by what they do in the whole network. Nothing is trained or
    corrected, and errors of different layers count as independent of each other. Channels of the stream that are missing do not
    count.

    The logarithm of a corrected one-shot subnet's perplexity is about linear in the sum over layers: a line through 20 subnets
    of SmolLM2-135M predicts the perplexities of others with errors of 8 %, one by multiply-accumulates with 12 %.
    It is an estimate for models to learn from, and no objective.

    Args:
        family: Family of the network.
        network: The largest network, extracted, in evaluation mode; without experts, its units sorted as they are in `family`.
        batches: Token ids, (n, tokens) each; the first ones are read, about `TOKENS` tokens in all.
    """

    @torch.no_grad()
    def __init__(self, family: DecoderFamily, network: Decoder, batches: Iterable[Tensor]) -> None:
        self._family, options = family, family.layer_options()
        self._smallest_queries = options["queries"][0]
        self._attention: list[dict[tuple[Option, Option], float]] = []
        self._hidden: list[dict[Option, float]] = []
        with one_thread():
            layers = measure_activations(network, batches, max_tokens=TOKENS).layers
            self._layer_energies = [activations.added.item() for activations in layers]
            for module, activations in zip(network.layers.values(), layers, strict=True):
                layer = cast(Layer, module)
                project, down = added_weights(layer)
                channels, hidden = head_channels(layer.attention), torch.arange(down.shape[1])
                pairs = {pair: _missing(channels, *pair) for pair in product(options["heads"], options["queries"])}
                last = {size: hidden[cast(int, size) :] for size in options["hidden"]}
                self._attention.append(_energies(activations.heads, project, pairs))
                self._hidden.append(_energies(activations.neurons, down, last))

    def __call__(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Energies, (n, layers); 0 for all layers of the largest network."""
        energies = np.tile(np.array(self._layer_energies), (len(architectures), 1))
        for row, architecture in zip(energies, architectures, strict=True):
            values = self._family.space.values(architecture)
            for i in self._family.layer_numbers(architecture):
                heads, hidden = values[f"layer{i}.heads"], values[f"layer{i}.hidden"]
                queries = values.get(f"layer{i}.queries", self._smallest_queries)  # none without attention
                row[i] = self._attention[i][heads, queries] + self._hidden[i][hidden]
        return energies


def _missing(channels: Tensor, heads: Option, queries: Option) -> Tensor:
    """The inputs of the projection, of all `head_channels`, that a smaller attention lacks."""
    is_missing = torch.ones_like(channels, dtype=torch.bool)
    is_missing[: cast(int, heads), : cast(int, queries)] = False
    return channels[is_missing]


def _energies(moments: Tensor, weight: Tensor, missing: Mapping[OptionT, Tensor]) -> dict[OptionT, float]:
    """Returns, for each option, the mean square of what its missing inputs add to the outputs of a linear layer.

    Args:
        moments: (inputs, inputs), second moments of all inputs.
        weight: (outputs, inputs).
        missing: indices of inputs; those of one option, the smallest, include all others.
    """
    all_missing = max(missing.values(), key=len)
    missing_weight = weight[:, all_missing]
    products = (
        (missing_weight.T @ missing_weight) * moments[all_missing[:, None], all_missing] / len(weight)
    )  # once for all options
    energy_by_option = dict[OptionT, float]()
    for option, inputs in missing.items():
        positions = torch.isin(all_missing, inputs).nonzero()[:, 0]
        energy_by_option[option] = products[positions[:, None], positions].sum(dtype=torch.float64).item()
    return energy_by_option
