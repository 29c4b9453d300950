"""Captured networks of every kind: equal to the user's, right axes, and subnets that agree in torch and ONNX Runtime."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hardware_profiles.runtime import run_model
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.blocks import elastic_share
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.execution import outputs_of, values_of
from supernets.networks.capture.program import BATCH
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.tracing import capture
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import family_from_json, make_supernet
from supernets.training.recalibration import recalibrate
from tests.supernets.networks.capture.networks import NETWORKS, captured, example, network

each_network = pytest.mark.parametrize("name", NETWORKS)
DEPTHS = {
    "resnet": 3,
    "mobile": 2,
    "dense": 0,
    "transformer": 4,
    "windowed": 1,
    "tokens": 1,
    "parts": 3,
    "outlook": 1,
    "recurrent": 0,
}


def supernet_of(name: str, options: SpaceOptions | None = None) -> Supernet:
    found = captured(name)
    return make_supernet(CapturedFamily(found.program, options or SpaceOptions(multiple=4), tensors=found.tensors))


def some_architectures(supernet: Supernet, n: int = 6) -> list[Architecture]:
    rng = np.random.default_rng(3)
    return [supernet.space.smallest, supernet.space.largest, *(supernet.space.sample(rng) for _ in range(n))]


@each_network
@pytest.mark.parametrize("n", [2, 3])
def test_the_largest_network_equals_the_users(name: str, n: int) -> None:
    module, supernet, x = network(name), supernet_of(name), example(name, n, seed=7)
    with torch.no_grad():
        expected, found = module(x), supernet.extract(supernet.space.largest)(x)
    assert expected.std(dim=0).max() > 1e-3  # outputs that do not depend on the inputs would prove nothing
    assert relative_difference([expected], [found]) <= 1e-5


@each_network
def test_values_that_are_not_asked_for_change_no_output(name: str) -> None:
    found, x = captured(name), example(name, 3)
    elastic = infer_axes(found.program)
    sizes = {**elastic.full_sizes, BATCH: len(x)}
    every, outputs = (
        values_of(elastic.program, names, found.tensors.__getitem__, [x], sizes)
        for names in (found.program.values, found.program.outputs)
    )
    assert every.keys() == found.program.values.keys()
    assert outputs.keys() == set(found.program.outputs)
    assert all(torch.equal(outputs[output], every[output]) for output in outputs)
    assert all(every[name] is tensor for name, tensor in found.tensors.items())


@each_network
def test_most_of_the_work_is_elastic_and_residual_layers_may_be_left_out(name: str) -> None:
    elastic = infer_axes(captured(name).program)
    assert not elastic.unknown
    assert elastic_share(elastic) >= 0.7
    assert len(elastic.branches) == DEPTHS[name]


@each_network
def test_subnets_agree_live_extracted_and_in_onnx_runtime(name: str) -> None:
    supernet = supernet_of(name).eval()
    for architecture in some_architectures(supernet):
        module = supernet.extract(architecture)
        for n in (1, 3):
            x = example(name, n, seed=n)
            with torch.no_grad():
                live, extracted = supernet(x, architecture), module(x)
            assert relative_difference([extracted], [live]) <= 1e-5
        recalibrate(module, [example(name, 8)])
        model = lower(module, example(name, 2)) if name != "tokens" else None
        for n in (1, 3) if model is not None else ():
            x = example(name, n, seed=n)
            with torch.no_grad():
                expected = module(x)
            (out,) = run_model(model, {INPUT: x.numpy()})
            assert relative_difference([expected], [torch.from_numpy(out)]) <= 1e-4


@each_network
def test_costs_are_those_of_the_extracted_network(name: str) -> None:
    supernet = supernet_of(name)
    for architecture in some_architectures(supernet):
        module, cost = supernet.extract(architecture), supernet.cost(architecture)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            x = example(name, 1)
            # In double precision, recurrent layers are products that the counter knows.
            module.double()(x.double() if x.is_floating_point() else x)
        assert cost.parameters == sum(p.numel() for p in module.parameters())
        assert cost.macs * 2 == counter.get_total_flops()


@each_network
def test_a_family_is_read_back_from_json(name: str) -> None:
    supernet = supernet_of(name)
    data = json.loads(json.dumps(supernet.family.to_json()))
    again = make_supernet(family_from_json(data))
    again.sharing.load_state_dict(supernet.sharing.state_dict())
    assert again.space.to_json() == supernet.space.to_json()
    x, architecture = example(name, 2), supernet.space.smallest
    with torch.no_grad():
        assert torch.equal(again.extract(architecture)(x), supernet.extract(architecture)(x))


def test_gradients_reach_every_parameter_of_the_largest_network() -> None:
    supernet = supernet_of("resnet").train()
    supernet(example("resnet", 4), supernet.space.largest).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in supernet.sharing.parameters())


def test_statistics_of_the_supernet_are_not_overwritten_in_training() -> None:
    supernet = supernet_of("resnet").train()
    before = {name: buffer.clone() for name, buffer in supernet.sharing.named_buffers()}
    supernet(example("resnet", 4), supernet.space.smallest)
    assert all(torch.equal(before[name], buffer) for name, buffer in supernet.sharing.named_buffers())


def test_programs_run_in_double_precision_as_the_users_network() -> None:
    found, x = captured("windowed"), example("windowed", 2).double()
    outputs = outputs_of(infer_axes(found.program), found.tensors.__getitem__, [x], double=True)
    with torch.no_grad():
        expected = network("windowed").double()(x)
    assert relative_difference([expected], outputs) <= 1e-12


class _NamedLikeOurs(nn.Module):
    """A network whose modules have the names of attributes of captured networks."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks, self.program = nn.ModuleList([nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 1)]), nn.BatchNorm2d(16)
        self.values, self.sizes, self.fit, self._run = (nn.Linear(16, 16) for _ in range(4))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.program(self._blocks[1](self._blocks[0](x).relu())).mean((2, 3))
        return self.head(self._run(self.fit(self.sizes(self.values(x).relu())).relu()))  # type: ignore[no-any-return]


def test_modules_of_any_name() -> None:
    module, x = _NamedLikeOurs().eval(), torch.randn(2, 3, 8, 8)
    found = capture(module, [x])
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(multiple=4), tensors=found.tensors)).eval()
    for architecture in some_architectures(supernet):
        plain = supernet.extract(architecture)
        assert torch.equal(supernet(x, architecture), plain(x))
        (found_there,) = run_model(lower(plain, x), {INPUT: x.numpy()})
        assert np.allclose(found_there, plain(x).detach().numpy(), atol=1e-5)
    assert relative_difference([module(x)], [supernet.extract(supernet.space.largest)(x)]) <= 1e-5
