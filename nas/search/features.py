"""Functions of architectures that search algorithms are given: analytic features, and exact values of metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nas.problem.pareto import Array
from predictors.layout import FeatureLayout
from supernets.space import Architecture

Features = Callable[[Sequence[Architecture]], Array]
"""Architectures to feature rows, (n, d)."""
Values = Callable[[Sequence[Architecture]], Array]
"""Architectures to values of one metric, (n,), in natural sign."""


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Analytic features, and the meaning of their columns."""

    rows: Features
    layout: FeatureLayout
