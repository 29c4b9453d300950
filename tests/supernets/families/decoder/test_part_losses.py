"""The losses of replaced parts, beside whole forwards of the same networks."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from supernets.families.decoder.activations import parts_of
from supernets.families.decoder.correction import RIDGE, Correction
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.part_losses import TOKENS, PartLosses, interpolated_loss, sizes_to_measure
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


@torch.no_grad()
def test_errors_of_prefixes_are_those_of_least_squares() -> None:
    largest = cast(
        Decoder, (supernet := invariants.randomised(make_supernet(GPT2)).eval()).extract(supernet.space.largest)
    )
    correction = Correction(largest, [OTHER_IDS])
    part = parts_of(largest, OTHER_IDS)[1]
    x, scale = largest.embedding(OTHER_IDS), torch.zeros(())
    for number, before in parts_of(largest, OTHER_IDS).items():
        inputs = before.inputs(x)
        x = x + before.linear(inputs)
        if number == 1:
            scale = x.square().mean(-1, keepdim=True).sqrt()
            break
    rows = (torch.cat([torch.ones_like(scale), inputs], -1) / scale).flatten(0, -2).double()
    weight = torch.cat([part.linear.bias[:, None], part.linear.weight], 1).double()
    ridge = RIDGE * (rows.square().sum() / rows.numel()).item() * len(rows)
    rows = torch.cat([rows, ridge**0.5 * torch.eye(rows.shape[1], dtype=torch.float64)])
    outputs, errors = rows @ weight.T, correction.prefix_errors(part, 1)
    n = len(rows) - rows.shape[1]
    for k in range(part.linear.in_features + 1):
        solved = torch.linalg.lstsq(rows[:, : k + 1], outputs).solution
        error = (rows[:, : k + 1] @ solved - outputs).square().sum().item() / n
        assert errors[k].item() == pytest.approx(error, rel=1e-3, abs=1e-6)


def test_losses_of_other_sizes_follow_a_power_of_their_errors() -> None:
    assert sizes_to_measure([0, 384, 768, 960, 1152, 1344, 1536]) == {0, 384, 960}
    assert sizes_to_measure([768, 1536]) == {768}
    errors = torch.tensor([16.0, 8.0, 4.0, 2.0, 1.0, 0.0])
    measured = {1: 3 * 8**1.5, 3: 3 * 2**1.5}
    assert interpolated_loss(errors, measured, 2) == pytest.approx(3 * 4**1.5)
    assert interpolated_loss(errors, measured, 4) == pytest.approx(3)
    assert interpolated_loss(errors, {1: 0.0, 3: 0.0}, 4) == 0
