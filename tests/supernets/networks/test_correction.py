"""The correction of subnets of any program: nothing for what is exact, nearer to the largest network for all others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nas
from hardware_profiles.runtime import run_model
from supernets.networks.correction import MAX_EXAMPLES, LayerCorrection
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.base import Supernet
from supernets.sharing.spec import SharingSpec
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from supernets.training.recalibration import Extraction, recalibrate
from tests.supernets import invariants
from tests.supernets.networks.capture.networks import example, network

NETWORKS = ("resnet", "mobile", "dense", "transformer", "windowed", "parts", "outlook", "recurrent")


class Redundant(nn.Module):
    """A network whose later units are sums of earlier ones, so that narrower networks can compute the same.

    Args:
        layer: The layer in its middle, from 8 channels to 8, of which the last four repeat the first four.
    """

    def __init__(self, layer: nn.Module, *, bias: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), layer
        self.head = nn.Linear(8, 5, bias=bias)
        with torch.no_grad():
            for tensor in self.first.parameters():
                tensor[4:] = tensor[:4] * torch.tensor([0.5, -2.0, 1.0, 3.0]).view(-1, *[1] * (tensor.ndim - 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.second(self.first(x))).mean((2, 3)))  # type: ignore[no-any-return]


def supernet_of(name: str) -> Supernet:
    torch.manual_seed(0)
    supernet = nas.supernet_of(network(name), example(name, 2), widths=(0.5, 1.0), granularity="layer")
    return invariants.randomised(supernet).eval()


def correction_of(supernet: Supernet, *batches: Tensor) -> LayerCorrection:
    family, largest = supernet.family, supernet.extract(supernet.space.largest).eval()
    return LayerCorrection(family.programs().of().elastic, largest, batches)


def corrected(supernet: Supernet, correction: LayerCorrection, architecture: Architecture) -> nn.Module:
    return correction(supernet.extract(architecture).eval(), supernet.family.sizes(architecture))


def narrowed(supernet: Supernet) -> Architecture:
    """The narrowest network that has all of its layers."""
    genes = [0 if choice.name.endswith(".width") else len(choice.options) - 1 for choice in supernet.space.choices]
    return supernet.space.canonical(genes)


@torch.no_grad()
def error(module: nn.Module, largest: nn.Module, x: Tensor) -> float:
    expected = largest(x)
    return float((module(x) - expected).square().mean() / expected.var())


@pytest.mark.parametrize("name", NETWORKS)
def test_corrected_networks_answer_more_like_the_largest_one(name: str) -> None:
    supernet = supernet_of(name)
    batches, others = example(name, 256, seed=3).split(64), example(name, 100, seed=4)
    correction, largest = correction_of(supernet, *batches), supernet.extract(supernet.space.largest).eval()
    architecture = narrowed(supernet)
    plain = recalibrate(supernet.extract(architecture), batches)
    assert error(corrected(supernet, correction, architecture), largest, others) < 0.9 * error(plain, largest, others)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, (3, 2), stride=2, padding=(1, 0), bias=False),
        nn.Conv2d(8, 8, 3, dilation=2),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
    ],
    ids=["padded", "strided", "dilated", "grouped"],
)
def test_what_others_can_compute_is_not_lost(layer: nn.Module) -> None:
    """Half of the units that a layer reads are sums of the others: without them it can return the same."""
    torch.manual_seed(1)
    module = Redundant(layer)
    supernet = nas.supernet_of(
        module, torch.randn(2, 3, 8, 8), widths=(0.5, 1.0), granularity="layer", sort=False
    ).eval()
    genes = [int(not choice.name.startswith("first")) for choice in supernet.space.choices]
    architecture, x = supernet.space.canonical(genes), torch.randn(100, 3, 8, 8)
    largest = supernet.extract(supernet.space.largest).eval()
    fitted = corrected(supernet, correction_of(supernet, torch.randn(200, 3, 8, 8)), architecture)
    before = error(supernet.extract(architecture).eval(), largest, x)
    if getattr(layer, "groups", 1) == 1:
        assert error(fitted, largest, x) < 1e-4 < 0.02 < before
    else:
        assert error(fitted, largest, x) < 0.5 * before


def test_the_largest_network_is_not_fitted() -> None:
    supernet, batches = supernet_of("resnet"), [example("resnet", 64)]
    architecture = supernet.space.largest
    expected = recalibrate(supernet.extract(architecture), batches)
    correction = LayerCorrection(supernet.family.programs().of().elastic, expected, batches)
    module = correction(recalibrate(supernet.extract(architecture), batches), supernet.family.sizes(architecture))
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, expected.get_parameter(name)), name
    assert error(module, expected, example("resnet", 50, seed=7)) < 1e-5


def test_corrections_do_not_depend_on_those_before() -> None:
    supernet = supernet_of("mobile")
    correction, architecture = correction_of(supernet, example("mobile", 64)), narrowed(supernet)
    first = corrected(supernet, correction, architecture).state_dict()
    corrected(supernet, correction, supernet.space.smallest)
    for name, tensor in corrected(supernet, correction, architecture).state_dict().items():
        assert torch.equal(tensor, first[name]), name


def test_a_corrected_network_is_the_same_in_onnx_runtime() -> None:
    supernet = supernet_of("mobile")
    module = corrected(supernet, correction_of(supernet, example("mobile", 64)), narrowed(supernet))
    x = example("mobile", 3, seed=9)
    (outputs,) = run_model(lower(module, x), {INPUT: x.numpy()})
    with torch.no_grad():
        assert invariants.relative(torch.from_numpy(outputs), module(x)) <= invariants.RELATIVE_ONNX


def test_only_some_examples_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches beyond the first ones change nothing, and a network with large results reads fewer."""
    supernet, batches = supernet_of("resnet"), example("resnet", MAX_EXAMPLES + 64).split(64)
    architecture = narrowed(supernet)
    expected = corrected(supernet, correction_of(supernet, *batches[:-1]), architecture).state_dict()
    result = corrected(supernet, correction_of(supernet, *batches), architecture).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in result.items())
    monkeypatch.setattr("supernets.networks.correction.MAX_BYTES", 2**20)
    fewer = corrected(supernet, correction_of(supernet, *batches), architecture).state_dict()
    assert not all(torch.equal(tensor, expected[name]) for name, tensor in fewer.items())


class WithoutBiases(nn.Module):
    """Layers without biases, whose inputs are far from zero: nothing can take up a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(12, 32, bias=False),
            nn.ReLU(),
            nn.Linear(32, 32, bias=False),
            nn.ReLU(),
            nn.Linear(32, 5, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x + 5)  # type: ignore[no-any-return]


class TimeFirst(nn.Module):
    """Layers that read the steps before the examples, and all steps of all examples in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        steps = F.relu(self.second(F.relu(self.first(x.transpose(0, 1)))))
        flat = F.relu(self.third(steps.transpose(0, 1).reshape(-1, 16)))
        return self.head(flat.view(len(x), 7, 16).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("module", "shape"), [(WithoutBiases(), (12,)), (TimeFirst(), (7, 6))], ids=["biases", "steps"]
)
def test_layers_are_fitted_to_what_they_read(module: nn.Module, shape: tuple[int, ...]) -> None:
    supernet = nas.supernet_of(module, torch.randn(2, *shape), widths=(0.5, 1.0), granularity="layer").eval()
    generator = torch.Generator().manual_seed(0)
    batch, x = torch.randn(100, *shape, generator=generator), torch.randn(100, *shape, generator=generator)
    largest, architecture = supernet.extract(supernet.space.largest).eval(), narrowed(supernet)
    correction = correction_of(supernet, batch)
    same = corrected(supernet, correction, supernet.space.largest)
    assert error(same, largest, x) < 1e-6
    plain = supernet.extract(architecture).eval()
    assert error(corrected(supernet, correction, architecture), largest, x) < 0.25 * error(plain, largest, x)


def test_subnets_of_a_trained_supernet_are_fitted_to_the_largest_one_as_it_is_scored() -> None:
    """The stored statistics are a mixture of those of all subnets that were trained."""
    supernet, batches = supernet_of("resnet"), example("resnet", 256, seed=3).split(64)
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if name.endswith("running_var"):
                tensor.mul_(4)
            if name.endswith("running_mean"):
                tensor.add_(1)
    fitted = make_supernet(supernet.family, SharingSpec(correction="least-squares"))
    fitted.load_state_dict(supernet.state_dict())
    architecture, x = narrowed(supernet), example("resnet", 100, seed=4)
    largest = recalibrate(supernet.extract(supernet.space.largest), batches)
    plain = Extraction(supernet.eval(), batches)(architecture)
    assert error(Extraction(fitted.eval(), batches)(architecture), largest, x) < 0.9 * error(plain, largest, x)


def test_too_few_examples_and_values_that_are_not_finite_change_nothing() -> None:
    supernet = supernet_of("mobile")
    architecture, x = narrowed(supernet), example("mobile", 40)
    corrected(supernet, correction_of(supernet, x[:1]), architecture)
    broken = x.clone()
    broken[3] = float("inf")
    state = corrected(supernet, correction_of(supernet, broken), architecture).state_dict()
    assert all(tensor.isfinite().all() for name, tensor in state.items() if name.endswith(".weight"))
