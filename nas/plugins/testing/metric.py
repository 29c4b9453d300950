"""The contract of additional metrics: a class to subclass as `Test...` with a `make`."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from hardware_profiles.catalog import load_profile
from nas.engine.evaluation.metric import MeasuredNetwork, Metric
from nas.plugins import Kind, check, of_object
from nas.plugins.testing.family import small_supernet
from nas.search.problem.objectives import Goal
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.training.recalibration import recalibrate


def measured_networks(n: int = 3, *, profile: str | None = None) -> list[MeasuredNetwork]:
    """Networks of random weights on random images: the smallest, the largest, and random ones up to `n`."""
    supernet, rng = small_supernet(), np.random.default_rng(0)
    images = rng.normal(size=(64, 1, 8, 8)).astype(np.float32)
    labels, space = rng.integers(0, 10, 64), supernet.space
    measured = []
    for architecture in [space.smallest, space.largest, *(space.sample(rng) for _ in range(n - 2))]:
        module = recalibrate(supernet.extract(architecture), [torch.from_numpy(images)])
        measured.append(
            MeasuredNetwork(
                architecture,
                "fp32",
                onnx_model(module, torch.from_numpy(images[:2])),
                supernet.cost(architecture),
                inputs=images,
                labels=labels,
                input_name=INPUT,
                profile=load_profile(profile) if profile else None,
            )
        )
    return measured


class MetricContract:
    """Inherit and give `make`."""

    exact: ClassVar[bool] = True
    """Whether a repeated measurement of a network gives the same value."""

    @staticmethod
    @abstractmethod
    def make() -> Metric:
        """The metric, as a job makes it."""

    @pytest.fixture
    def networks(self) -> list[MeasuredNetwork]:
        """Networks to measure."""
        return measured_networks(profile="cpu-1-thread" if self.make().per_profile else None)

    def test_it_has_the_parts_of_a_metric(self) -> None:
        metric = self.make()
        check(of_object(Kind.METRICS, type(metric)), type(metric), Metric)
        assert metric.goal in tuple(Goal)
        assert isinstance(metric.unit, str)
        assert isinstance(metric.per_profile, bool)

    def test_values_are_finite_and_errors_at_least_zero(self, networks: list[MeasuredNetwork]) -> None:
        """Each measurement is a finite value with its error.

        Args:
            networks: Networks to measure: the smallest, the largest, and a random one.
        """
        for network in networks:
            value, error = self.make().measure(network)
            assert math.isfinite(value)
            assert math.isfinite(error)
            assert error >= 0

    def test_networks_differ(self, networks: list[MeasuredNetwork]) -> None:
        """The smallest and the largest network; a metric that is the same for all gives nothing to search for.

        Args:
            networks: Networks to measure, the smallest and the largest first.
        """
        smallest, largest, *_ = (self.make().measure(network)[0] for network in networks)
        assert smallest != largest

    def test_a_repeated_measurement_gives_the_same(self, networks: list[MeasuredNetwork]) -> None:
        """Two measurements of a network are equal, or (unless `exact`) differ by at most ten times the larger error.

        Args:
            networks: Networks to measure, of which the first is measured twice.
        """
        first, again = self.make().measure(networks[0]), self.make().measure(networks[0])
        if self.exact:
            assert first == again
        else:
            assert first[0] == pytest.approx(again[0], abs=10 * max(first[1], again[1], 1e-12))

    def test_what_it_is_given_is_not_changed(self, networks: list[MeasuredNetwork]) -> None:
        """Further metrics are measured on the same arrays of inputs and labels.

        Args:
            networks: Networks to measure, of which a copy of the second is measured.
        """
        network = replace(networks[1], inputs=networks[1].inputs.copy(), labels=networks[1].labels.copy())
        self.make().measure(network)
        np.testing.assert_array_equal(network.inputs, networks[1].inputs)
        np.testing.assert_array_equal(network.labels, networks[1].labels)
