"""The energy that subnets lack, beside what their missing parts add in a forward of the whole network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.removed_energy import RemovedEnergy
from supernets.space import Option
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families.decoder.test_activations import observed
from tests.supernets.families.decoder.test_decoder_family import GEMMA, GPT2, LLAMA, ORDERED, SKIPS, texts


def by_hand(
    family: DecoderFamily,
    seen: Mapping[str, tuple[Tensor, Tensor]],
    network: Decoder,
    values: Mapping[str, Option],
    i: int,
) -> float:
    """The energy that layer `i` of a subnet lacks, whose missing inputs are those that a smaller layer does not set to 0."""
    before, after = seen[f"layers.{i}"]
    stream = after.square().mean(-1)
    heads, queries, hidden = (
        cast("int | None", values.get(f"layer{i}.{name}")) for name in ("heads", "queries", "hidden")
    )
    if hidden is None or (heads, hidden) == (0, 0):
        return ((after - before).square().mean(-1) / stream).mean().item()
    attended, neurons = (seen[f"layers.{i}.{name}"][0].clone() for name in ("attention.project", "mlp.down"))
    spec = family.spec
    attended.view(len(stream), spec.heads[-1], spec.queries[-1], spec.head_size)[:, :heads, : queries or 0] = 0
    neurons[:, :hidden] = 0
    parts = list[Tensor]()
    for inputs, name, norm in ((attended, "attention.project", "post_norm1"), (neurons, "mlp.down", "post_norm2")):
        part = inputs @ network.get_parameter(f"layers.{i}.{name}.weight").T
        if f"layers.{i}.{norm}.weight" in network.state_dict():
            scale = (seen[f"layers.{i}.{name}"][1].square().mean(1, keepdim=True) + 1e-5).sqrt()
            part = part / scale * network.get_parameter(f"layers.{i}.{norm}.weight")
        parts.append(part)
    return sum((part.square().mean(-1) / stream).mean().item() for part in parts)


@torch.no_grad()
@pytest.mark.parametrize(
    "family", [LLAMA, GPT2, ORDERED, SKIPS, GEMMA], ids=["llama", "gpt2", "ordered", "skips", "gemma"]
)
def test_it_is_what_missing_parts_add_to_the_stream(family: DecoderFamily) -> None:
    supernet, ids = invariants.randomised(make_supernet(family)), texts(40)
    network = cast(Decoder, supernet.extract(family.space.largest))
    networks = invariants.architectures(supernet, 20)
    missing = RemovedEnergy(family, network, [ids[:7], ids[7:]])(networks)
    layers = range(len(network.layers))
    parts = [f"layers.{i}{part}" for i in layers for part in ("", ".attention.project", ".mlp.down")]
    with observed(network, *parts) as seen:
        network(ids)
    values = [family.space.values(a) for a in networks]
    assert len({own["depth"] for own in values}) == len(family.spec.depth)
    expected = [[by_hand(family, seen, network, own, i) for i in layers] for own in values]
    np.testing.assert_allclose(missing, expected, rtol=1e-4)  # sums of single precision
    assert missing[1].tolist() == [0.0] * len(layers)  # of the largest network
