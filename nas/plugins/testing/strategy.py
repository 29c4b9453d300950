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
        """The strategy for a family.

        Args:
            family: Family of the supernet that is trained.
        """

    @pytest.fixture
    def family(self) -> Family:
        """Small CNNs."""
        return small_supernet().family

    def plans(self, family: Family, seed: int) -> list[list[Pass]]:
        """The steps of all phases.

        Args:
            family: Family of the supernet that is trained.
            seed: Seed of the generator that the strategy plans with, at least 0.
        """
        strategy, rng = self.make(family), np.random.default_rng(seed)
        phases = strategy.phases(self.epochs)
        return [list(strategy.plan(i, rng, batch_loss)) for i in range(len(phases)) for _ in range(_STEPS)]

    def test_phases_share_the_epochs(self, family: Family) -> None:
        """The epochs of the phases add up to `epochs`, and each phase has a name and a learning rate above 0.

        Args:
            family: Small CNNs.
        """
        phases = self.make(family).phases(self.epochs)
        assert sum(phase.epochs for phase in phases) == self.epochs
        assert all(phase.epochs > 0 and phase.learning_rate > 0 and phase.name for phase in phases)

    def test_the_same_generator_plans_the_same(self, family: Family) -> None:
        """A resumed training needs the steps that the interrupted one would have made.

        Args:
            family: Small CNNs.
        """
        assert self.plans(family, 1) == self.plans(family, 1)

    def test_steps_train_networks_of_the_space(self, family: Family) -> None:
        """Each pass of a step trains a network of the family's space, for at least one term of the loss.

        Args:
            family: Small CNNs.
        """
        for plan in self.plans(family, 2):
            assert plan
            for single in plan:
                family.space.check(single.architecture)
                assert single.terms
                part, n = single.part
                assert 0 <= part < n

    def test_a_teacher_comes_before_its_student(self, family: Family) -> None:
        """A pass distils from an earlier pass of its step, on the same part of the batch.

        Args:
            family: Small CNNs.
        """
        for plan in self.plans(family, 3):
            for i, single in enumerate(plan):
                for term in single.terms:
                    if isinstance(term, Distillation) and term.teacher is not None:
                        assert 0 <= term.teacher < i
                        assert plan[term.teacher].part == single.part
