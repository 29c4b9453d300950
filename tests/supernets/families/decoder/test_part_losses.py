"""The losses of replaced parts, beside whole forwards of the same networks."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from supernets.families.decoder.activations import parts_of
from supernets.families.decoder.correction import Correction
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.part_losses import TOKENS, PartLosses
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import GPT2, SKIPS, texts

IDS, OTHER_IDS = texts(200), texts(60, seed=3)


def reduced(supernet: Supernet, choice: str, level: int) -> Architecture:
    """The largest network with another level of one choice."""
    genes = [level if c.name == choice else len(c.options) - 1 for c in supernet.space.choices]
    return supernet.space.canonical(genes)


def divergence(network: Decoder, largest: Decoder) -> float:
    """The divergence of all distributions of the first texts, from probabilities in double precision."""
    ids = IDS[: TOKENS // IDS.shape[1]]
    p, q = (net(ids).double().softmax(-1) for net in (largest, network))
    return float((p * (p / q).log()).sum(-1).mean())


CHOICES = [
    ("layer0.heads", 0), ("layer1.hidden", 0), ("layer2.hidden", 1), ("layer2.heads", 1), ("layer1.queries", 0),
    ("depth", 0), ("width", 1),
]  # fmt: skip


@pytest.mark.parametrize("family", [SKIPS, GPT2], ids=["skips", "gpt2"])
@torch.no_grad()
def test_losses_are_those_of_whole_forwards(family: DecoderFamily) -> None:
    supernet = invariants.randomised(make_supernet(family)).eval()
    largest = cast(Decoder, supernet.extract(supernet.space.largest))
    correction = Correction(largest, [OTHER_IDS])
    uncorrected, corrected = PartLosses(supernet, None, IDS), PartLosses(supernet, correction, IDS)
    assert uncorrected(supernet.space.largest) == pytest.approx(0, abs=1e-6)
    for choice, level in CHOICES:
        architecture = reduced(supernet, choice, level)
        network = cast(Decoder, supernet.extract(architecture))
        assert uncorrected(architecture) == pytest.approx(divergence(network, largest), rel=1e-3, abs=1e-6)
        fitted: dict[int, tuple[Tensor, Tensor | None]] = {
            number: correction.fitted_alone(network, number, after) for number, after in correction.places(network)
        }
        for number, part in parts_of(network).items():
            weight, bias = fitted[number]
            part.linear.weight.copy_(weight)
            if bias is not None:
                part.linear.bias.copy_(bias)
        assert corrected(architecture) == pytest.approx(divergence(network, largest), rel=1e-3, abs=1e-6)


def test_live_weights_are_not_changed() -> None:
    supernet = invariants.randomised(make_supernet(SKIPS)).eval()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    correction = Correction(cast(Decoder, supernet.extract(supernet.space.largest)), [OTHER_IDS])
    PartLosses(supernet, correction, IDS)(reduced(supernet, "layer1.hidden", 0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
