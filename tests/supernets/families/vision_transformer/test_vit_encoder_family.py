"""An elastic vision transformer in ViT's layout: its forward by hand, costs, blocks, and what makes no network."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from supernets.families.vision_transformer.vision_transformer_family import ViTEncoderFamily
from supernets.families.vision_transformer.vision_transformer_spec import VIT_ENCODER, ViTEncoderSpec, vit_space_within
from supernets.sharing.base import Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.space import Option
from supernets.training.checkpoint import family_from_json, make_supernet
from tests.errors import raises
from tests.supernets import invariants

SPEC = ViTEncoderSpec(head_size=4, depth=(1, 2, 3), width=(12, 16, 20), heads=(1, 2, 3), hidden=(10, 16, 28), patch=4)
FAMILY = ViTEncoderFamily(SPEC, image_size=12, channels=2, n_classes=5)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return invariants.randomised(make_supernet(FAMILY))


def noise(n: int = 16) -> Tensor:
    """Noise around a colour of each image's own: the class token sees the means of patches, which noise alone has alike."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 2, 12, 12, generator=generator) + 2 * torch.randn(n, 2, 1, 1, generator=generator)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return noise()


def handwritten(weights: Mapping[str, Tensor], values: Mapping[str, Option], x: Tensor) -> Tensor:
    """The family's forward by products of matrices alone, from a subnet's tensors by name."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        x = x - x.mean(dim=-1, keepdim=True)
        x = x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attention(x: Tensor, name: str, heads: int) -> Tensor:
        found = []
        for h in range(heads):
            query, key, value = (linear(x, f"{name}.qkv")[..., (part * heads + h) * 4 :][..., :4] for part in range(3))
            found.append(torch.softmax(query @ key.transpose(1, 2) / 4**0.5, dim=-1) @ value)
        return linear(torch.cat(found, dim=-1), f"{name}.project")

    kernel, positions = weights["embedding.patches.weight"], weights["embedding.positions"]
    patches = x.reshape(len(x), 2, 3, 4, 3, 4).permute(0, 2, 4, 1, 3, 5).reshape(len(x), 9, 32)
    patches = patches @ kernel.reshape(len(kernel), 32).T + weights["embedding.patches.bias"] + positions[:, 1:]
    x = torch.cat([positions[:, :1].expand(len(x), -1, -1), patches], dim=1)
    for i in range(int(values["depth"])):
        x = x + attention(norm(x, f"layers.{i}.norm1"), f"layers.{i}.attention", int(values[f"layer{i}.heads"]))
        y = linear(norm(x, f"layers.{i}.norm2"), f"layers.{i}.mlp.0")
        x = x + linear(y * (1 + torch.erf(y / 2**0.5)) / 2, f"layers.{i}.mlp.2")
    return linear(norm(x, "head.norm")[:, 0], "head.classifier")


def test_the_class_token_is_counted_in_the_layers_and_not_among_the_patches(supernet: Supernet) -> None:
    width, channels, tokens = 20, 3 * 4, 10
    layer = tokens * (4 * width * channels + 2 * width * 28) + 2 * tokens**2 * channels
    patches, head = 9 * width * 2 * 4 * 4, 5 * width
    assert supernet.cost(supernet.space.largest).macs == patches + 3 * layer + head


def test_blocks_of_equal_sizes_have_one_key(supernet: Supernet) -> None:
    keys = BlockKeys(supernet)
    largest, smallest = keys.of([supernet.space.largest, supernet.space.smallest])
    assert all(keys.model(key).key == key for key in (*largest, *smallest) if key)
    assert largest[1] == largest[2] == largest[3] != ""
    assert smallest[1] not in ("", largest[1])
    assert list(smallest[2:4]) == ["", ""]
    assert smallest[-1] != largest[-1]


def test_fresh_weights_are_those_of_vit_scaled_to_the_inputs() -> None:
    torch.manual_seed(3)
    family = ViTEncoderFamily(VIT_ENCODER["digits"], image_size=8, channels=1, n_classes=10)
    fresh = dict(family.template().named_parameters())
    for name, inputs in {"layers.1.mlp.0.weight": 32, "layers.1.mlp.2.weight": 128, "embedding.positions": 32}.items():
        assert fresh[name].std().item() * inputs**0.5 == pytest.approx(0.02 * 768**0.5, rel=0.1)
    assert all(not tensor.any() for name, tensor in fresh.items() if name.endswith("bias"))


class TestDescription:
    @pytest.mark.parametrize("key", ["spec", "image_size", "epsilon"])
    def test_a_description_that_lacks_something_is_refused(self, key: str) -> None:
        data = FAMILY.to_json()
        del data[key]
        with raises("checkpoint.invalid"):
            family_from_json(data)

    def test_a_patch_that_does_not_divide_the_image_is_refused(self) -> None:
        with raises("space.invalid", "patches of 4 ", "30"):
            ViTEncoderFamily(SPEC, image_size=30, channels=1, n_classes=10)

    def test_a_patch_that_is_no_number_of_pixels_is_refused(self) -> None:
        with raises("space.invalid-dimension", "patch: ", "1 to 256", "0"):
            ViTEncoderSpec(head_size=4, depth=(1,), width=(8,), heads=(1,), hidden=(8,), patch=0)


class TestPresets:
    def test_the_space_within_vit_b_16_is_the_papers(self) -> None:
        sizes = {"head_size": 64, "depth": 12, "width": 768, "heads": 12, "hidden": 3072, "patch": 16}
        assert vit_space_within(**sizes) == VIT_ENCODER["instatune"]

    def test_the_smallest_layers_are_still_layers(self) -> None:
        spec = vit_space_within(head_size=4, depth=1, width=4, heads=1, hidden=2, patch=1)
        assert (spec.depth, spec.heads, spec.hidden) == ((1,), (1,), (1, 2))

    def test_the_largest_of_instatunes_is_vit_b_16(self) -> None:
        """86.6 M parameters with 1,000 classes, 17.6 G multiply-accumulates (as `timm` and `torchvision` list them)."""
        family = ViTEncoderFamily(VIT_ENCODER["instatune"], image_size=224, channels=3, n_classes=1000)
        with torch.device("meta"):
            assert sum(p.numel() for p in family.template().parameters()) == 86_567_656 - 768

    def test_the_small_ones_span_ten_times_in_macs(self) -> None:
        for name, side in (("tiny", 28), ("digits", 8)):
            family = ViTEncoderFamily(VIT_ENCODER[name], image_size=side, channels=1, n_classes=10)
            supernet = make_supernet(family)
            smallest, largest = supernet.cost(family.space.smallest), supernet.cost(family.space.largest)
            assert largest.macs > 10 * smallest.macs
            assert largest.parameters < 5e5
            assert family.space.size > 1000
