"""An elastic vision transformer: its forward by hand, costs, blocks, and what makes no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from supernets.families.vision_transformer.vision_transformer_family import ViTFamily
from supernets.families.vision_transformer.vision_transformer_spec import VIT, ViTSpec
from supernets.networks.module_to_onnx import lower
from supernets.sharing.base import Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.space import Option
from supernets.training.checkpoint import family_from_json, make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families import by_hand
from tests.supernets.networks.test_network import traced

SPEC = ViTSpec(
    patch=4, head_size=4, depth=(1, 2, 3), width=(12, 16, 20), heads=(1, 2, 3), mlp=(1.5, 2, 3.5)
)  # widths that head sizes do not divide, and a ratio that gives no whole number of channels
FAMILY = ViTFamily(SPEC, image_size=12, channels=2, n_classes=5)
EXPERTS = ViTFamily(
    replace(SPEC, mlp=(1, 2), experts=(2, 4), active_experts=(1, 2)), image_size=12, channels=2, n_classes=5
)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return invariants.randomised(make_supernet(FAMILY))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(16, 2, 12, 12, generator=torch.Generator().manual_seed(0))


def handwritten(weights: Mapping[str, Tensor], values: Mapping[str, Option], x: Tensor) -> Tensor:
    """The family's forward by products of matrices alone, from a subnet's tensors by name."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        x = x - x.mean(dim=-1, keepdim=True)
        x = x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + 1e-5)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attention(x: Tensor, name: str, heads: int) -> Tensor:
        found = []
        for h in range(heads):
            # The rows of the weight: queries, keys, values; head by head in each.
            query, key, value = (linear(x, f"{name}.qkv")[..., (part * heads + h) * 4 :][..., :4] for part in range(3))
            scores = torch.exp(query @ key.transpose(1, 2) / 4**0.5)
            found.append(scores / scores.sum(dim=-1, keepdim=True) @ value)
        return linear(torch.cat(found, dim=-1), f"{name}.project")

    kernel = weights["embedding.patches.weight"]
    patches = x.reshape(len(x), 2, 3, 4, 3, 4).permute(0, 2, 4, 1, 3, 5).reshape(len(x), 9, 32)
    x = patches @ kernel.reshape(len(kernel), 32).T + weights["embedding.patches.bias"] + weights["embedding.positions"]
    depth = values["depth"]
    assert isinstance(depth, int)
    for b in range(depth):
        heads = values[f"block{b}.heads"]
        assert isinstance(heads, int)
        x = x + attention(norm(x, f"blocks.{b}.norm1"), f"blocks.{b}.attention", heads)
        y = norm(x, f"blocks.{b}.norm2")
        if f"blocks.{b}.mlp.router.weight" in weights:
            k = int(values[f"block{b}.active_experts"])
            top_p = float(values.get(f"block{b}.top_p", 1))
            x = x + by_hand.experts(weights, f"blocks.{b}.mlp", y, k, by_hand.gelu, "softmax", top_p=top_p)
        else:
            x = x + linear(by_hand.gelu(linear(y, f"blocks.{b}.mlp.0")), f"blocks.{b}.mlp.2")
    return linear(norm(x, "head.norm").mean(dim=1), "head.classifier")


def test_attention_is_counted(supernet: Supernet) -> None:
    """Two products of 9 tokens by 9 tokens, over the queries' channels."""
    space = supernet.space
    index = [choice.name for choice in space.choices].index("block0.heads")
    one, two = ([level if i == index else 0 for i in range(len(space))] for level in (0, 1))
    more = supernet.cost(space.canonical(two)).macs - supernet.cost(space.canonical(one)).macs
    assert more == 2 * 9 * 9 * 4 + 9 * 4 * (4 * 12)


def test_a_subnet_traced_by_itself_gives_the_bytes_of_its_familys_program(supernet: Supernet) -> None:
    architecture, x = supernet.space.sample(np.random.default_rng(3)), supernet.family.example(2)
    assert lower(traced(supernet, architecture), x) == lower(supernet.extract(architecture), x)


def test_blocks_of_equal_sizes_have_one_key(supernet: Supernet) -> None:
    largest, smallest = BlockKeys(supernet).of([supernet.space.largest, supernet.space.smallest])
    assert largest[1] == largest[2] == largest[3] != ""
    assert smallest[1] not in ("", largest[1])
    assert list(smallest[2:4]) == ["", ""]
    assert smallest[-1] != largest[-1]


def test_fresh_weights_are_those_of_vit_scaled_to_the_inputs() -> None:
    """By the global generator, which the caller seeds."""
    torch.manual_seed(3)
    one = dict(preset("digits", image_size=8, channels=1, n_classes=10).named_parameters())
    torch.manual_seed(3)
    two = dict(preset("digits", image_size=8, channels=1, n_classes=10).named_parameters())
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    for name, inputs in {"blocks.1.mlp.0.weight": 32, "blocks.1.mlp.2.weight": 128}.items():
        std = one[f"sharing.stored.{name}"].std().item()
        assert std * inputs**0.5 == pytest.approx(0.02 * 768**0.5, rel=0.1)
    assert one["sharing.stored.embedding.positions"].std().item() == pytest.approx(0.02 * (768 / 32) ** 0.5, rel=0.1)
    assert all(not tensor.any() for name, tensor in one.items() if name.endswith("bias"))


def test_a_patch_that_does_not_divide_the_image_is_refused() -> None:
    with raises("space.invalid", "patches of 4 ", "30"):
        ViTFamily(SPEC, image_size=30, channels=1, n_classes=10)


def test_a_description_that_lacks_something_is_refused() -> None:
    with raises("checkpoint.invalid", "KeyError"):
        family_from_json({"family": "vit", "spec": SPEC.to_json()})


def preset(name: str, *, image_size: int, channels: int, n_classes: int) -> Supernet:
    return make_supernet(ViTFamily(VIT[name], image_size=image_size, channels=channels, n_classes=n_classes))


def test_what_the_small_presets_promise() -> None:
    tiny = preset("tiny", image_size=28, channels=1, n_classes=10)
    smallest, largest = tiny.cost(tiny.space.smallest), tiny.cost(tiny.space.largest)
    assert 4e5 < largest.parameters <= 5e5
    assert tiny.space.size > 1e7
    assert largest.macs > 10 * smallest.macs
    digits = preset("digits", image_size=8, channels=1, n_classes=10)
    assert digits.cost(digits.space.largest).parameters < 5e4


def test_autoformer_tiny_spans_the_networks_that_were_published_of_it() -> None:
    """AutoFormer-tiny (arXiv 2107.00651, table 5): 5.7 M parameters, 1.3 G multiply-accumulates."""
    net = preset("autoformer-tiny", image_size=224, channels=3, n_classes=1000)
    smallest, largest = net.cost(net.space.smallest), net.cost(net.space.largest)
    assert smallest.parameters < 5.7e6 < largest.parameters < 11e6
    assert smallest.macs < 1.3e9 < largest.macs < 2.4e9
