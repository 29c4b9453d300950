"""The invariants (DESIGN §3: I1 to I5) of every family with every way of sharing."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hardware_profiles.quantize import convert
from hardware_profiles.runtime import run_model
from supernets.families.nested_networks import NestedFamily
from supernets.families.vision_transformer.vision_transformer_family import ViTEncoderFamily
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.base import Family, Supernet
from supernets.sharing.spec import SharingSpec
from supernets.training.checkpoint import family_from_json, load_checkpoint, make_supernet, save_checkpoint
from supernets.training.recalibration import recalibrate
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import SCALED
from tests.supernets.families.vision_transformer import test_vit_encoder_family as test_vit_encoder
from tests.supernets.sharing.families import (
    BY_HAND,
    CASES,
    CNN,
    CONTROLS,
    FAMILIES,
    SHARINGS,
    SLICED,
    SLICES,
    images_for,
    made,
)

MORE_THAN_SLICES = [case for case in CASES if case[1] != "slice"]
PRECISE = ViTEncoderFamily(test_vit_encoder.SPEC, image_size=12, channels=2, n_classes=5, epsilon=1e-6)
COVERING = [case for case in MORE_THAN_SLICES if case[0] == "cnn" or case[1] in ("neuron", "merged")]
"""Every sharing and every family, for what follows from one or the other."""


def named(case: tuple[str, str]) -> str:
    return f"{case[0]}, {case[1]}"


@pytest.fixture(scope="module", params=[*SLICES, *MORE_THAN_SLICES], ids=named)
def case(request: pytest.FixtureRequest) -> tuple[str, Supernet]:
    family, sharing = request.param
    return family, made(family, sharing)


@pytest.fixture(scope="module", params=[*SLICES, *COVERING], ids=named)
def covering(request: pytest.FixtureRequest) -> tuple[str, Supernet]:
    family, sharing = request.param
    return family, made(family, sharing)


def test_extracted_live_and_handwritten_agree(case: tuple[str, Supernet]) -> None:
    family, supernet = case
    images = images_for(family)
    invariants.check_extracted_live_and_handwritten_agree(supernet, images, images, BY_HAND[family])


def test_the_same_modules_with_the_same_settings(covering: tuple[str, Supernet]) -> None:
    invariants.check_same_modules(covering[1])


def test_permuting_every_axis_leaves_the_largest_unchanged(covering: tuple[str, Supernet]) -> None:
    images = images_for(covering[0])
    invariants.check_permutations(covering[1], images, images)


@pytest.mark.parametrize("family", CONTROLS)
def test_negative_control_one_tensor_left_unpermuted(family: str) -> None:
    supernet, images = made(family, "slice"), images_for(family)
    for axis, tensor in CONTROLS[family]:
        invariants.check_control(supernet, images, images, axis=axis, tensor=tensor)


@pytest.mark.parametrize(("family", "sharing"), SLICES)
def test_gradients_of_a_subnet_reach_the_shared_tensors(family: str, sharing: str) -> None:
    invariants.check_gradients(made(family, sharing), images_for(family))


def test_training_forward_leaves_the_stored_statistics_alone(covering: tuple[str, Supernet]) -> None:
    invariants.check_stored_statistics_stay(covering[1], images_for(covering[0]))


def test_costs_equal_those_of_the_extracted_module(covering: tuple[str, Supernet]) -> None:
    invariants.check_costs(covering[1], images_for(covering[0]))


def test_extracted_modules_share_nothing_with_the_supernet(covering: tuple[str, Supernet]) -> None:
    invariants.check_shares_no_storage(covering[1])
    invariants.check_training_extracted(covering[1], images_for(covering[0]))


def test_onnx_runtime_agrees_with_torch(covering: tuple[str, Supernet]) -> None:
    images = images_for(covering[0])
    invariants.check_onnx(covering[1], images, images)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit_encoder", "mobilenet_v3", "resnet", "vit_odd_sizes"])
def test_torchs_exporter_agrees(family: str) -> None:
    images = images_for(family)
    invariants.check_exporter(made(family, "slice"), images, images)


@pytest.mark.parametrize(("family", "sharing"), [("cnn", "slice"), *COVERING])
def test_a_fused_step_equals_the_plain_one(family: str, sharing: str) -> None:
    """A fused step requires gradients in the parameters' memory layout, which is channels last for kernels."""
    fused, plain = made(family, sharing).train(), made(family, sharing).train()
    optimizers = [
        torch.optim.AdamW(fused.parameters(), lr=0.1, fused=True),
        torch.optim.AdamW(plain.parameters(), lr=0.1, fused=False),
    ]
    images = images_for(family)
    for supernet, optimizer in zip((fused, plain), optimizers, strict=True):
        for architecture in invariants.architectures(supernet, 1):
            supernet(images, architecture).square().sum().backward()
        optimizer.step()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(fused.get_parameter(name), parameter, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(("family", "sharing"), [*((family, "slice") for family in FAMILIES), *COVERING])
@torch.no_grad()
def test_a_supernet_of_a_pretrained_network_has_its_outputs(family: str, sharing: str) -> None:
    """I5: of the largest subnet, before training; in double precision, so that no processor's rounding counts."""
    supernet = made(family, sharing)
    images, spec = images_for(family), supernet.sharing.spec
    largest = supernet.space.largest
    network = invariants.with_statistics(supernet, largest, images).extract(largest)  # stands for a trained network
    copy = make_supernet(FAMILIES[family], spec, pretrained=network.state_dict()).eval().double()
    images = images.double() if images.is_floating_point() else images
    expected = network.double()(images)
    invariants.assert_varies(expected)
    assert invariants.relative(copy(images, largest), expected) <= invariants.RELATIVE
    assert invariants.relative(copy.extract(largest).double()(images), expected) <= invariants.RELATIVE
    fresh = make_supernet(FAMILIES[family], spec).eval().double()
    assert invariants.relative(fresh(images, largest), expected) > 1000 * invariants.RELATIVE


@pytest.mark.parametrize(("family", "sharing"), [("cnn", "slice"), *COVERING])
def test_a_checkpoint_keeps_how_weights_are_shared(family: str, sharing: str, tmp_path: Path) -> None:
    supernet = made(family, sharing)
    save_checkpoint(tmp_path, supernet, progress={"epoch": 1, "epochs": 1}, optimizer={})
    came = load_checkpoint(tmp_path).supernet
    assert came.sharing.spec == supernet.sharing.spec
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(came.state_dict()[name], tensor), name


def test_weights_are_in_full_precision_under_autocast(covering: tuple[str, Supernet]) -> None:
    supernet = covering[1]
    architecture = supernet.space.sample(np.random.default_rng(1))
    expected = supernet.weights(architecture)
    with torch.autocast("cpu", torch.bfloat16):
        came = supernet.weights(architecture)
    assert all(torch.equal(came[name], tensor) for name, tensor in expected.items())


def test_weights_are_on_the_device_of_the_stored_tensors(
    covering: tuple[str, Supernet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uses torch's meta device, which rejects tensors on other devices as an accelerator does."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # the meta device does not support it
    supernet = copy.deepcopy(covering[1]).to("meta")
    weights = supernet.weights(supernet.space.sample(np.random.default_rng(1)))
    assert {tensor.device.type for tensor in weights.values()} == {"meta"}
    axis = next(axis for axis in supernet.family.axes.values() if axis.slice == "prefix" and axis.size > 1)
    supernet.sort({axis.name: torch.arange(axis.size).flip(0)})


def test_parameters_under_weight_decay() -> None:
    """Matrices and kernels of layers, experts and routers, but no biases, norms or kernel transforms."""
    supernet = make_supernet(FAMILIES["vit"], SHARINGS["neuron"])
    decayed = supernet.sharing.decayed()
    assert {n for n, p in make_supernet(FAMILIES["vit"]).sharing.named_parameters() if p.ndim > 1} <= decayed
    assert not any(name.endswith("bias") for name in decayed)
    assert all(("router" in name) or name.startswith("stored.") for name in decayed)
    assert "router_hidden.weight" in {name.removeprefix("mixture.") for name in decayed}
    both = make_supernet(CNN, SHARINGS["neuron and transform"]).sharing.decayed()
    plain = make_supernet(CNN, SHARINGS["neuron"]).sharing.decayed()
    assert both == plain


@pytest.mark.parametrize("sharing", SHARINGS)
def test_nested_networks_support_every_sharing(sharing: str) -> None:
    """Their choices and axes have different names."""
    inner = "decoder_experts" if sharing == "merged" else "cnn"
    family = NestedFamily(FAMILIES[inner])
    supernet = make_supernet(family, SHARINGS[sharing])
    for architecture in (family.space.smallest, family.space.largest, family.space.sample(np.random.default_rng(0))):
        supernet.extract(architecture)(images_for(inner))


def test_the_description_of_a_sharing_is_json() -> None:
    for spec in SHARINGS.values():
        assert SharingSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("family", [*(FAMILIES | SLICED).values(), SCALED, PRECISE], ids=lambda family: family.name)
def test_a_family_comes_back_from_json(family: Family) -> None:
    again = family_from_json(json.loads(json.dumps(family.to_json())))
    assert (type(again), again.to_json()) == (type(family), family.to_json())
    assert again.space == family.space
    assert list(again.axes) == list(family.axes)


@pytest.mark.parametrize("family", ["vit_odd_sizes", "vit_encoder"])
def test_int8_answers_as_fp32(family: str) -> None:
    supernet, images = made(family, "slice"), images_for(family)
    model = lower(supernet.extract(supernet.space.largest), images)
    quantized = convert(model, "int8", [{INPUT: images_for(family, 200).numpy()}])
    weights = [w for w in onnx.load_from_string(quantized).graph.initializer if len(w.dims) > 1]
    assert not {w.name for w in weights if w.data_type == onnx.TensorProto.FLOAT}
    (exact,), (rounded,) = (run_model(m, {INPUT: images.numpy()}) for m in (model, quantized))
    centred = exact.mean(axis=0)  # what all images share correlates by itself
    assert np.corrcoef((exact - centred).ravel(), (rounded - centred).ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("family", "least", "most"), [("mobilenet_v3", 1.5, (8 / 6) ** 2), ("resnet", 2, (12 / 8) ** 2)]
)
def test_costs_and_models_in_eight_bits_are_those_of_the_resolution(family: str, least: float, most: float) -> None:
    supernet, calibration, images = made(family, "slice"), images_for(family, 64), images_for(family)
    ends = [supernet.space.canonical([gene, *supernet.space.largest.genes[1:]]) for gene in (0, 1)]
    costs = [supernet.cost(architecture) for architecture in ends]
    assert least < costs[1].macs / costs[0].macs <= most  # the layers after the pooling stay
    assert costs[0].parameters == costs[1].parameters
    for architecture in ends:
        model = lower(recalibrate(supernet.extract(architecture), [calibration]), calibration)
        eight = convert(model, "int8", [{INPUT: calibration.numpy()}])
        (exact,), (rounded,) = (run_model(m, {INPUT: images.numpy()}) for m in (model, eight))
        assert rounded.shape == exact.shape
        # Unlike the wrong weights or ranges, rounding is a small noise.
        assert 0.001 < (rounded - exact).std() / exact.std() < 0.25
