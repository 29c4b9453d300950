"""Mixtures of supernets: mixed layers, coefficients and their dependence on the architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import CNNSpec, StageSpec
from supernets.sharing.base import Supernet
from supernets.sharing.mixture import EXPERT_DEVIATION, Mixture
from supernets.sharing.spec import MixtureSpec, Routing, SharingSpec
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.sharing.families import BY_LAYER, BY_NEURON, CNN, VIT, images_for, made

CASES = [("cnn", "layer"), ("cnn", "neuron"), ("vit", "layer"), ("vit", "neuron")]


def mixture_of(supernet: Supernet) -> Mixture:
    found = supernet.sharing.get_submodule("mixture")
    assert isinstance(found, Mixture)
    return found


def arrays(supernet: Supernet) -> dict[str, NDArray[np.float64]]:
    return {name: tensor.double().numpy() for name, tensor in supernet.sharing.state_dict().items()}


def full_coefficients(supernet: Supernet, architecture: Architecture, layer: str) -> NDArray[np.float64]:
    """(outputs, experts) of all outputs of the largest network, from the paper's formula."""
    stored, mixture = arrays(supernet), mixture_of(supernet)
    if mixture.spec.routing == "neuron":
        routers, own = list(mixture.layers), layer
    else:
        routers = [b for b in supernet.family.blocks if any(k.startswith(f"{b}.") for k in mixture.layers)]
        own = next(block for block in routers if layer.startswith(f"{block}."))
    rows = slice(routers.index(own) * mixture.spec.hidden, (routers.index(own) + 1) * mixture.spec.hidden)
    (x,) = supernet.space.encode([architecture])
    hidden = stored["mixture.router_hidden.weight"][rows] @ x + stored["mixture.router_hidden.bias"][rows]
    key = f"mixture.router_logits.{own.replace('.', '/')}"
    logits = stored[f"{key}.weight"] @ np.maximum(hidden, 0) + stored[f"{key}.bias"]
    powers = np.exp(logits.reshape(-1, mixture.experts))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def cut(full: NDArray[np.float64], shape: Sequence[int], *, qkv: bool) -> NDArray[np.float64]:
    """A prefix of each dimension, and a kernel's centre; a prefix each of queries, keys and values."""
    if qkv:
        full = full.reshape(3, -1, *full.shape[1:])[:, : shape[0] // 3].reshape(shape[0], *full.shape[1:])
    for position, size in enumerate(shape):
        start = (full.shape[position] - size) // 2 if position > 1 else 0
        full = full.take(range(start, start + size), axis=position)
    return full


@pytest.mark.parametrize(("family", "sharing"), CASES)
@torch.no_grad()
def test_weights_equal_the_formulas_mixed_then_sliced_full_tensors(family: str, sharing: str) -> None:
    supernet = made(family, sharing)
    stored, mixture, rng = arrays(supernet), mixture_of(supernet), np.random.default_rng(5)
    n_compared = 0
    for architecture in [supernet.space.smallest, *(supernet.space.sample(rng) for _ in range(4))]:
        weights = supernet.weights(architecture)
        for layer in mixture.layers:
            for name in (f"{layer}.weight", f"{layer}.bias"):
                if name in weights:
                    experts = stored[f"stored.{name}"]
                    beta = full_coefficients(supernet, architecture, layer)
                    beta = np.broadcast_to(beta, (experts.shape[1], len(experts)))
                    full = np.einsum("oj,jo...->o...", beta, experts)
                    expected = cut(full, weights[name].shape, qkv="qkv" in name)
                    np.testing.assert_allclose(weights[name].numpy(), expected, rtol=1e-4, atol=1e-6, err_msg=name)
                    n_compared += 1
    assert n_compared >= 5 * 9


@pytest.mark.parametrize(("family", "sharing"), CASES)
def test_gradients_equal_central_differences(family: str, sharing: str) -> None:
    """Of a random linear function of all weights, along a random direction of all stored tensors; in double precision."""
    supernet = made(family, sharing).double()
    architecture = supernet.space.sample(np.random.default_rng(5))
    generator = torch.Generator().manual_seed(6)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    factors = {name: noise(tensor) for name, tensor in supernet.weights(architecture).items()}
    parameters = dict(supernet.sharing.named_parameters())
    directions = {name: noise(parameter) for name, parameter in parameters.items()}

    def value() -> Tensor:
        weights = supernet.weights(architecture)
        return torch.stack([(factors[name] * tensor).sum() for name, tensor in weights.items()]).sum()

    value().backward()
    for part in ("router_hidden", "router_logits", "stored"):
        moved = {name: parameter for name, parameter in parameters.items() if part in name}
        slope = sum((p.grad * directions[name]).sum().item() for name, p in moved.items() if p.grad is not None)
        ends = []
        with torch.no_grad():
            for move in (1e-6, -2e-6, 1e-6):  # forward, backward, and back to the start
                for name, parameter in moved.items():
                    parameter.add_(directions[name], alpha=move)
                ends.append(value().item())
        # Values of about 100 have an error of 1e-14, which differences of 2e-6 make 1e-8.
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-6), part
        assert abs(slope) > 0.01, part


@pytest.mark.parametrize("routing", ["layer", "neuron"])
def test_a_network_without_mixed_layers_uses_slices(routing: Routing) -> None:
    spec = MixtureSpec(routing=routing, layers=("blocks.1.mlp.*",))
    supernet = invariants.randomised(make_supernet(VIT, SharingSpec(spec)))
    assert mixture_of(supernet).coefficients(VIT.space.smallest) == {}
    weights = supernet.weights(VIT.space.smallest)
    sizes, stored = VIT.sizes(VIT.space.smallest), supernet.sharing.state_dict()
    assert not any(name.startswith("blocks.1.") for name in weights)
    rows, columns = sizes["block0.hidden"], sizes["width"]
    assert torch.equal(weights["blocks.0.mlp.0.weight"], stored["stored.blocks.0.mlp.0.weight"][:rows, :columns])


@pytest.mark.parametrize(("family", "sharing"), CASES)
def test_coefficients_depend_on_the_architecture_and_sum_to_one(family: str, sharing: str) -> None:
    supernet = made(family, sharing)
    mixture, space = mixture_of(supernet), supernet.space
    rng = np.random.default_rng(0)
    seen: dict[str, list[Tensor]] = {}
    for architecture in (space.smallest, space.largest, space.sample(rng)):
        found = mixture.coefficients(architecture)
        sizes = supernet.weights(architecture)
        assert set(found) == {layer for layer in mixture.layers if f"{layer}.weight" in sizes}
        for layer, rows in found.items():
            n_outputs = len(sizes[f"{layer}.weight"]) if sharing == "neuron" else 1
            assert rows.shape == (n_outputs, mixture.experts)
            torch.testing.assert_close(rows.sum(dim=1), torch.ones(n_outputs))
            seen.setdefault(layer, []).append(rows[0])
    assert all(not torch.allclose(rows[0], rows[1], atol=1e-3) for rows in seen.values() if len(rows) > 1)


def test_layers_of_a_block_share_a_router_when_routed_by_layer() -> None:
    by_layer = mixture_of(made("cnn", "layer")).coefficients(CNN.space.largest)
    expand, project = (by_layer[f"stages.0.0.{part}.conv"] for part in ("expand", "project"))
    assert torch.equal(expand, project)
    assert not torch.equal(expand, by_layer["stages.0.1.expand.conv"])
    by_neuron = mixture_of(made("cnn", "neuron")).coefficients(CNN.space.largest)
    assert not torch.allclose(by_neuron["stages.0.0.expand.conv"][0], by_neuron["stages.0.0.project.conv"][0])


@pytest.mark.parametrize("routing", ["layer", "neuron"])
def test_a_router_with_constant_input_ignores_the_architecture(routing: str) -> None:
    spec = SharingSpec(MixtureSpec(routing=routing, constant_input=True))  # type: ignore[arg-type]
    supernet = invariants.randomised(make_supernet(CNN, spec))
    mixture = mixture_of(supernet)
    largest, smallest = (mixture.coefficients(a) for a in (CNN.space.largest, CNN.space.smallest))
    for layer, rows in smallest.items():
        assert torch.equal(rows, largest[layer][: len(rows)])


@pytest.mark.parametrize("sharing", ["layer", "neuron"])
def test_a_step_trains_every_expert_and_every_router(sharing: str) -> None:
    supernet = made("cnn", sharing).train()
    images = images_for("cnn")
    functional.cross_entropy(supernet(images, CNN.space.largest), torch.arange(16) % 5).backward()
    for name, parameter in supernet.sharing.named_parameters():
        assert parameter.grad is not None, name
        pieces = parameter.grad if parameter.shape[0] == mixture_of(supernet).experts else [parameter.grad]
        assert all(piece.abs().sum() > 0 for piece in pieces), name


@torch.no_grad()
def test_negative_control_router_rows_left_unpermuted() -> None:
    """`check_permutations` permutes them with the layers' outputs; without that the outputs differ."""
    images = images_for("cnn")
    supernet = invariants.with_statistics(made("cnn", "neuron"), CNN.space.largest, images)
    before = supernet(images, CNN.space.largest)
    logits = mixture_of(supernet).router_logits["stages/0/1/expand/conv"]
    rows = {name: tensor.clone() for name, tensor in logits.state_dict().items()}
    supernet.sharing.permute("stage0.block1.hidden", torch.arange(16).flip(0))
    assert invariants.relative(supernet(images, CNN.space.largest), before) <= invariants.RELATIVE
    logits.load_state_dict(rows)
    assert invariants.relative(supernet(images, CNN.space.largest), before) > 1000 * invariants.RELATIVE


@torch.no_grad()
def test_negative_control_one_wrong_router_row() -> None:
    """A wrong coefficient of one output changes the outputs compared in I1."""
    images = images_for("cnn")
    supernet = invariants.with_statistics(made("cnn", "neuron"), CNN.space.smallest, images)
    extracted = supernet.extract(CNN.space.smallest)(images)
    bias = mixture_of(supernet).get_parameter("router_logits.stages/1/0/project/conv.bias")
    bias[0] += 1.0  # the first expert of the first output
    assert invariants.relative(supernet(images, CNN.space.smallest), extracted) > 100 * invariants.RELATIVE


class TestExperts:
    def test_fresh_experts_differ_and_their_mean_has_one_networks_variance(self) -> None:
        family = MobileCNNFamily(
            CNNSpec(8, 1, (StageSpec(1, (1,), (64, 128), (3, 5), (4,)),), 512), image_size=8, channels=1, n_classes=10
        )
        torch.manual_seed(0)
        plain = make_supernet(family).sharing.get_parameter("stored.head.conv.weight")
        torch.manual_seed(0)
        spec = SharingSpec(MixtureSpec(experts=4))
        stack = make_supernet(family, spec).sharing.get_parameter("stored.head.conv.weight")
        assert stack.shape == (4, *plain.shape)
        # 65 536 numbers: the standard error of the deviation is 0.3 %, so a tolerance of 2 % detects a factor of 2.
        assert stack.mean(dim=0).std().item() == pytest.approx(plain.std().item(), rel=0.02)
        correlations = torch.corrcoef(stack.detach().flatten(1))
        assert correlations.fill_diagonal_(0).abs().max() < 0.02

    @pytest.mark.parametrize("sharing", [BY_LAYER, BY_NEURON])
    def test_experts_of_a_pretrained_network_differ_by_noise_that_cancels_in_the_largest(
        self, sharing: SharingSpec
    ) -> None:
        state = make_supernet(VIT).extract(VIT.space.largest).state_dict()
        torch.manual_seed(0)
        supernet = make_supernet(VIT, sharing, pretrained=state)
        name = "blocks.0.mlp.0.weight"
        stack, plain = supernet.sharing.get_parameter(f"stored.{name}").detach(), state[name]
        for expert in stack[1:]:  # thousands of numbers
            assert (expert - plain).std().item() == pytest.approx(EXPERT_DEVIATION * plain.std().item(), rel=0.1)
        assert not torch.allclose(stack[0], plain, rtol=1e-3)
        largest = supernet.weights(VIT.space.largest)
        for key, tensor in state.items():
            torch.testing.assert_close(largest[key], tensor, rtol=1e-5, atol=1e-6, msg=key)
        supernet(images_for("vit"), VIT.space.smallest).square().sum().backward()
        logits = mixture_of(supernet).router_logits
        gradients = [p.grad for p in logits.parameters() if p.grad is not None]
        assert max(float(g.abs().max()) for g in gradients) > 1e-6  # equal experts give routers no gradient


class TestLayers:
    def test_without_patterns_all_layers_with_an_elastic_axis_are_mixed(self) -> None:
        mixture = mixture_of(make_supernet(CNN, BY_NEURON))
        layers = {n for n, m in CNN.template().named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
        assert set(mixture.layers) == layers - {"stem.conv", "classifier"}

    def test_a_pattern_selects_the_feed_forward_layers_of_transformers(self) -> None:
        spec = SharingSpec(MixtureSpec(layers=("blocks.*.mlp.*",)))
        supernet = make_supernet(VIT, spec)
        assert mixture_of(supernet).layers == tuple(f"blocks.{b}.mlp.{i}" for b in range(2) for i in (0, 2))
        stored = supernet.sharing.state_dict()
        assert stored["stored.blocks.0.mlp.0.bias"].shape == (2, 70)
        assert stored["stored.blocks.0.attention.qkv.weight"].ndim == 2

    def test_a_pattern_may_match_a_layer_that_is_not_elastic(self) -> None:
        spec = SharingSpec(MixtureSpec(layers=("classifier",)))
        assert make_supernet(CNN, spec).sharing.get_parameter("stored.classifier.weight").shape == (2, 5, 8)

    def test_a_pattern_without_matches_is_rejected(self) -> None:
        assert BY_LAYER.mixture is not None
        spec = SharingSpec(replace(BY_LAYER.mixture, layers=("blocks.*.mlp.*", "stages.9.*")))
        with raises("sharing.invalid", "mixture.layers", "'stages.9.*'", "embedding.patches"):
            make_supernet(VIT, spec)
