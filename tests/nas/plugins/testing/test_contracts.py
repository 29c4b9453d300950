"""The contracts for families, strategies and metrics, on shipped classes; those of other kinds are at their classes' tests."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from torch import Tensor, nn

from nas.engine.evaluation.metric import MeasuredNetwork, Metric
from nas.plugins.testing import FamilyContract, MetricContract, StrategyContract
from nas.plugins.testing.family import randomised
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.families.vision_transformer.vision_transformer_family import ViTFamily
from supernets.families.vision_transformer.vision_transformer_spec import VIT
from supernets.sharing.base import Family, TrainingStrategy
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from supernets.training.strategies.progressive import ProgressiveStrategy
from supernets.training.strategies.single_phase import SandwichStrategy, SortedStrategy


class TestMobileCNN(FamilyContract):
    @staticmethod
    def make() -> Family:
        return MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=10)


class TestViT(FamilyContract):
    @staticmethod
    def make() -> Family:
        return ViTFamily(VIT["digits"], image_size=8, channels=1, n_classes=10)


class TestSandwich(StrategyContract):
    @staticmethod
    def make(family: Family) -> TrainingStrategy:
        return SandwichStrategy(family.space)


class TestSorted(StrategyContract):
    @staticmethod
    def make(family: Family) -> TrainingStrategy:
        return SortedStrategy(family.space)


class TestProgressive(StrategyContract):
    @staticmethod
    def make(family: Family) -> TrainingStrategy:
        return ProgressiveStrategy(family, "largest")


class Largest(Metric):
    """The largest absolute output."""

    unit, goal = "", "minimize"

    def measure(self, network: MeasuredNetwork) -> tuple[float, float]:
        return float(abs(network.outputs()).max()), 0.0


class TestLargest(MetricContract):
    @staticmethod
    def make() -> Metric:
        return Largest()


class _Wider(MobileCNNFamily):
    """A family whose extracted networks have a layer that its live ones lack."""

    def standalone(self, tree: nn.Module, architecture: Architecture, weights: Mapping[str, Tensor]) -> nn.Module:
        network = super().standalone(tree, architecture, weights)
        network.mix = nn.Sequential(nn.Identity())
        return network


def test_a_broken_family_is_found() -> None:
    family = _Wider(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=10)
    supernet = randomised(make_supernet(family)).eval()
    with pytest.raises(AssertionError, match="mix"):
        TestMobileCNN().test_live_and_extracted_networks_have_the_same_modules(family, supernet)
