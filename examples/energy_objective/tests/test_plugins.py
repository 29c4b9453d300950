"""The contracts of subnet-nas on this package's classes, and the values of the estimate."""

from __future__ import annotations

import pytest
from energy_objective.energy import EstimatedEnergy
from energy_objective.mlp import MLPFamily
from energy_objective.search import NeighbourSearch

from nas.plugins.testing import OBJECTIVES, ConstraintContract, FamilyContract, MetricContract, SearchContract
from nas.plugins.testing.metric import measured_networks


class TestEstimatedEnergy(MetricContract):
    @staticmethod
    def make():
        return EstimatedEnergy()


class TestMLPFamily(FamilyContract):
    @staticmethod
    def make():
        return MLPFamily(MLPFamily.description.presets["tiny"], image_size=8, channels=1, n_classes=10)


class TestNeighbourSearch(SearchContract, ConstraintContract):
    seeds = (10, 11, 12)
    more = 1.5

    @staticmethod
    def make(space, seed, constraints=()):
        return NeighbourSearch(space, OBJECTIVES, seed=seed, constraints=constraints)


def test_the_estimate_is_the_sum_of_arithmetic_and_memory():
    network = measured_networks()[0]
    cost = network.cost
    words = cost.parameters + 2 * cost.activation_bytes / 4
    value, error = EstimatedEnergy(dram_pj=100.0).measure(network)
    assert value == pytest.approx((4.6 * cost.macs + 100.0 * words) * 1e-9)
    assert error == 0


def test_a_negative_cost_of_memory_is_rejected():
    with pytest.raises(ValueError, match="dram_pj"):
        EstimatedEnergy(dram_pj=-1.0)
