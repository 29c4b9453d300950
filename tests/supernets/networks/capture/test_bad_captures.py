"""Networks that cannot be captured, and captured ones that were changed: one message that names the place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.captured_model import capture_model
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.program_json import program_from_json, program_to_json
from supernets.networks.capture.space import CapturedSpace, SpaceOptions
from supernets.networks.capture.tracing import capture
from supernets.networks.capture.user_model import own_model
from supernets.networks.module_to_onnx import lower
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets.networks.capture import faulty
from tests.supernets.networks.capture.networks import captured, example, network


class Branching(nn.Module):
    """Its forward depends on values of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


class Random(nn.Module):
    """Draws random numbers in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn(4)


class Rigid(nn.Module):
    """Has no elastic axis: inputs and outputs are its only sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_a_forward_that_depends_on_its_data_is_refused_with_its_place() -> None:
    with raises("capture.data-dependent", "test_bad_captures.py:"):
        capture(Branching(), [torch.randn(2, 4)])


class OfRows(nn.Module):
    """Chooses a step of each example by their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[torch.arange(len(x)), x[..., 0].argmax(1)]


def test_numbers_of_examples_are_refused_with_their_place() -> None:
    with raises("capture.example", "index in the network", "test_bad_captures.py:", "torch.gather"):
        capture(OfRows(), [torch.randn(2, 5, 4)])


class OfUnknown(nn.Module):
    """Makes a tensor for each example, and passes it to an operation without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.hypot(self.layer(x), torch.ones(len(x), 1))


def test_an_operation_without_a_rule_that_reads_a_tensor_of_the_batch_is_named() -> None:
    with raises("capture.example", "test_bad_captures.py:", "aten.hypot.default, without a rule"):
        capture_model(own_model(OfUnknown()), torch.randn(2, 4))


class Called(nn.Module):
    """Passes its hidden layer to a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.last, self.function = nn.Linear(4, 8), nn.Linear(8, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.layer(x)))


@pytest.mark.parametrize(
    ("code", "mention", "function"),
    [
        ("capture.failed", ".detach() for .data", lambda x: x.data * 2),
        (
            "capture.unknown-operation",
            "fake_quantize_per_tensor_affine",
            lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 9),
        ),
    ],
)
def test_what_is_not_captured_is_named_with_its_place(code: str, mention: str, function: Any) -> None:
    with raises(code, mention, "test_bad_captures.py:"):
        capture_model(own_model(Called(function)), torch.randn(2, 4))


class Projecting(nn.Module):
    """An LSTM with projections."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True, proj_size=3)
        self.last = nn.Sequential(nn.Linear(3, 16), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(x)[0][:, -1])


def test_recurrent_layers_with_projections_run_with_any_batch_and_have_no_onnx() -> None:
    model = capture_model(own_model(Projecting()), torch.randn(2, 5, 4))
    supernet = make_supernet(CapturedFamily(model.program, SpaceOptions(), tensors=model.tensors))
    with raises("export.unknown-operation", "projections", "in lstm (at ", "test_bad_captures.py:"):
        lower(supernet.extract(supernet.space.smallest).eval(), torch.randn(2, 5, 4))


def test_random_numbers_are_refused() -> None:
    with raises("capture.random", "test_bad_captures.py:"):
        capture(Random(), [torch.randn(2, 4)])


@pytest.mark.parametrize(
    ("example", "mention"),
    [
        ((torch.zeros(2, 4), torch.zeros(2, 4)), "a tuple of 2"),
        ({"x": torch.zeros(2, 4)}, "a dict of 1"),
        (3.0, "a float;"),
    ],
)
def test_an_example_that_is_no_tensor_is_refused(example: Any, mention: str) -> None:
    with raises("capture.example", "Plain", mention, "one input"):
        capture_model(own_model(faulty.Plain()), example)


def test_an_example_of_one_is_refused() -> None:
    with raises("capture.example", "(1, 4)"):
        capture(Rigid(), [torch.randn(1, 4)])


def test_a_network_without_an_elastic_axis_is_refused() -> None:
    found = capture(Rigid(), [torch.randn(2, 4)])
    with raises("capture.nothing-elastic", "an output of the network: layer.weight", "the size of the input"):
        CapturedFamily(found.program, SpaceOptions(), tensors=found.tensors)


def test_an_operation_of_the_users_fixes_what_it_touches() -> None:
    """Its name is that of an operation with a rule, which is for torch's alone."""
    elastic = infer_axes(capture(faulty.Custom(), [torch.randn(2, 4)]).program)
    assert elastic.axes == {}
    assert elastic.unknown == {"faulty.doubled.default": 1}


def test_a_pattern_of_nothing_is_refused() -> None:
    elastic = infer_axes(captured("resnet").program)
    with raises("capture.unknown-name", "layer7.*"):
        CapturedSpace(elastic, SpaceOptions(keep=("layer7.*",)))
    kept = CapturedSpace(elastic, SpaceOptions(keep=("stem.*", elastic.program.tensors[-1])))
    printed = next(choice.name for choice in kept.members() if choice.kind == "width").removesuffix(".width")
    assert printed not in {c.name for c in CapturedSpace(elastic, SpaceOptions(keep=(printed,))).members()}


def test_capturing_keeps_the_mode_of_the_users_network() -> None:
    module = network("resnet").train()
    module.layer1.eval()
    capture(module, [example("resnet", 2)])
    assert module.training
    assert not module.layer1.training


def changed(**changes: Any) -> dict[str, Any]:
    data = copy.deepcopy(program_to_json(captured("resnet").program))
    data.update(changes)
    return data


def test_a_program_is_read_back_equal() -> None:
    program = captured("windowed").program
    assert program_from_json(program_to_json(program)) == program


@pytest.mark.parametrize(
    "changes",
    [
        {"calls": None}, {"inputs": []}, {"outputs": ["%nowhere"]}, {"batch": 1}, {"values": {}}, {"tensors": ["a", 1]},
    ],
)  # fmt: skip
def test_a_malformed_program_is_refused(changes: dict[str, Any]) -> None:
    with raises("capture.malformed"):
        program_from_json(changed(**changes))


def test_an_operation_without_a_rule_is_refused() -> None:
    data = changed()
    data["calls"][0]["op"] = "aten.from_file.default"
    with raises("capture.unknown-operation", "aten.from_file.default"):
        program_from_json(data)


def test_sizes_beyond_any_memory_are_refused() -> None:
    data = changed()
    data["values"][data["tensors"][0]] = [[2**31 - 1, 2**31 - 1], "float32"]
    with raises("capture.malformed"):
        program_from_json(data)


def test_a_call_that_reads_a_later_value_is_refused() -> None:
    data = changed()
    data["calls"][0], data["calls"][1] = data["calls"][1], data["calls"][0]
    with raises("capture.malformed"):
        program_from_json(data)


def test_a_program_names_files_without_the_folders_of_this_machine() -> None:
    places = {call.place for call in captured("windowed").program.calls}
    assert any(place.startswith("capture/networks.py:") for place in places)
    assert not any(place.startswith("/") for place in places)
