"""Nested networks: one choice a dimension, each network a part of every larger one."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.families.nested_networks import NestedFamily
from supernets.families.vision_transformer.vision_transformer_family import ViTEncoderFamily, ViTFamily
from supernets.families.vision_transformer.vision_transformer_spec import VIT, VIT_ENCODER
from supernets.space import joint_levels
from supernets.training.checkpoint import family_from_json, make_supernet
from tests.supernets.invariants import randomised

CNN = MobileCNNFamily(MOBILE_CNN["tiny"], image_size=28, channels=1, n_classes=10)


def test_levels_scaled_together_rise_one_after_another() -> None:
    assert joint_levels([3]) == [(0,), (1,), (2,)]
    assert joint_levels([1, 1]) == [(0, 0)]
    levels = joint_levels([2, 3, 4])
    assert levels[0] == (0, 0, 0)
    assert levels[-1] == (1, 2, 3)
    for low, high in itertools.pairwise(levels):
        assert low != high
        assert all(a <= b <= a + 1 for a, b in zip(low, high, strict=True))


def test_a_choice_a_kind_named_by_what_layers_get() -> None:
    space = NestedFamily(CNN).space
    assert {choice.name: choice.options for choice in space.choices} == {
        "depth": ("1-1-1", "1-1-2", "1-2-2", "1-2-3", "2-2-3", "2-3-3", "2-3-4"),
        "width": ("12-16-48", "12-24-64", "16-24-64", "16-32-80"),
        "kernel": (3, 5),
        "expand": (2, 3, 4),
    }
    assert space.size == len(space.enumerate()) == 168


def test_networks_are_those_of_the_inner_family() -> None:
    sizes = {"image_size": 28, "channels": 1, "n_classes": 10}
    for inner in (CNN, ViTFamily(VIT["tiny"], **sizes), ViTEncoderFamily(VIT_ENCODER["tiny"], **sizes)):
        nested = NestedFamily(inner)
        assert nested.inner_architecture(nested.space.largest) == inner.space.largest
        assert nested.inner_architecture(nested.space.smallest) == inner.space.smallest
        supernet, plain = randomised(make_supernet(nested)), randomised(make_supernet(inner))
        images = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        rng = np.random.default_rng(0)
        for _ in range(5):
            architecture = nested.space.sample(rng)
            assert supernet.cost(architecture) == plain.cost(nested.inner_architecture(architecture))
            with torch.no_grad():
                expected = plain.extract(nested.inner_architecture(architecture))(images)
                torch.testing.assert_close(supernet.extract(architecture)(images), expected)


def test_a_smaller_networks_tensors_are_parts_of_a_larger_ones() -> None:
    nested = NestedFamily(CNN)
    supernet = randomised(make_supernet(nested))
    rng = np.random.default_rng(1)
    for _ in range(10):
        genes = np.sort(rng.integers(0, nested.space.levels, (2, len(nested.space))), axis=0)
        small, large = (supernet.weights(nested.space.canonical(g)) for g in genes)
        assert small.keys() <= large.keys()
        for name, tensor in small.items():
            if tensor.ndim == 0:
                continue
            # Kernels are cut from the middle, all else from the beginning.
            starts = [
                (b - a) // 2 if i >= 2 else 0
                for i, (a, b) in enumerate(zip(tensor.shape, large[name].shape, strict=True))
            ]
            part = large[name][tuple(slice(s, s + n) for s, n in zip(starts, tensor.shape, strict=True))]
            assert torch.equal(part, tensor), name


def test_a_checkpoint_describes_it() -> None:
    nested = NestedFamily(CNN)
    again = family_from_json(nested.to_json())
    assert again.space == nested.space
    assert again.to_json() == nested.to_json()
