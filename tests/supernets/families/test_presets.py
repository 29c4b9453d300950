"""What the presets promise: sizes, spans of costs, widths that runtimes like."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from supernets.base import Supernet
from supernets.checkpoint import make_supernet
from supernets.families.mobile_cnn import MobileCNNFamily
from supernets.families.presets import MOBILE_CNN


def mobile() -> Supernet:
    return make_supernet(MobileCNNFamily(MOBILE_CNN["mobile"], image_size=224, channels=3, n_classes=1000))


def test_mobile_has_the_size_of_mobilenet_v2() -> None:
    space = mobile().space
    largest, middle, smallest = (mobile().cost(a) for a in (space.largest, space.scaled(0.5), space.smallest))
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
