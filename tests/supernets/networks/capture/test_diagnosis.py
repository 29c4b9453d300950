"""Modules that are not ready, and forwards that cannot be traced: what was expected, and the user's file and line."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from supernets.networks.capture.diagnosis import unregistered
from supernets.networks.capture.tracing import capture
from tests.errors import raises
from tests.supernets.networks.capture import faulty

HERE = "faulty.py:"


def line(text: str) -> str:
    """The place of a line of the faulty networks."""
    lines = Path(faulty.__file__).read_text().splitlines()
    return f"{HERE}{next(i for i, one in enumerate(lines, 1) if text in one)}"


@pytest.mark.parametrize(
    ("module", "code", "parts"),
    [
        (faulty.Converting(), "capture.data-dependent", (line("float(x.mean())"), "torch.where")),
        (faulty.Scaling(), "capture.data-dependent", (line("x.mean().item()"), "leave it a tensor")),
        (faulty.HalfInside(), "capture.model-unusable", (line("x = self.first(x).relu()"), "bfloat16", "enabled=False")),
        (faulty.Selecting(), "capture.data-dependent", (line("hidden > 0"), "mask")),
        (faulty.ThroughNumpy(), "capture.data-dependent", (line(".numpy()"),)),
        (faulty.Dropping(), "capture.random", (line("training=True"), "training=self.training")),
        (faulty.Raising(), "capture.failed", (line("raise LookupError"), "LookupError", "no such layer;", "image_size")),
        (faulty.Custom(faulty.swish), "capture.unknown-operation", ("faulty::swish", "register_fake", HERE)),
        (faulty.OfTwo(), "capture.example", ("(x: 'Tensor', other: 'Tensor')", "'other'", "wrap it")),
        (faulty.ByName(), "capture.example", ("image", "wrap it")),
        (faulty.Returning("none"), "capture.outputs", ("NoneType",)),
        (faulty.Returning("text"), "capture.outputs", ("str",)),
        (faulty.Returning("classes"), "capture.outputs", ("torch.int64",)),
        (faulty.Plain().to("meta"), "capture.model-unusable", ("first.weight", "meta")),
        (faulty.Plain().half(), "capture.model-unusable", ("torch.float16", "module.float()")),
        (faulty.Plain().double(), "capture.example", ("torch.float32", "torch.float64")),
        (nn.LazyLinear(3), "capture.model-unusable", ("weight, bias", "run the module once")),
    ],
    ids=lambda own: type(own).__name__ if isinstance(own, nn.Module) else "",
)  # fmt: skip
def test_a_module_that_cannot_be_captured_is_explained(module: nn.Module, code: str, parts: tuple[str, ...]) -> None:
    with raises(code, *parts):
        capture(module, [torch.randn(2, 4)])


def test_an_input_of_another_size_is_refused_with_the_message_of_torch() -> None:
    with raises(
        "capture.failed", "RuntimeError", line("self.last(self.first(x).relu())"), "(2x5 and 4x16)", "image_size"
    ):
        capture(faulty.Plain(), [torch.randn(2, 5)])


def test_torchscript_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.script(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)))
    with raises("capture.model-unusable", "TorchScript"):
        capture(module, [torch.randn(2, 4)])


def test_a_failure_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with raises("capture.data-dependent"):
        capture(faulty.Converting(), [torch.randn(2, 4)])
    assert capfd.readouterr() == ("", "")


def test_layers_in_plain_containers_are_found() -> None:
    assert unregistered(nn.Sequential(faulty.Listed())) == ["0.layers"]
    module = faulty.Plain()
    module.both = [module.first, module.last]  # registered elsewhere, too
    assert unregistered(module) == []
