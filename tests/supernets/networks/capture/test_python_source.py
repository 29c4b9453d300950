"""Captured networks as Python: the text defines modules of torch that compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.network import PlainNetwork
from supernets.networks.capture.program import Program
from supernets.networks.capture.python_source import access, source_of
from supernets.networks.capture.specialisation import specialised
from supernets.networks.capture.tracing import capture
from tests.supernets.networks.capture.networks import NETWORKS, captured, example
from tests.supernets.networks.capture.test_captured_networks import supernet_of


def written(program: Program) -> tuple[nn.Module, str]:
    text = source_of(program, about="A network.")
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "Any": Any, "Tensor": Tensor}
    exec(compile("from __future__ import annotations\n" + text, "network.py", "exec"), names)
    return names["Network"]().eval(), text


@pytest.mark.parametrize("name", NETWORKS)
def test_the_text_of_a_subnet_computes_what_the_subnet_does(name: str) -> None:
    supernet = supernet_of(name).eval()
    rng = np.random.default_rng(5)
    for architecture in (supernet.space.smallest, supernet.space.largest, supernet.space.sample(rng)):
        module = supernet.extract(architecture)
        assert isinstance(module, PlainNetwork)
        again, text = written(module.captured_program)
        again.load_state_dict(
            {key: own for key, own in module.state_dict().items() if key in module.captured_program.tensors}
        )
        for n in (1, 3):
            x = example(name, n, seed=n)
            with torch.no_grad():
                assert torch.allclose(again(x), module(x), rtol=1e-5, atol=1e-6)  # sums may be reordered
        # RMS norm is no function of the oldest torch; the others interpolate and unfold as their forwards recorded it.
        assert "torch.ops" not in text or name in ("tokens", "parts", "outlook")


def test_layers_are_layers_and_lines_are_readable() -> None:
    found = captured("resnet")
    elastic = infer_axes(found.program)
    module, text = written(specialised(elastic, elastic.full_sizes))
    assert isinstance(module.get_submodule("layer1.0.body.0.0"), nn.Conv2d)
    assert isinstance(module.get_submodule("layer1.0.body.0.1"), nn.BatchNorm2d)
    assert '        put(self, "stem.0", nn.Conv2d(3, 16, 3, padding=1, bias=False))' in text
    assert "        # layer1.0\n" in text
    assert "        x = self.layer1[0].body[0][1](x)\n" in text
    module.load_state_dict(found.tensors)  # batch norms count no batches in a file without metadata
    module.train()
    module(example("resnet", 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


class Odd(nn.Module):
    """Names that are no identifiers, a layer that is called twice, tied weights, and several outputs of a call."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"class": nn.Linear(8, 8), "a-b": nn.Linear(8, 8, bias=False)})
        self.out = nn.Linear(8, 8, bias=False)
        self.out.weight = self.parts["a-b"].weight
        self.register_buffer("shift", torch.arange(8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.parts["class"](self.parts["class"](x))
        best, _ = y.max(dim=1, keepdim=True)
        first = self.parts["a-b"](y).chunk(2, dim=1)[0]
        return self.out(torch.cat([first, first], 1)) - best + self.shift


def test_odd_names_shared_layers_and_tied_weights() -> None:
    torch.manual_seed(0)
    module = Odd().eval()
    found = capture(module, [torch.randn(2, 8)])
    elastic = infer_axes(found.program)
    again, text = written(specialised(elastic, elastic.full_sizes))
    again.load_state_dict(dict(found.tensors))
    x = torch.randn(3, 8)
    assert torch.equal(again(x), module(x))
    assert 'self.parts["class"](x)' in text
    assert "torch.zeros((8,), dtype=torch.int64)" in text


def test_paths_are_attributes_where_they_can_be() -> None:
    assert access("blocks.0.attn.weight") == "self.blocks[0].attn.weight"
    assert access("a-b.01.class") == 'self["a-b"]["01"]["class"]'
