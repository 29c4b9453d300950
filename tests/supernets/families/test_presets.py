"""What the presets promise: sizes, spans of costs, widths that runtimes like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.families.convolutional.resnet_family import ResNetFamily
from supernets.families.convolutional.resnet_spec import RESNET
from supernets.sharing.base import Family, Supernet
from supernets.space import Architecture, Option
from supernets.space.cost import Cost
from supernets.training.checkpoint import make_supernet


def mobile() -> Supernet:
    return make_supernet(MobileCNNFamily(MOBILE_CNN["mobile"], image_size=224, channels=3, n_classes=1000))


def test_mobile_has_the_size_of_mobilenet_v2() -> None:
    space = mobile().space
    largest, middle, smallest = (
        mobile().cost(a) for a in (space.largest, space.canonical((space.levels - 1) // 2), space.smallest)
    )
    assert 3.2e6 < largest.parameters < 4.0e6  # MobileNetV2: 3.5 M and 300 M
    assert 3.0e8 < largest.macs < 4.5e8
    assert smallest.macs < middle.macs < largest.macs
    assert 5 < largest.macs / smallest.macs < 8
    assert space.size > 1e15


def test_mobiles_costs_are_those_of_the_extracted_network() -> None:
    net = mobile()
    architecture = net.space.sample(np.random.default_rng(1))
    module, cost = net.extract(architecture), net.cost(architecture)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, 224, 224))
    assert cost.macs * 2 == counter.get_total_flops()
    assert cost.parameters == sum(p.numel() for p in module.parameters())


def test_all_of_mobiles_widths_are_multiples_of_eight() -> None:
    net, spec = mobile(), MOBILE_CNN["mobile"]
    assert all(width % 8 == 0 for stage in spec.stages for width in stage.width)
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = net.family.sizes(net.space.sample(rng))
        assert all(n % 8 == 0 for axis, n in sizes.items() if not axis.endswith("kernel"))


def costs(family: Family, *architectures: Architecture) -> list[Cost]:
    """Costs without the numbers, which would take seconds to make and to multiply."""
    with torch.device("meta"):
        net = make_supernet(family)
        return [net.cost(architecture) for architecture in architectures]


def ofa() -> MobileCNNFamily:
    return MobileCNNFamily(MOBILE_CNN["ofa"], image_size=224, channels=3, n_classes=1000)


def resnet(preset: str, image_size: int, channels: int, n_classes: int) -> ResNetFamily:
    return ResNetFamily(RESNET[preset], image_size=image_size, channels=channels, n_classes=n_classes)


def with_values(family: Family, value: Callable[[str], Option | None]) -> Architecture:
    """The architecture of these option values, by the choices' names; the largest option where there is none."""
    chosen = [(choice.options, value(choice.name)) for choice in family.space.choices]
    return family.space.canonical([len(o) - 1 if v is None else o.index(v) for o, v in chosen])


def test_ofa_holds_mobilenet_v3_large_but_for_its_hidden_widths() -> None:
    """MobileNetV3-large has 5.4 M parameters and 219 M MACs; not all of its ratios of expansion are the space's."""
    by_stage: Mapping[str, Sequence[Option]] = {
        "depth": (1, 2, 3, 4, 2, 3),
        "kernel": (3, 3, 5, 3, 3, 5),
        "expand": (1, 3, 3, 3, 6, 6),
    }

    def value(name: str) -> Option | None:
        stage, kind = name.split(".")[0], name.split(".")[-1]
        return by_stage[kind][int(stage.removeprefix("stage"))] if kind in by_stage else None

    family = ofa()
    (cost,) = costs(family, with_values(family, value))
    assert 5.0e6 < cost.parameters < 5.6e6
    assert 2.0e8 < cost.macs < 2.4e8


def test_ofa_has_as_many_networks_as_published() -> None:
    """Once-for-All reports 2e19 networks at each of 25 resolutions."""
    family = ofa()
    of_a_stage = sum(9**depth for depth in (2, 3, 4))
    assert family.space.size == 25 * of_a_stage**5
    assert 1e19 < of_a_stage**5 < 3e19
    (largest,) = costs(family, family.space.largest)
    assert largest.parameters == 7_666_328
    assert 5.5e8 < largest.macs < 6e8


def test_tiny_v3_is_as_small_as_tiny() -> None:
    family = MobileCNNFamily(MOBILE_CNN["tiny-v3"], image_size=28, channels=1, n_classes=10)
    largest, smallest = costs(family, family.space.largest, family.space.smallest)
    assert largest.parameters < 0.3e6
    assert largest.macs > 10 * smallest.macs
    assert family.space.size > 1e8


def resnet50d_parameters() -> int:
    """Counted by the paper's table (arXiv 1512.03385) and the variant D's stem, norms and biases included."""

    def conv(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel**2 + 2 * outputs

    total, inputs = conv(3, 32, 3) + conv(32, 32, 3) + conv(32, 64, 3), 64
    for hidden, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        outputs = 4 * hidden
        total += conv(inputs, outputs, 1)
        for _ in range(depth):
            total += conv(inputs, hidden, 1) + conv(hidden, hidden, 3) + conv(hidden, outputs, 1)
            inputs = outputs
    return total + inputs * 1000 + 1000


def test_ofa_resnet50_holds_resnet50d_itself() -> None:
    family = resnet("ofa-resnet50", 224, 3, 1000)
    depths = {f"stage{s}.depth": depth for s, depth in enumerate((3, 4, 6, 3))}
    found = with_values(family, lambda name: 0.25 if name.endswith("expand") else depths.get(name))
    (cost,) = costs(family, found)
    assert cost.parameters == resnet50d_parameters() == 25_576_264
    assert 4.2e9 < cost.macs < 4.4e9  # He et al. 2018 report 4.3 GFLOPs


def test_ofa_resnet50s_largest_is_nearly_twice_as_large() -> None:
    """Deeper in three stages, and wider within its blocks."""
    family = resnet("ofa-resnet50", 224, 3, 1000)
    largest, smallest = costs(family, family.space.largest, family.space.smallest)
    assert largest.parameters == 48_105_992
    assert smallest.parameters == 6_544_512
    assert largest.macs > 20 * smallest.macs


@pytest.mark.parametrize("preset", ["tiny", "digits"])
def test_small_resnets_are_small(preset: str) -> None:
    family = resnet(preset, {"tiny": 28, "digits": 8}[preset], 1, 10)
    largest, smallest = costs(family, family.space.largest, family.space.smallest)
    assert largest.parameters < 0.5e6
    assert largest.macs >= 8 * smallest.macs


def test_all_of_ofa_resnet50s_channels_are_multiples_of_eight() -> None:
    family = resnet("ofa-resnet50", 224, 3, 1000)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert all(n % 8 == 0 for n in family.sizes(family.space.sample(rng)).values())
