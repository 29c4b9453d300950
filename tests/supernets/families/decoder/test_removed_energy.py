"""The energy that subnets lack, beside what their missing parts add in a forward of the whole network."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from supernets.checkpoint import make_supernet
from supernets.families.decoder.family import DecoderFamily
from supernets.families.decoder.network import Decoder, Layer
from supernets.families.decoder.removed_energy import RemovedEnergy
from tests.supernets import invariants
from tests.supernets.families.decoder.test_family import GPT2, LLAMA, texts


def by_hand(network: Decoder, ids: Tensor, layer: int, heads: Tensor, hidden: int) -> float:
    """Energies of the inputs `heads` of the projection and of the last neurons, from `hidden` on, over the stream's."""
    own, found = cast(Layer, network.layers[str(layer)]), dict[str, Tensor]()
    for name, module in {"heads": own.attention.project, "neurons": own.mlp.down}.items():
        module.register_forward_hook(lambda _, inputs, output, name=name: found.__setitem__(name, inputs[0]))
    own.register_forward_hook(lambda _, inputs, output: found.__setitem__("after", output))
    network(ids)
    parts = (
        found["heads"][..., heads] @ own.attention.project.weight[:, heads].T,
        found["neurons"][..., hidden:] @ own.mlp.down.weight[:, hidden:].T,
    )
    stream = found["after"].square().mean(-1)
    return sum((part.square().mean(-1) / stream).mean().item() for part in parts)


@torch.no_grad()
@pytest.mark.parametrize("family", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_it_is_what_missing_parts_add_to_the_stream(family: DecoderFamily) -> None:
    supernet, ids = invariants.randomised(make_supernet(family)), texts(40)
    space, network = family.space, cast(Decoder, supernet.extract(family.space.largest))
    energy = RemovedEnergy(family, network, [ids[:7], ids[7:]])
    smallest = space.smallest
    missing, none = energy([smallest, space.largest])
    assert none.tolist() == [0.0] * len(none)
    kept, values = family.kept(smallest), space.values(smallest)
    attention, size = cast(Layer, network.layers["0"]).attention, family.spec.head_size
    inputs = torch.arange(attention.project.in_features).view(attention.key.out_features // size, -1, size)
    gone = sorted(set(inputs.flatten().tolist()) - set(_kept(inputs, values["layer0.heads"], values["layer0.queries"])))
    assert 0 in kept
    hidden = cast(int, values["layer0.hidden"])
    assert missing[0] == pytest.approx(
        by_hand(network, ids, 0, torch.tensor(gone, dtype=torch.int64), hidden), rel=1e-3
    )
    left_out = next(i for i in range(len(network.layers)) if i not in kept)
    layer, seen = network.layers[str(left_out)], list[Tensor]()
    layer.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output]))
    network(ids)
    share = (seen[1] - seen[0]).square().mean(-1) / seen[1].square().mean(-1)
    assert missing[left_out] == pytest.approx(share.mean().item(), rel=1e-3)


def _kept(inputs: Tensor, heads: object, queries: object) -> list[int]:
    return inputs[: cast(int, heads), : cast(int, queries)].flatten().tolist()
