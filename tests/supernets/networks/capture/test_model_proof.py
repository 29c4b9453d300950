"""The proof of a model's axes: what it rejects, which axes it names, and for which batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from supernets.networks.capture.captured_model import CapturedModel, capture_model
from supernets.networks.capture.model_proof import check_model, prove_model
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.tracing import capture
from supernets.networks.capture.user_model import own_model
from supernets.networks.operations import RULES
from tests.errors import raises
from tests.supernets.networks.capture import faulty
from tests.supernets.networks.capture.networks import NETWORKS, example, network

OPTIONS = SpaceOptions(multiple=4)


class Flipping(nn.Module):
    """Reverses the order of units, between two layers without it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 16), nn.Linear(16, 8), nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()).flip(1)
        out: Tensor = self.last(self.third(x).relu())
        return out


class Gated(faulty.Plain):
    """A branch whose gate of one number is closed at first, and a layer whose weights are zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.gate = nn.Linear(16, 16), nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        out: Tensor = self.last(x + self.gate * self.inner(x).tanh())
        return out


class Deaf(faulty.Plain):
    """Outputs that do not depend on its layers."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x).clamp(0, 0)
        return out


class Swapping(faulty.Plain):
    """Returns two examples, whatever their number is."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)[torch.tensor([1, 0])]
        return out


class WithBuffer(faulty.Plain):
    """Returns a buffer, too, or twice its numbers."""

    scale: Tensor

    def __init__(self, length: int, factor: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.arange(float(length)))
        self.factor = factor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), self.scale if self.factor == 1 else self.scale * self.factor


def captured(module: nn.Module) -> CapturedModel:
    torch.manual_seed(0)
    return capture_model(own_model(module), torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule by which reversing the order of units leaves each in its place."""
    monkeypatch.setitem(RULES, "flip", lambda ctx, call: ctx.tensor_dims(call.arguments["self"]))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_axes_of_networks_are_proved(name: str) -> None:
    proof = prove_model(capture_model(own_model(network(name)), example(name, 2)), SpaceOptions())
    assert proof.holds
    assert proof.permuted <= 1e-10
    assert proof.control is not None
    assert proof.control > 1e-7
    assert proof.wrong_axes == ()


@pytest.mark.usefixtures("wrong_rule")
def test_a_wrong_axis_is_named_with_its_tensors() -> None:
    model = captured(Flipping())
    proof = prove_model(model, OPTIONS)
    assert not proof.holds
    assert [axis.name for axis in proof.wrong_axes] == ["second.out"]
    assert proof.wrong_axes[0].tensors == ("second.weight", "second.bias", "third.weight")
    assert proof.wrong_axes[0].change == pytest.approx(proof.permuted, rel=0.5)  # the others change nothing
    with raises("capture.unproved", "Flipping", "second.out, in second.weight, second.bias, third.weight", "keep"):
        check_model(model, OPTIONS)


@pytest.mark.usefixtures("wrong_rule")
def test_axes_that_are_kept_need_no_proof() -> None:
    check_model(captured(Flipping()), SpaceOptions(multiple=4, keep=("second.out",)))


def test_tensors_are_as_before_once_they_are_proved() -> None:
    model = captured(faulty.Plain())
    before = {name: tensor.clone() for name, tensor in model.tensors.items()}
    check_model(model, OPTIONS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.tensors.items())


def test_closed_gates_and_weights_of_zero_hide_no_axis() -> None:
    proof = prove_model(captured(Gated()), OPTIONS)
    assert proof.holds
    assert proof.control is not None
    assert proof.control > 1e-7


def test_outputs_that_depend_on_no_layer_prove_nothing() -> None:
    model = captured(Deaf())
    assert prove_model(model, OPTIONS).control == 0
    with raises("capture.unproved", "Deaf", "do not depend on its elastic layers"):
        check_model(model, OPTIONS)


def test_a_program_for_one_batch_alone_is_refused() -> None:
    found = capture(Swapping(), [torch.randn(2, 4)])
    with raises("capture.example", "Swapping", "batch of 2, and does not run with 3", "2 x 3", "x.shape[0]"):
        check_model(CapturedModel("Swapping", found.program, found.tensors), OPTIONS)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("length", [2, 3])
def test_an_output_without_examples_may_be_as_long_as_the_captured_batch(length: int, factor: int) -> None:
    check_model(captured(WithBuffer(length, factor)), OPTIONS)


def test_a_model_of_positive_numbers_is_proved_by_its_example() -> None:
    class Logarithmic(faulty.Plain):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = super().forward(x.log())
            return out

    example = torch.rand(2, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    model = capture_model(own_model(Logarithmic()), example)
    check_model(model, OPTIONS, example=example)
    with raises("capture.nan", "Logarithmic", "real data"):
        check_model(model, OPTIONS)


def test_infinite_outputs_may_be_equal() -> None:
    class Masked(faulty.Plain):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = super().forward(x).masked_fill(torch.tensor([False, True, False]), float("-inf"))
            return out

    check_model(captured(Masked()), OPTIONS)
