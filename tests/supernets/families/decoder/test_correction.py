"""The correction of decoders' subnets in closed form: nothing for the whole network, a smaller error for the others."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from supernets.families.decoder.correction import LARGEST_WEIGHT, RIDGE, SUBNET_TOKENS, Correction
from supernets.families.decoder.decoder_network import Decoder
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import GEMMA, GPT2, LLAMA, OLMO, ORDERED, SKIPS, texts

IDS = texts(80)


@pytest.fixture(params=[LLAMA, GPT2, ORDERED, GEMMA, OLMO], ids=["llama", "gpt2", "ordered", "gemma", "olmo"])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(request.param))


def extracted(supernet: Supernet, architecture: Architecture) -> Decoder:
    return cast(Decoder, supernet.extract(architecture))


def corrector(supernet: Supernet) -> Correction:
    return Correction(extracted(supernet, supernet.space.largest), [IDS[:30], IDS[30:]])


def changed(supernet: Supernet, **levels: int) -> Architecture:
    """The largest network with other levels of some choices, named by their last parts and layers, as in ``layer1_hidden``."""
    names = {choice.name: i for i, choice in enumerate(supernet.space.choices)}
    genes = list(supernet.space.largest.genes)
    for name, level in levels.items():
        genes[names[name.replace("_", ".")]] = level
    return supernet.space.canonical([max(gene, 0) for gene in genes])


@torch.no_grad()
def stream(network: Decoder, index: int) -> Tensor:
    """The residual stream behind the layer with a number."""
    found: list[Tensor] = []
    handle = network.layers[str(index)].register_forward_hook(lambda _, inputs, output: found.append(output))
    network(IDS)
    handle.remove()
    return found[0]


def error_after(network: Decoder, whole: Decoder, own: int, theirs: int) -> float:
    """The error of the stream behind a layer as that behind one of the largest network, with tokens weighted as the
    correction does."""
    wanted, found = stream(whole, theirs), stream(network, own)
    scale = wanted.square().mean(-1, keepdim=True).sqrt()
    return float(((found - wanted) / scale).square().mean())


def test_the_largest_network_is_not_changed(supernet: Supernet) -> None:
    network = extracted(supernet, supernet.space.largest)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    corrector(supernet)(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "levels", [{"layer1_hidden": 0}, {"layer1_heads": 0}, {"layer1_hidden": 0, "layer1_heads": 1}], ids=str
)
def test_the_error_of_a_smaller_layer_falls(supernet: Supernet, levels: dict[str, int]) -> None:
    architecture = changed(supernet, **levels)
    whole, plain = extracted(supernet, supernet.space.largest), extracted(supernet, architecture)
    network = corrector(supernet)(extracted(supernet, architecture))
    assert 0 < error_after(network, whole, 1, 1) < 0.9 * error_after(plain, whole, 1, 1)
    same, after = network.layers["0"].state_dict(), plain.layers["0"].state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in same.items())


def test_the_layer_before_a_missing_one_does_its_work(supernet: Supernet) -> None:
    architecture = changed(supernet, depth=1)
    whole, plain = extracted(supernet, supernet.space.largest), extracted(supernet, architecture)
    network = corrector(supernet)(extracted(supernet, architecture))
    kept, missing = (0, 1) if "2" in network.layers else (1, 2)
    assert error_after(network, whole, kept, missing) < 0.9 * error_after(plain, whole, kept, missing)


@pytest.mark.parametrize(
    ("levels", "end", "fitted"),
    [
        ({"layer2_heads": 0}, 2, "layers.1.mlp.down.weight"),
        ({"layer1_hidden": 0}, 1, "layers.1.attention.project.weight"),
    ],
    ids=str,
)
def test_the_part_before_a_missing_one_does_its_work(levels: dict[str, int], end: int, fitted: str) -> None:
    supernet = invariants.randomised(make_supernet(SKIPS))
    architecture = changed(supernet, **levels)
    whole, plain = extracted(supernet, supernet.space.largest), extracted(supernet, architecture)
    network = corrector(supernet)(extracted(supernet, architecture))
    assert error_after(network, whole, end, end) < 0.9 * error_after(plain, whole, end, end)
    before = plain.state_dict()
    assert (
        next(name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])) == fitted
    )


def test_networks_of_all_sizes_are_corrected(supernet: Supernet) -> None:
    whole, correct = extracted(supernet, supernet.space.largest), corrector(supernet)
    width = whole.embedding.words.embedding_dim
    for architecture in invariants.architectures(supernet):
        network, plain = correct(extracted(supernet, architecture)), extracted(supernet, architecture)
        assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
        if architecture != supernet.space.largest and plain.embedding.words.embedding_dim == width:
            last = max(map(int, network.layers))
            assert error_after(network, whole, last, 2) < error_after(plain, whole, last, 2)


def test_one_layer_has_the_weights_of_ridge_regression() -> None:
    supernet = invariants.randomised(make_supernet(LLAMA))
    architecture = changed(supernet, layer2_hidden=1)
    whole, plain = extracted(supernet, supernet.space.largest), extracted(supernet, architecture)
    network = corrector(supernet)(extracted(supernet, architecture))
    found: list[Tensor] = []
    handle = plain.layers["2"].mlp.down.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    wanted, own = stream(whole, 2), stream(plain, 2)
    handle.remove()
    scale = wanted.square().mean(-1, keepdim=True).sqrt()
    inputs, missing = ((value / scale).flatten(0, 1).double() for value in (found[0], wanted - own))
    # All layers before are the same, so that the subnet's own inputs are some of the largest network's.
    n, n_own = len(inputs), SUBNET_TOKENS // IDS.shape[1] * IDS.shape[1]
    assert 0 < n_own < n
    weights = (LARGEST_WEIGHT / n + (torch.arange(n) < n_own) / n_own).double().sqrt()[:, None]
    inputs, missing = weights * inputs, weights * missing
    ridge = (RIDGE * (inputs.square().sum(0).mean())).sqrt() * torch.eye(inputs.shape[1])
    rows, zeros = torch.cat([inputs, ridge.double()]), torch.zeros(inputs.shape[1], missing.shape[1]).double()
    change = torch.linalg.lstsq(rows, torch.cat([missing, zeros])).solution.T
    before, after = (net.layers["2"].mlp.down.weight.detach() for net in (plain, network))
    assert torch.allclose(
        after - before, change.float(), atol=2e-3 * float(change.abs().max())
    )  # half precision of the stream


def test_corrections_do_not_depend_on_those_before() -> None:
    supernet = invariants.randomised(make_supernet(LLAMA))
    small, middle = supernet.space.smallest, changed(supernet, layer1_hidden=0)
    correct = corrector(supernet)
    first = correct(extracted(supernet, small)).state_dict()
    correct(extracted(supernet, middle))
    again = correct(extracted(supernet, small)).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
