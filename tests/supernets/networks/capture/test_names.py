"""Networks whose modules and tensors have names that the project, torch's containers or ONNX graphs use themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hardware_profiles.runtime import run_model
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.network import PlainNetwork
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.tracing import capture
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.spec import PLAIN, MixtureSpec, SharingSpec
from supernets.training.checkpoint import load_checkpoint, make_supernet, save_checkpoint
from tests.supernets.networks.capture.test_python_source import written


class Own(nn.Module):
    """Layers of any names, with a residual list of layers, a parameter, a buffer and a constant."""

    def __init__(self, layers: tuple[str, ...], parameter: str, buffer: str, residual: str) -> None:
        super().__init__()
        self.names = layers, parameter, buffer, residual
        for name in layers:
            setattr(self, name, nn.Linear(12, 12))
        self.register_parameter(parameter, nn.Parameter(torch.randn(12)))
        self.register_buffer(buffer, torch.randn(12))
        setattr(self, residual, nn.ModuleList(nn.Linear(12, 12) for _ in range(2)))
        self.last = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        layers, parameter, buffer, residual = self.names
        for name in layers:
            x = self._modules[name](x).relu()  # type: ignore[misc]
        x = x * self._parameters[parameter] + self._buffers[buffer] + torch.arange(12.0)
        for layer in self._modules[residual]:  # type: ignore[union-attr]
            x = x + layer(x).tanh()
        return self.last(x)  # type: ignore[no-any-return]


class OwnKeys(nn.Module):
    """Layers in a dictionary with keys that are no names in Python, or those of something else."""

    def __init__(self) -> None:
        super().__init__()
        keys = ("__x", "put", "fit", "1", "01", "a b", "a/b", "größe", '"q"', "class", "-", "it's\\n", "{n}", "%s")
        self.layers = nn.ModuleDict({key: nn.Linear(12, 12) for key in keys})
        self.last = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x).relu()
        return self.last(x)  # type: ignore[no-any-return]


NETWORKS = {
    "ours": lambda: Own(
        ("_captured_steps", "captured_program", "lowered", "stored", "fit"), "constants", "axis_sizes_", "layers_left"
    ),
    "sizes": lambda: Own(("axis_sizes", "layers_left_", "training_head"), "input", "logits", "constants"),
    "containers": lambda: Own(("keys", "values", "items", "update", "pop"), "axis_sizes", "input_1", "clear"),
    "written": lambda: Own(("put", "n", "x", "F", "T", "torch", "load"), "self_", "inputs", "Part"),
    "keys": OwnKeys,
}
SHARINGS: Mapping[str, SharingSpec] = {
    "plain": PLAIN,
    "layer": SharingSpec(MixtureSpec(hidden=8)),
    "neuron": SharingSpec(MixtureSpec(hidden=8, routing="neuron")),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sharing", SHARINGS)
@torch.no_grad()
def test_networks_with_names_of_ours(name: str, sharing: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = NETWORKS[name]().eval(), torch.randn(3, 12)
    found = capture(module, [x[:2]])
    family = CapturedFamily(found.program, SpaceOptions(multiple=4), tensors=found.tensors)
    supernet = make_supernet(family, SHARINGS[sharing]).eval()
    assert relative_difference([module(x)], [supernet(x, supernet.space.largest)]) <= 1e-5
    save_checkpoint(tmp_path, supernet, progress={"epoch": 1, "epochs": 1}, optimizer={})
    again = load_checkpoint(tmp_path).supernet.eval()
    rng = np.random.default_rng(0)
    for architecture in (supernet.space.smallest, *(supernet.space.sample(rng) for _ in range(2))):
        plain = supernet.extract(architecture)
        assert isinstance(plain, PlainNetwork)
        assert supernet.cost(architecture).parameters == sum(own.numel() for own in plain.parameters())
        assert relative_difference([plain(x)], [supernet(x, architecture)]) <= 1e-5
        assert torch.equal(again.extract(architecture)(x), plain(x))
        (out,) = run_model(lower(plain, x), {INPUT: x.numpy()})
        assert relative_difference([plain(x)], [torch.from_numpy(out)]) <= 1e-4
        program = plain.captured_program
        python, _ = written(program)
        python.load_state_dict({key: own for key, own in plain.state_dict().items() if key in program.tensors})
        assert relative_difference([plain(x)], [python(x)]) <= 1e-5


def test_names_in_the_state_are_the_users() -> None:
    module = NETWORKS["sizes"]()
    found = capture(module, [torch.randn(2, 12)])
    assert set(module.state_dict()) < set(found.tensors)
    assert set(found.tensors) - set(module.state_dict()) == {"constants_.of_arange"}
