"""The invariants of captured families with mixtures, as nested networks, and as one network that is fine-tuned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hardware_profiles.runtime import run_model
from supernets.data import Part
from supernets.families.captured.captured_family import CapturedFamily
from supernets.families.nested_networks import NestedFamily
from supernets.families.single_network import SingleFamily
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.base import Supernet
from supernets.sharing.spec import MixtureSpec, SharingSpec
from supernets.space import Architecture
from supernets.training.checkpoint import load_checkpoint, make_supernet, save_checkpoint
from supernets.training.recalibration import recalibrate
from supernets.training.strategies.single_phase import SandwichStrategy
from supernets.training.training_loop import Loop, TrainingSettings
from tests.supernets import invariants
from tests.supernets.networks.capture.networks import captured, example, network

SHARINGS = {
    "layer": SharingSpec(MixtureSpec(experts=3, hidden=8)),
    "neuron": SharingSpec(MixtureSpec(routing="neuron", hidden=8)),
}
NAMES = ("resnet", "transformer")


def family(name: str) -> CapturedFamily:
    found = captured(name)
    return CapturedFamily(found.program, SpaceOptions(), tensors=found.tensors)


@pytest.fixture(scope="module", params=[(name, sharing) for name in NAMES for sharing in SHARINGS], ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, Supernet]:
    name, sharing = request.param
    torch.manual_seed(0)
    made = invariants.randomised(make_supernet(family(name), SHARINGS[sharing]))
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if "router" in key:
                parameter.mul_(0.2)
    return name, made


@torch.no_grad()
def test_live_and_extracted_subnets_agree_and_depend_on_the_routers(case: tuple[str, Supernet]) -> None:
    name, supernet = case
    x = example(name, 8)
    for architecture in invariants.architectures(supernet, 8):
        own = invariants.with_statistics(supernet, architecture, x)
        extracted = own.extract(architecture)(x)
        assert invariants.relative(own(x, architecture), extracted) <= invariants.RELATIVE
    weights = [dict(supernet.extract(a).named_parameters()) for a in invariants.architectures(supernet, 1)[1:]]
    first = next(key for key in weights[0] if key.startswith(("stem.0", "patch")))
    n = min(len(own[first]) for own in weights)
    assert not torch.allclose(weights[0][first][:n], weights[1][first][:n])


def test_permuting_every_axis_leaves_the_largest_unchanged(case: tuple[str, Supernet]) -> None:
    x = example(case[0], 8)
    invariants.check_permutations(case[1], x, x)


def test_stored_statistics_stay_and_extracted_networks_share_nothing(case: tuple[str, Supernet]) -> None:
    invariants.check_stored_statistics_stay(case[1], example(case[0], 8))
    invariants.check_shares_no_storage(case[1])
    invariants.check_training_extracted(case[1], example(case[0], 8))


def test_onnx_runtime_agrees_with_torch(case: tuple[str, Supernet]) -> None:
    x, supernet = example(case[0], 8), case[1]
    for architecture in invariants.architectures(supernet, 8):
        module = recalibrate(supernet.extract(architecture), [x])
        with torch.no_grad():
            expected = module(x[:3])
        (came,) = run_model(lower(module, x), {INPUT: x[:3].numpy()})
        assert invariants.relative(torch.from_numpy(came), expected) <= invariants.RELATIVE_ONNX


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sharing", SHARINGS)
@torch.no_grad()
def test_a_mixture_begins_with_the_model(name: str, sharing: str) -> None:
    supernet = make_supernet(family(name), SHARINGS[sharing]).eval()
    x = example(name, 4)
    assert invariants.relative(supernet(x, supernet.space.largest), network(name)(x)) <= invariants.RELATIVE


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_nested_networks_and_single_ones_agree_live_and_extracted(name: str, tmp_path: Path) -> None:
    x, inner = example(name, 4), family(name)
    nested = make_supernet(NestedFamily(inner))
    for architecture in invariants.architectures(nested, 4):
        own = invariants.with_statistics(nested, architecture, x)
        assert invariants.relative(own(x, architecture), own.extract(architecture)(x)) <= invariants.RELATIVE
    chosen: Architecture = inner.space.sample(np.random.default_rng(1))
    single = make_supernet(SingleFamily(inner, chosen), pretrained=make_supernet(inner).extract(chosen).state_dict())
    one = single.eval().space.largest
    assert invariants.relative(single(x, one), make_supernet(inner).extract(chosen)(x)) <= invariants.RELATIVE
    assert single.cost(one).macs == make_supernet(inner).cost(chosen).macs
    for i, supernet in enumerate((nested, single)):
        folder = tmp_path / str(i)
        save_checkpoint(folder, supernet, progress={"epoch": 1, "epochs": 1}, optimizer={})
        read = load_checkpoint(folder).supernet.eval()
        largest = read.space.largest
        assert torch.equal(read(x, largest), supernet.eval()(x, largest))


@pytest.mark.parametrize("name", NAMES)
def test_a_training_that_resumes_has_the_weights_of_one_that_ran_through(name: str) -> None:
    part = Part(example(name, 16), torch.arange(16) % 5, "digest")
    settings = TrainingSettings(epochs=2, batch_size=8)

    def begun() -> tuple[Supernet, Loop]:
        torch.manual_seed(0)
        supernet = make_supernet(family(name), SHARINGS["layer"])
        return supernet, Loop(supernet, part, SandwichStrategy(supernet.space, 1), settings)

    whole, loop = begun()
    loop.run_epoch(1, lambda *_: None)
    weights, optimizer = {k: v.clone() for k, v in whole.sharing.state_dict().items()}, loop.optimizer_tensors()
    optimizer = {key: tensor.clone() for key, tensor in optimizer.items()}
    loop.run_epoch(2, lambda *_: None)
    resumed, rest = begun()
    resumed.sharing.load_state_dict(weights)
    rest.resume(1, optimizer, {})
    rest.run_epoch(2, lambda *_: None)
    for key, tensor in whole.sharing.state_dict().items():
        assert torch.equal(tensor, resumed.sharing.state_dict()[key]), key
