"""A captured program against its module, with another batch than the example's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.captured_model import CapturedModel, capture_model
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.user_model import own_model
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets.networks.capture import faulty


def captured(module: nn.Module) -> CapturedModel:
    return capture_model(own_model(module), torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("module", [faulty.Plain(), faulty.Recurrent(), faulty.Custom()])
def test_a_program_has_the_outputs_of_its_module(module: nn.Module) -> None:
    found = captured(module)
    assert found.difference is not None
    assert found.difference <= 1e-5
    assert found.notes == ()


def test_a_batch_that_is_written_into_the_forward_is_refused_with_its_place() -> None:
    with raises("capture.example", "OfBatch", "3 x 3", "faulty.py:", "x.shape[0]"):
        captured(faulty.OfBatch())


@pytest.mark.parametrize("batch", [2, 3, 5])
def test_a_program_that_is_right_for_its_batch_alone_is_refused(batch: int) -> None:
    x = torch.randn(batch, 4, generator=torch.Generator().manual_seed(0))
    with raises("capture.example", "Weighing", f"the capture with {batch} (relative difference"):
        capture_model(own_model(faulty.Weighing()), x)


def test_differences_that_are_rounding_are_accepted() -> None:
    torch.manual_seed(0)  # with some weights the two orders of the sum round alike
    found = captured(faulty.Rounding())
    assert found.difference is not None
    assert found.difference > 1e-6


def test_a_module_that_does_not_run_with_the_other_batch_is_noted() -> None:
    found = captured(faulty.OnlyPairs())
    assert found.difference == 0  # with the batch of 2
    assert "batch of 3 (at " in found.notes[0]
    assert "faulty.py:" in found.notes[0]


def test_outputs_that_change_from_run_to_run_are_refused() -> None:
    with raises("capture.random", "differ between two runs"):
        captured(faulty.Noisy())


def test_nan_is_refused_with_the_call_that_made_it() -> None:
    with raises("capture.nan", "sqrt", "faulty.py:"):
        captured(faulty.Undefined())
    module = faulty.Plain()
    nn.init.constant_(module.last.weight, float("nan"))
    with raises("capture.nan", "last.weight"):
        captured(module)


def test_outputs_of_several_kinds_are_captured_and_others_noted() -> None:
    assert [spec.shape for spec in captured(faulty.Returning("mapping")).outputs] == [(2, 3), (2, 4)]
    assert [spec.shape for spec in captured(faulty.Returning("one")).outputs] == [(2, 3)]
    both = captured(faulty.Returning("both"))
    assert [spec.shape for spec in both.outputs] == [(2, 3)]
    assert "(int64)" in both.notes[0]


def test_a_dataclass_of_outputs_is_captured_and_others_noted() -> None:
    found = captured(faulty.Answering())
    assert [spec.shape for spec in found.outputs] == [(2, 3)]
    assert "(int64)" in found.notes[0]


def test_buffers_that_change_in_evaluation_mode_are_noted_and_the_network_can_be_trained() -> None:
    found = captured(faulty.Counting())
    assert "its forward changes calls, mean in evaluation mode" in found.notes[0]
    family = CapturedFamily(found.program, SpaceOptions(multiple=4), tensors=found.tensors)
    supernet = make_supernet(family).train()
    supernet(torch.randn(2, 4), supernet.space.smallest).sum().backward()
    assert all(own.grad is not None for own in supernet.parameters())


def test_layers_that_torch_does_not_see_are_noted() -> None:
    assert "layers holds" in captured(faulty.Listed()).notes[0]


def test_what_a_module_prints_is_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    class Talking(faulty.Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            print("hello")
            return self.last(self.first(x))

    captured(Talking())
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "hello" in printed.err


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch.compile's own use of it
def test_wrappers_are_taken_off() -> None:
    for module in (nn.DataParallel(faulty.Plain()), torch.compile(faulty.Plain())):
        assert "first.weight" in captured(module).tensors  # type: ignore[arg-type]  # torch.compile returns a module
