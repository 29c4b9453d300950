"""The invariants of a trained supernet (DESIGN §3: I1 to I4) for the smallest, the largest and 20 random subnets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hardware_profiles.runtime import run_model
from supernets.axes import permute_tensor
from supernets.base import Supernet
from supernets.checkpoint import make_supernet
from supernets.onnx_export import INPUT, onnx_model, to_onnx
from supernets.recalibration import recalibrate
from supernets.space import Architecture
from tests.conftest import Trained

RELATIVE = 1e-5
"""Single precision through some twenty layers; errors of wiring are far larger (see the control)."""


def architectures(supernet: Supernet, n: int = 20) -> list[Architecture]:
    rng = np.random.default_rng(7)
    return [supernet.space.smallest, supernet.space.largest, *(supernet.space.sample(rng) for _ in range(n))]


def with_random_statistics(trained: Trained, architecture: Architecture) -> Supernet:
    """The trained supernet with this subnet's statistics stored: taken from data and randomised around them."""
    copy = make_supernet(trained.supernet.family, "slice")
    copy.load_state_dict(trained.supernet.state_dict())
    module = recalibrate(copy.extract(architecture), [trained.calibration])
    generator = torch.Generator().manual_seed(1)
    stored = copy.eval().weights(architecture)  # in eval mode the buffers are views of the stored ones
    for name, tensor in module.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            stored[name].copy_(tensor * (0.9 + 0.2 * torch.rand(tensor.shape, generator=generator)))
    return copy


def relative(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.std()).item()


def assert_varies(outputs: Tensor) -> None:
    """Outputs that are the same for every image would agree whatever the weights."""
    assert (outputs.std(dim=0) > 0.1 * outputs.std()).any()


def handwritten(weights: Mapping[str, Tensor], arch_values: Mapping[str, object], n_stages: int, x: Tensor) -> Tensor:
    """The family's forward by functional calls alone, from a subnet's tensors by name."""

    def conv_norm(x: Tensor, name: str, stride: int = 1, depthwise: bool = False) -> Tensor:
        w = weights[f"{name}.conv.weight"]
        x = functional.conv2d(x, w, None, stride, w.shape[-1] // 2, groups=w.shape[0] if depthwise else 1)
        norm = {k: weights[f"{name}.norm.{k}"] for k in ("running_mean", "running_var", "weight", "bias")}
        scale = norm["weight"] / torch.sqrt(norm["running_var"] + 1e-5)
        return (x - norm["running_mean"][:, None, None]) * scale[:, None, None] + norm["bias"][:, None, None]

    x = functional.relu(conv_norm(x, "stem"))
    for s in range(n_stages):
        depth = arch_values[f"stage{s}.depth"]
        assert isinstance(depth, int)
        for b in range(depth):
            block = f"stages.{s}.{b}"
            y = functional.relu(conv_norm(x, f"{block}.expand"))
            y = functional.relu(conv_norm(y, f"{block}.filter", stride=2 if s == 1 and b == 0 else 1, depthwise=True))
            y = conv_norm(y, f"{block}.project")
            x = x + y if b > 0 else y
    x = functional.relu(conv_norm(x, "head")).mean(dim=(2, 3))
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]


class TestI1SharedEqualsExtracted:
    def test_extracted_live_and_handwritten_agree(self, trained: Trained) -> None:
        images = trained.data.validation.images[:16]
        with torch.no_grad():
            for architecture in architectures(trained.supernet):
                supernet = with_random_statistics(trained, architecture)
                extracted = supernet.extract(architecture)(images)
                assert_varies(extracted)
                assert relative(supernet(images, architecture), extracted) <= RELATIVE
                values = supernet.space.values(architecture)
                by_hand = handwritten(supernet.weights(architecture), values, 2, images)
                assert relative(by_hand, extracted) <= RELATIVE

    def test_the_same_modules_with_the_same_settings(self, trained: Trained) -> None:
        supernet = trained.supernet.eval()
        for architecture in architectures(supernet):
            live = {n: (type(m), m.extra_repr()) for n, m in supernet.subnet(architecture).named_modules()}
            plain = {n: (type(m), m.extra_repr()) for n, m in supernet.extract(architecture).named_modules()}
            assert live == plain

    def test_permuting_every_axis_leaves_the_largest_unchanged(self, trained: Trained) -> None:
        supernet = with_random_statistics(trained, trained.supernet.space.largest)
        images = trained.data.validation.images[:16]
        with torch.no_grad():
            before = supernet(images, supernet.space.largest)
            generator = torch.Generator().manual_seed(3)
            for name, axis in supernet.family.axes.items():
                if axis.slice == "prefix":
                    supernet.sharing.permute(name, torch.randperm(axis.size, generator=generator))
            assert relative(supernet(images, supernet.space.largest), before) <= RELATIVE

    def test_negative_control_one_tensor_left_unpermuted(self, trained: Trained) -> None:
        supernet = with_random_statistics(trained, trained.supernet.space.largest)
        images = trained.data.validation.images[:16]
        axis = "stage1.width"
        size = supernet.family.axes[axis].size
        order = torch.arange(size).flip(0)
        with torch.no_grad():
            before = supernet(images, supernet.space.largest)
            supernet.sharing.permute(axis, order)
            dims = supernet.family.dims()["head.conv.weight"]
            weight = supernet.sharing.get_parameter("stored.head.conv.weight")
            weight.copy_(permute_tensor(weight, dims, supernet.family.axes, axis, order))  # back again
            assert relative(supernet(images, supernet.space.largest), before) > 1000 * RELATIVE

    def test_training_forward_leaves_the_stored_statistics_alone(self, trained: Trained) -> None:
        supernet = with_random_statistics(trained, trained.supernet.space.largest)
        before = {name: tensor.clone() for name, tensor in supernet.sharing.named_buffers()}
        supernet.train()
        for architecture in architectures(supernet, 3):
            supernet(trained.data.train.images[:32], architecture).sum().backward()
        for name, tensor in supernet.sharing.named_buffers():
            assert torch.equal(tensor, before[name]), name

    def test_gradients_of_a_subnet_reach_the_shared_tensors(self, trained: Trained) -> None:
        supernet = make_supernet(trained.supernet.family, "slice").train()
        images, labels = trained.data.train.images[:16], trained.data.train.labels[:16]
        architecture = supernet.space.sample(np.random.default_rng(0))
        functional.cross_entropy(supernet(images, architecture), labels).backward()
        module = supernet.extract(architecture).train()
        functional.cross_entropy(module(images), labels).backward()
        full = {n: p.grad for n, p in supernet.sharing.named_parameters()}
        for name, parameter in module.named_parameters():
            got = full[f"stored.{name}"]
            assert got is not None
            assert parameter.grad is not None
            # Outside the slice the gradient is zero, so the norms must agree as well.
            torch.testing.assert_close(got.norm(), parameter.grad.norm(), rtol=1e-4, atol=1e-6)


def output_bytes(module: nn.Module) -> list[int]:
    """A list that the next forward of a fresh module fills with the bytes of each weighted layer's output."""
    sizes: list[int] = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _m, _i, out: sizes.append(out.numel() * out.element_size()))
    return sizes


class TestI2Costs:
    def test_parameters_macs_and_activations_are_those_of_the_extracted_module(self, trained: Trained) -> None:
        supernet, image = trained.supernet, trained.data.validation.images[:1]
        chosen = architectures(supernet)
        table = supernet.costs(chosen)
        for row, architecture in enumerate(chosen):
            module, cost = supernet.extract(architecture), supernet.cost(architecture)
            assert cost.parameters == sum(p.numel() for p in module.parameters())
            sizes = output_bytes(module)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                module(image)
            assert cost.macs * 2 == counter.get_total_flops()
            assert cost.activation_bytes == sum(sizes)
            assert cost.macs == sum(block.macs for _, block in cost.blocks) == table.macs[row].sum()
            assert cost.parameters == sum(block.parameters for _, block in cost.blocks) == table.parameters[row].sum()
            for name, block in cost.blocks:
                own = sum(p.numel() for p in module.get_submodule(name).parameters())
                assert block.parameters == own, name


class TestI3Extraction:
    def test_shares_no_storage_and_holds_nothing_of_the_supernet(self, trained: Trained) -> None:
        supernet = trained.supernet
        stored = {t.untyped_storage().data_ptr() for t in supernet.state_dict().values()}
        for architecture in architectures(supernet):
            module = supernet.extract(architecture)
            state = module.state_dict()
            assert not {t.untyped_storage().data_ptr() for t in state.values()} & stored
            assert not [name for name in state if "router" in name or "expert" in name]
            assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in state.values())
            assert {type(m).__module__.split(".")[0] for m in module.modules()} <= {"torch", "supernets"}

    def test_training_the_extracted_module_leaves_the_supernet_unchanged(self, trained: Trained) -> None:
        supernet = trained.supernet
        before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        module = supernet.extract(supernet.space.largest).train()
        module(trained.data.train.images[:8]).sum().backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= parameter.grad
        for name, tensor in supernet.state_dict().items():
            assert torch.equal(tensor, before[name]), name


class TestI4Onnx:
    @pytest.mark.parametrize("batch", [1, 8])
    def test_onnx_runtime_agrees_with_torch(self, trained: Trained, batch: int) -> None:
        images = trained.data.validation.images[:batch]
        for architecture in architectures(trained.supernet):
            module = recalibrate(trained.supernet.extract(architecture), [trained.calibration])
            with torch.no_grad():
                expected = module(images)
            model = onnx_model(module, trained.data.validation.images[:2])
            (came,) = run_model(model, {INPUT: images.numpy()})
            assert relative(torch.from_numpy(came), expected) <= 1e-4
            if batch > 1:
                assert_varies(expected)

    @pytest.mark.slow
    def test_the_exporter_of_what_users_are_given_agrees_too(self, trained: Trained) -> None:
        for architecture in architectures(trained.supernet, 4):
            module = recalibrate(trained.supernet.extract(architecture), [trained.calibration])
            model = to_onnx(module, trained.data.validation.images[:2])
            onnx.checker.check_model(model, full_check=True)
            for batch in (1, 8):
                images = trained.data.validation.images[:batch]
                with torch.no_grad():
                    expected = module(images)
                (came,) = run_model(model, {INPUT: images.numpy()})
                assert relative(torch.from_numpy(came), expected) <= 1e-4


def test_recalibration_matters(trained: Trained) -> None:
    """Without it a subnet's outputs are those of statistics that were never taken."""
    from supernets.scoring import correct_predictions

    part, smallest = trained.data.validation, trained.supernet.space.smallest
    raw = trained.supernet.extract(smallest)
    before = correct_predictions(raw, part.images, part.labels).float().mean()
    after = correct_predictions(recalibrate(raw, [trained.calibration]), part.images, part.labels).float().mean()
    assert after > before + 0.2
