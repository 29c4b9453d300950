"""The contract of training strategies: a class to subclass as `Test...` with a `make`."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import pytest

from nas.plugins.testing.family import small_supernet
from supernets.sharing.base import Distillation, Family, Pass, TrainingStrategy
from supernets.space import Architecture

_STEPS = 20


def batch_loss(architecture: Architecture) -> float:
    """A loss that larger networks have less of."""
    return 1.0 / (2.0 + sum(max(gene, 0) for gene in architecture.genes))


class StrategyContract:
    """Inherit and give `make`."""

    epochs = 20
    """Of the training whose phases are checked."""

    @staticmethod
    @abstractmethod
    def make(family: Family) -> TrainingStrategy:
        """The strategy for a family."""

    @pytest.fixture
    def family(self) -> Family:
        """Small CNNs."""
        return small_supernet().family

    def plans(self, family: Family, seed: int) -> list[list[Pass]]:
        """The steps of all phases."""
        strategy, rng = self.make(family), np.random.default_rng(seed)
        phases = strategy.phases(self.epochs)
        return [list(strategy.plan(i, rng, batch_loss)) for i in range(len(phases)) for _ in range(_STEPS)]

    def test_phases_share_the_epochs(self, family: Family) -> None:
        phases = self.make(family).phases(self.epochs)
        assert sum(phase.epochs for phase in phases) == self.epochs
        assert all(phase.epochs > 0 and phase.learning_rate > 0 and phase.name for phase in phases)

    def test_the_same_generator_plans_the_same(self, family: Family) -> None:
        assert self.plans(family, 1) == self.plans(family, 1)

    def test_steps_train_networks_of_the_space(self, family: Family) -> None:
        for plan in self.plans(family, 2):
            assert plan
            for single in plan:
                family.space.check(single.architecture)
                assert single.terms
                part, n = single.part
                assert 0 <= part < n

    def test_a_teacher_comes_before_its_student(self, family: Family) -> None:
        for plan in self.plans(family, 3):
            for i, single in enumerate(plan):
                for term in single.terms:
                    if isinstance(term, Distillation) and term.teacher is not None:
                        assert 0 <= term.teacher < i
                        assert plan[term.teacher].part == single.part
