"""Checks of the invariants of a supernet (DESIGN §3: I1 to I4), for the tests of families and sharings.

Each check takes a trained or `randomised` supernet, because the outputs of a fresh one hardly depend on the inputs, and covers
the smallest, the largest and a random subnet.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hardware_profiles.runtime import run_model
from supernets.experts.layer import ExpertLayer
from supernets.families.decoder.decoder_network import TiedLinear
from supernets.families.dense.pyramid_family import PyramidFamily
from supernets.networks.module_to_onnx import INPUT, lower, to_onnx
from supernets.sharing.base import Supernet
from supernets.space import Architecture, Option
from supernets.space.axes import permute_tensor
from supernets.training.recalibration import recalibrate

RELATIVE = 1e-5
"""Single precision through about twenty layers; wrong wiring causes far larger errors (see the negative control)."""
RELATIVE_PYRAMID = 1e-4
"""Single precision through up to forty layers, whose outputs are not averaged over the image."""
RELATIVE_CONTROL = 1e-2
"""What wrong wiring changes at least, in the negative control."""
RELATIVE_ONNX = 1e-4
"""Ten times what PyTorch's own implementations differ by: sums are in another order, by instructions of the processor."""


def _tolerance(supernet: Supernet) -> float:
    """The relative difference that rounding may cause in outputs of a supernet's networks."""
    plain, _ = supernet.family.plain(supernet.space.largest)
    return RELATIVE_PYRAMID if isinstance(plain, PyramidFamily) else RELATIVE


_STATISTICS = ("running_mean", "running_var")
_OF_EXPERTS = 3
"""Dimensions of the weights of all experts of a layer."""

ByHand = Callable[[Mapping[str, Tensor], Mapping[str, Option], Tensor], Tensor]
"""A family's handwritten forward, from a subnet's tensors by name, its option values and images."""


def architectures(supernet: Supernet, n: int = 1) -> list[Architecture]:
    """The smallest, the largest and n random ones."""
    rng = np.random.default_rng(7)
    return [supernet.space.smallest, supernet.space.largest, *(supernet.space.sample(rng) for _ in range(n))]


@torch.no_grad()
def randomised(supernet: Supernet, seed: int = 5) -> Supernet:
    """The supernet with random weights of such a scale that signals neither vanish nor grow through the layers.

    Matrices and kernels are normal with variance 1 / inputs, scales of norms are around 1, and all shifts are random. Tensors
    without dimensions in the family (of a router, for instance) are normal.
    """
    generator = torch.Generator().manual_seed(seed)
    dims = supernet.family.dims()
    for name, parameter in supernet.sharing.named_parameters():
        normal = torch.randn(parameter.shape, generator=generator)
        of_family = next((len(d) for n, d in dims.items() if name == n or name.endswith(f".{n}")), None)
        if of_family == 1:
            uniform = torch.rand(parameter.shape, generator=generator)
            normal = 0.2 * uniform - 0.1 if name.endswith("bias") else 0.6 + 0.8 * uniform
        elif of_family is not None:
            shape = parameter.shape[parameter.ndim - of_family :]  # a mixture's tensors are stacks
            shape = shape[1:] if of_family == _OF_EXPERTS and shape[0] > 1 else shape
            # Tensors added to every example (positions) have 1 in place of the outputs, and no inputs. They are small, so that
            # they do not dominate the class token, which they initialise.
            normal *= 0.1 if shape[0] == 1 else prod(shape[1:]) ** -0.5
        parameter.copy_(normal)
    return supernet


def with_statistics(supernet: Supernet, architecture: Architecture, images: Tensor) -> Supernet:
    """A copy in eval mode that stores this subnet's statistics, computed from images and randomised around them."""
    own = copy.deepcopy(supernet).eval()
    module = recalibrate(own.extract(architecture), [images])
    generator = torch.Generator().manual_seed(1)
    stored = own.weights(architecture)  # in eval mode buffers are views of the stored ones
    for name, tensor in module.state_dict().items():
        if name.endswith(_STATISTICS):
            stored[name].copy_(tensor * (0.9 + 0.2 * torch.rand(tensor.shape, generator=generator)))
    return own


def relative(a: Tensor, b: Tensor) -> float:
    """The largest difference relative to b's standard deviation; shapes must be equal."""
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.std()).item()


def assert_varies(outputs: Tensor) -> None:
    """Asserts that outputs depend on the image; otherwise they would agree for any weights."""
    assert (outputs.std(dim=0) > 0.1 * outputs.std()).any()


@torch.no_grad()
def check_extracted_live_and_handwritten_agree(
    supernet: Supernet, images: Tensor, calibration: Tensor, by_hand: ByHand
) -> None:
    """I1: the oracle `by_hand` shares no code with the family."""
    for architecture in architectures(supernet):
        own = with_statistics(supernet, architecture, calibration)
        extracted = own.extract(architecture)(images)
        assert_varies(extracted)
        assert relative(own(images, architecture), extracted) <= _tolerance(supernet)
        written = by_hand(own.weights(architecture), own.space.values(architecture), images)
        assert relative(written, extracted) <= _tolerance(supernet)


def check_same_modules(supernet: Supernet) -> None:
    """I1: live and extracted subnets have the same modules with the same settings."""
    supernet.eval()
    for architecture in architectures(supernet):
        live = {n: (type(m), m.extra_repr()) for n, m in supernet.subnet(architecture).named_modules()}
        plain = {n: (type(m), m.extra_repr()) for n, m in supernet.extract(architecture).named_modules()}
        assert live == plain


@torch.no_grad()
def check_permutations(supernet: Supernet, images: Tensor, calibration: Tensor) -> None:
    """I1: permuting every axis changes stored tensors, but not the outputs of the largest network."""
    largest = supernet.space.largest
    own = with_statistics(supernet, largest, calibration)
    before = own(images, largest)
    generator = torch.Generator().manual_seed(3)
    for name, axis in own.family.axes.items():
        if axis.slice == "prefix" and axis.size > 1:
            tensors = {key: tensor.clone() for key, tensor in own.sharing.state_dict().items()}
            order = torch.randperm(axis.size, generator=generator)
            if torch.equal(order, torch.arange(axis.size)):
                order = order.flip(0)
            own.sharing.permute(name, order)
            assert any(not torch.equal(t, tensors[key]) for key, t in own.sharing.state_dict().items()), name
    assert relative(own(images, largest), before) <= _tolerance(supernet)


@torch.no_grad()
def check_control(supernet: Supernet, images: Tensor, calibration: Tensor, *, axis: str, tensor: str) -> None:
    """The negative control of I1: with one tensor left unpermuted, the outputs of the largest network change.

    Args:
        tensor: the family's name of a tensor with the axis.
    """
    largest = supernet.space.largest
    own = with_statistics(supernet, largest, calibration)
    axes, dims = own.family.axes, own.family.dims()[tensor]
    order = torch.arange(axes[axis].size).flip(0)
    before = own(images, largest)
    own.sharing.permute(axis, order)
    stored = own.weights(largest)[tensor]  # the largest's tensors are the stored ones
    stored.copy_(permute_tensor(stored.clone(), dims, axes, axis, order))  # back again
    assert relative(own(images, largest), before) > RELATIVE_CONTROL


def check_stored_statistics_stay(supernet: Supernet, images: Tensor) -> None:
    """A forward and backward in training mode does not change the stored statistics."""
    own = copy.deepcopy(supernet)
    before = {name: tensor.clone() for name, tensor in own.sharing.named_buffers()}
    own.train()
    for architecture in architectures(own):
        own(images, architecture).sum().backward()
    for name, tensor in own.sharing.named_buffers():
        assert torch.equal(tensor, before[name]), name


def check_gradients(supernet: Supernet, images: Tensor) -> None:
    """The gradients of a subnet equal those of the extracted module, if its tensors are slices of the stored ones."""
    own = copy.deepcopy(supernet).train()
    architecture = own.space.sample(np.random.default_rng(0))
    outputs = own(images, architecture)
    labels = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).softmax(1)
    functional.cross_entropy(outputs, labels).backward()
    module = own.extract(architecture).train()
    functional.cross_entropy(module(images), labels).backward()
    full = {n: p.grad for n, p in own.sharing.named_parameters()}
    for name, parameter in module.named_parameters():
        got = full[f"stored.{name}"]
        assert got is not None
        assert parameter.grad is not None
        # Outside the slice the gradient is zero, so the norms must be equal.
        torch.testing.assert_close(got.norm(), parameter.grad.norm(), rtol=1e-4, atol=1e-6)


def _output_bytes(module: nn.Module) -> list[int]:
    """A list that the next forward of a fresh module fills with the bytes of each weighted layer's output."""
    sizes: list[int] = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | TiedLinear):
            layer.register_forward_hook(lambda _m, _i, out: sizes.append(out.numel() * out.element_size()))
        elif isinstance(layer, ExpertLayer):
            layer.register_forward_hook(
                lambda own, _i, out: sizes.append(
                    out.element_size()
                    * len(own.active)
                    * (out.numel() + out[..., 0].numel() * own.up.shape[1] * (1 if own.gate is None else 2))
                )
            )
    return sizes


def check_costs(supernet: Supernet, images: Tensor) -> None:
    """I2: parameters, MACs and activation bytes equal those of the extracted module, in total and by block."""
    chosen = architectures(supernet)
    table = supernet.costs(chosen)
    for row, architecture in enumerate(chosen):
        module, cost = supernet.extract(architecture), supernet.cost(architecture)
        assert cost.parameters == sum(p.numel() for p in module.parameters())
        sizes = _output_bytes(module)
        # Fused attention kernels hide the two products from the counter; the plain one does not.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            module(images[:1])
        assert cost.macs * 2 == counter.get_total_flops()
        assert cost.activation_bytes == sum(sizes)
        assert cost.macs == sum(block.macs for _, block in cost.blocks) == table.macs[row].sum()
        assert cost.parameters == sum(block.parameters for _, block in cost.blocks) == table.parameters[row].sum()
        for name, block in cost.blocks:
            own = sum(p.numel() for p in module.get_submodule(name).parameters())
            assert block.parameters == own, name


def check_shares_no_storage(supernet: Supernet) -> None:
    """I3: an extracted module has no parts of the supernet, and its tensors own exactly the storage that they use."""
    stored = {t.untyped_storage().data_ptr() for t in supernet.state_dict().values()}
    for architecture in architectures(supernet):
        module = supernet.extract(architecture)
        state = module.state_dict()
        assert not {t.untyped_storage().data_ptr() for t in state.values() if t.numel()} & stored
        own = supernet.family.dims()
        assert not [name for name in state if ("router" in name or "expert" in name) and name not in own]
        assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in state.values())
        assert {type(m).__module__.split(".")[0] for m in module.modules()} <= {"torch", "supernets"}


def check_training_extracted(supernet: Supernet, images: Tensor) -> None:
    """I3: training an extracted module leaves the supernet unchanged."""
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    module = supernet.extract(supernet.space.largest).train()
    module(images).sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            assert parameter.grad is not None
            parameter -= parameter.grad
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def check_onnx(supernet: Supernet, images: Tensor, calibration: Tensor) -> None:
    """I4: ONNX Runtime agrees with torch on lowered modules."""
    for architecture in architectures(supernet):
        module = recalibrate(supernet.extract(architecture), [calibration])
        model = lower(module, images)
        for batch in (1, 8):
            _check_model(model, module, images[:batch], 10 * _tolerance(supernet))


def check_exporter(supernet: Supernet, images: Tensor, calibration: Tensor) -> None:
    """I4 for torch's exporter, which takes seconds: for the smallest and the largest subnet."""
    for architecture in (supernet.space.smallest, supernet.space.largest):
        module = recalibrate(supernet.extract(architecture), [calibration])
        model = to_onnx(module, images[:2])
        onnx.checker.check_model(model, full_check=True)
        for batch in (1, 8):
            _check_model(model, module, images[:batch], 10 * _tolerance(supernet))


@torch.no_grad()
def _check_model(model: bytes, module: nn.Module, images: Tensor, tolerance: float) -> None:
    expected = module(images)
    (came,) = run_model(model, {INPUT: images.numpy()})
    assert relative(torch.from_numpy(came), expected) <= tolerance
    if len(images) > 1:
        assert_varies(expected)
