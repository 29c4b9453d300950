"""`nas.supernet_of`: a supernet of a module at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import nas
from supernets.networks.capture.captured_model import CapturedModel, capture_model, save_capture
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.opening import open_model
from supernets.networks.capture.user_model import own_model
from supernets.networks.operations import RULES
from tests.errors import raises
from tests.supernets.networks.capture import faulty
from tests.supernets.networks.capture.networks import example, network
from tests.supernets.networks.capture.test_model_proof import Flipping


def test_the_largest_subnet_is_the_module() -> None:
    module, x = network("resnet").eval(), example("resnet", 3, seed=5)
    supernet = nas.supernet_of(module, example("resnet", 2))
    with torch.no_grad():
        found = supernet.extract(supernet.space.largest)(x)
        assert relative_difference([module(x)], [found]) <= 1e-5
    assert supernet.cost(supernet.space.smallest).macs < supernet.cost(supernet.space.largest).macs


def test_a_captured_file_takes_the_weights_of_the_whole_model(tmp_path: Path) -> None:
    module, file, weights = faulty.Answering(), tmp_path / "model.nas", tmp_path / "weights.pt"
    save_capture(file, capture_model(own_model(faulty.Answering()), torch.randn(2, 4)))
    torch.save(module.state_dict(), weights)
    found = open_model(str(file), weights=str(weights))
    assert isinstance(found, CapturedModel)
    assert torch.equal(found.tensors["first.weight"], module.first.weight)
    assert found.tensors["factor"][0] == 0.5
    torch.save({**module.state_dict(), "more": torch.zeros(1)}, weights)
    with raises("capture.other-weights", "more"):
        open_model(str(file), weights=str(weights))


def test_options_choose_the_space() -> None:
    whole = nas.supernet_of(network("resnet"), example("resnet", 2), granularity="model", widths=(0.5, 1.0))
    assert {choice.name for choice in whole.space.choices} == {"depth", "width"}
    with raises("capture.nothing-elastic"):
        nas.supernet_of(network("resnet"), example("resnet", 2), keep=("*",))


def test_a_module_whose_axes_are_not_understood_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "flip", lambda ctx, call: ctx.tensor_dims(call.arguments["self"]))
    with raises("capture.unproved", "second.out, in second.weight, second.bias, third.weight", "(keep; in a job"):
        nas.supernet_of(Flipping(), torch.randn(2, 4))
    nas.supernet_of(Flipping(), torch.randn(2, 4), keep=("second.*",))
    nas.supernet_of(Flipping(), torch.randn(2, 4), prove=False)
