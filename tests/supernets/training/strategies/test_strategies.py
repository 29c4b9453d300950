"""The passes and phases of each training strategy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN, CNNSpec, StageSpec
from supernets.families.nested_networks import NestedFamily
from supernets.sharing.base import Distillation, LabelLoss, Pass, TrainingStrategy
from supernets.sharing.sorting import sort_by_importance
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from supernets.training.strategies.attentive import AttentiveStrategy
from supernets.training.strategies.instatune import InstaTuneStrategy
from supernets.training.strategies.progressive import ProgressiveStrategy
from supernets.training.strategies.single_phase import (
    LargestStrategy,
    SandwichStrategy,
    SinglePathStrategy,
    SortedStrategy,
)
from supernets.training.strategies.smoe_dropout import SMoEDropoutStrategy
from tests.errors import raises
from tests.supernets.families.decoder.test_decoder_family import EXPERTS
from tests.supernets.invariants import RELATIVE, randomised, relative

FAMILY = MobileCNNFamily(MOBILE_CNN["tiny"], image_size=28, channels=1, n_classes=10)
SPACE = FAMILY.space
FROZEN = Distillation(teacher=None)


def no_batch_loss(architecture: Architecture) -> float:
    raise AssertionError("this strategy does not select by loss")


def plan(strategy: TrainingStrategy, phase: int = 0, seed: int = 0) -> Sequence[Pass]:
    return strategy.plan(phase, np.random.default_rng(seed), no_batch_loss)


def test_the_sandwich_trains_both_ends_and_distils_from_the_largest() -> None:
    passes = plan(SandwichStrategy(SPACE, 2))
    assert [p.architecture for p in passes[:2]] == [SPACE.largest, SPACE.smallest]
    assert len(passes) == 4
    assert passes[0].terms == (LabelLoss(),)
    assert all(p.terms == (Distillation(teacher=0),) for p in passes[1:])


def test_the_largest_network_may_be_trained_alone_before_the_sandwich() -> None:
    strategy = SandwichStrategy(SPACE, 1, largest_epochs=2)
    first, second = strategy.phases(6)
    assert (first.epochs, first.learning_rate, first.before) == (2, 1.0, None)
    assert (second.epochs, second.learning_rate, second.before) == (4, 1 / 3, sort_by_importance)
    (alone,) = plan(strategy, 0)
    assert (alone.architecture, alone.terms) == (SPACE.largest, (LabelLoss(),))
    assert [p.architecture for p in plan(strategy, 1)[:2]] == [SPACE.largest, SPACE.smallest]
    (taught,) = plan(SandwichStrategy(SPACE, 1, "frozen", 2), 0)
    assert taught.terms == (LabelLoss(), FROZEN)
    with raises("training.too-few-epochs", "largest_epochs is 2", "2 epochs"):
        strategy.phases(2)


@pytest.mark.parametrize(("teacher", "terms"), [("none", (LabelLoss(),)), ("frozen", (LabelLoss(), FROZEN))])
def test_strategies_learn_from_labels_and_a_frozen_teacher(teacher: str, terms: tuple[object, ...]) -> None:
    for strategy in (
        SandwichStrategy(SPACE, 1, teacher),  # type: ignore[arg-type]
        SinglePathStrategy(SPACE, teacher),  # type: ignore[arg-type]
        LargestStrategy(SPACE, teacher),  # type: ignore[arg-type]
    ):
        assert {p.terms for p in plan(strategy)} == {terms}
    assert [p.architecture for p in plan(LargestStrategy(SPACE))] == [SPACE.largest]


def test_sorted_trains_one_subnet_per_part_of_the_batch() -> None:
    passes = plan(SortedStrategy(SPACE, 4))
    assert [p.part for p in passes] == [(i, 4) for i in range(4)]
    assert len({p.architecture for p in passes}) == 4
    assert {p.terms for p in passes} == {(LabelLoss(0.25),)}  # a mean over the parts, not a sum
    (alone,) = plan(SortedStrategy(SPACE, 1, "frozen"))
    assert alone.terms == (LabelLoss(1.0), Distillation(None, 1.0))


class TestInstaTune:
    """Compared with the formula of arXiv 2308.15609."""

    def test_without_a_teacher_the_others_distil_from_the_largest(self) -> None:
        strategy = InstaTuneStrategy(SPACE, 2, label_weight=0.3, temperature=2.0)
        first, *others = plan(strategy)
        assert (first.architecture, first.terms) == (SPACE.largest, (LabelLoss(0.3),))
        assert [p.terms for p in others] == [(LabelLoss(0.3), Distillation(0, 0.7, 2.0))] * 2
        assert others[0].architecture != others[1].architecture
        (phase,) = strategy.phases(4)
        assert (phase.epochs, phase.before) == (4, None)

    def test_a_frozen_teacher_is_limited_to_its_epochs(self) -> None:
        strategy = InstaTuneStrategy(SPACE, 1, label_weight=0.25, teacher_epochs=3)
        assert [phase.epochs for phase in strategy.phases(5)] == [3, 2]
        assert {p.terms for p in plan(strategy, 0)} == {(LabelLoss(0.25), Distillation(None, 0.75))}
        first, other = plan(strategy, 1)
        assert (first.terms, other.terms) == ((LabelLoss(0.25),), (LabelLoss(0.25), Distillation(0, 0.75)))
        assert [phase.epochs for phase in strategy.phases(3)] == [3]
        with raises("training.too-few-epochs", "teacher_epochs is 3", "2 epochs"):
            strategy.phases(2)

    def test_sorting_happens_once_and_keeps_the_largest_network(self) -> None:
        strategy = InstaTuneStrategy(SPACE, teacher_epochs=1, sort=True)
        first, second = strategy.phases(2)
        assert (first.before is None, second.before is None) == (False, True)
        supernet = randomised(make_supernet(FAMILY)).eval()
        images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            ends = [supernet(images, a) for a in (SPACE.largest, SPACE.smallest)]
            assert first.before is not None
            first.before(supernet)
            assert relative(supernet(images, SPACE.largest), ends[0]) <= RELATIVE
            assert relative(supernet(images, SPACE.smallest), ends[1]) > 100 * RELATIVE


class TestSMoEDropout:
    SPACE = EXPERTS.space
    """Its tokens are sent to 1, 2 or 5 of 5 experts."""

    def active(self, progress: float) -> set[object]:
        """The options of all layers."""
        (own,) = plan(SMoEDropoutStrategy(self.SPACE).at(progress))
        values = self.SPACE.values(own.architecture)
        others = {name: option for name, option in values.items() if not name.endswith("active_experts")}
        assert others.items() <= self.SPACE.values(self.SPACE.largest).items()
        return {option for name, option in values.items() if name.endswith("active_experts")}

    def test_the_number_of_active_experts_grows_linearly_to_the_nearest_option(self) -> None:
        # 1 + 4 progress: up to 1.5 it is nearest to 1, up to 3.5 to 2.
        shares = (0, 0.12, 0.13, 0.62, 0.63, 1)
        assert [self.active(share) for share in shares] == [{1}, {1}, {2}, {2}, {5}, {5}]

    def test_a_space_without_a_choice_of_experts_is_rejected(self) -> None:
        with raises("training.no-experts", "active_experts"):
            SMoEDropoutStrategy(SPACE).phases(3)


class TestProgressive:
    def test_phases_have_at_least_one_epoch_and_add_up(self) -> None:
        strategy = ProgressiveStrategy(FAMILY)
        for epochs in (8, 9, 20, 100):
            phases = strategy.phases(epochs)
            assert sum(phase.epochs for phase in phases) == epochs
            assert min(phase.epochs for phase in phases) >= 1
        assert [p.name for p in strategy.phases(40)] == [
            "largest", "kernel", "depth, 2 options", "depth", "width, 2 options", "width", "expand, 2 options", "expand",
        ]  # fmt: skip
        assert [p.teach for p in strategy.phases(40)] == [True] + [False] * 7
        with raises("training.too-few-epochs", "8 phases", "7 epochs"):
            strategy.phases(7)

    def test_each_kind_becomes_elastic_in_turn(self) -> None:
        strategy = ProgressiveStrategy(FAMILY)
        (first,) = plan(strategy, 0)
        assert first == Pass(SPACE.largest, (LabelLoss(),))
        free: list[set[str]] = []
        lowest: list[int] = []
        for phase in range(1, 8):
            passes = [p for seed in range(60) for p in plan(strategy, phase, seed)]
            assert {p.terms for p in passes} == {(LabelLoss(), FROZEN)}
            genes = np.array([p.architecture.genes for p in passes])
            below = SPACE.levels - 1 - np.where(genes < 0, SPACE.levels - 1, genes)
            free.append({SPACE.choices[i].kind for i in np.flatnonzero(below.any(axis=0))})
            lowest.append(int(below.max()))
        assert free == [
            {"kernel"}, {"kernel", "depth"}, {"kernel", "depth"}, *[{"kernel", "depth", "width"}] * 2,
            *[{"kernel", "depth", "width", "expand"}] * 2,
        ]  # fmt: skip
        assert lowest == [1, 1, 3, 3, 3, 3, 3]  # the third stage has four depths
        assert [len(plan(strategy, phase)) for phase in range(8)] == [1, 1, 2, 2, 4, 4, 4, 4]

    def test_axes_are_sorted_before_layers_become_narrower(self) -> None:
        phases = ProgressiveStrategy(FAMILY).phases(8)
        assert [phase.before is not None for phase in phases] == [False] * 4 + [True] * 4
        supernet = randomised(make_supernet(FAMILY)).eval()
        images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            before = supernet(images, SPACE.largest)
            for phase in phases[4:]:
                assert phase.before is not None
                phase.before(supernet)
                weights = supernet.weights(SPACE.largest)
                readers = ["head", *(f"stages.2.{b}.expand" for b in (1, 2, 3))]  # of the last stage's channels
                read = torch.stack([weights[f"{name}.conv.weight"].abs().sum((0, 2, 3)) for name in readers]).sum(0)
                # First all 80 channels are sorted; then the 64 of narrower networks among themselves, and so on.
                groups = {0: (0, 80), 1: (0, 64, 80), 2: (0, 48, 64, 80), 3: (0, 48, 64, 80)}[phases.index(phase) - 4]
                for low, high in itertools.pairwise(groups):
                    # Another order of summation changes the last bits of equal importances.
                    torch.testing.assert_close(
                        read[low:high], read[low:high].sort(descending=True).values, rtol=1e-6, atol=0
                    )
            assert relative(supernet(images, SPACE.largest), before) <= RELATIVE

    def test_sorting_keeps_networks_that_were_already_trained(self) -> None:
        """The networks of the second widths, which the widths' first phase trains, are unchanged by the next sorting."""
        phases = {phase.name: phase for phase in ProgressiveStrategy(FAMILY).phases(8)}
        supernet = randomised(make_supernet(FAMILY)).eval()
        images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        second, smallest = (
            SPACE.canonical(
                [
                    max(0, n - 1 - below) if c.kind == "width" else n - 1
                    for c, n in zip(SPACE.choices, SPACE.levels, strict=True)
                ]
            )
            for below in (1, 2)
        )
        with torch.no_grad():
            before = [supernet(images, a) for a in (second, smallest)]
            sorting = phases["width"].before
            assert sorting is not None
            sorting(supernet)
            assert relative(supernet(images, second), before[0]) <= RELATIVE
            assert relative(supernet(images, smallest), before[1]) > 100 * RELATIVE

    def test_nested_networks_are_sorted_too(self) -> None:
        """Dropped blocks do not count as narrower networks that were already trained."""
        family = NestedFamily(FAMILY)
        phases = ProgressiveStrategy(family).phases(8)
        supernet = randomised(make_supernet(family)).eval()
        sorting = next(phase.before for phase in phases if phase.before is not None)
        sorting(supernet)
        for block in ("0.0", "0.1", "1.2", "2.3"):  # the last three are not in every network
            read = supernet.weights(family.space.largest)[f"stages.{block}.project.conv.weight"].abs().sum((0, 2, 3))
            torch.testing.assert_close(read, read.sort(descending=True).values, rtol=1e-6, atol=0)

    def test_resolutions_are_elastic_after_the_first_phase(self) -> None:
        family = MobileCNNFamily(MOBILE_CNN["tiny-v3"], image_size=28, channels=1, n_classes=10)
        strategy = ProgressiveStrategy(family)
        resolution = family.space.kinds["resolution"][0]
        assert plan(strategy, 0)[0].architecture.genes[resolution] == 2
        for phase in range(1, 4):
            passes = [p for seed in range(20) for p in plan(strategy, phase, seed)]
            assert {p.architecture.genes[resolution] for p in passes} == {0, 1, 2}

    def test_resolutions_are_trained_if_nothing_else_is_elastic(self) -> None:
        stage = StageSpec(stride=1, depth=(1,), width=(4,), kernel=(3,), expand=(1,))
        spec = CNNSpec(4, 1, (stage,), 8, resolution=(4, 6, 8))
        strategy = ProgressiveStrategy(MobileCNNFamily(spec, image_size=8, channels=1, n_classes=3))
        last = len(strategy.phases(8)) - 1
        passes = [p for seed in range(20) for p in plan(strategy, last, seed)]
        assert {p.architecture.genes[0] for p in passes} == {0, 1, 2}

    def test_a_frozen_teacher_is_used_from_the_first_phase(self) -> None:
        strategy = ProgressiveStrategy(FAMILY, "frozen")
        assert plan(strategy, 0)[0].terms == (LabelLoss(), FROZEN)
        assert not any(phase.teach for phase in strategy.phases(8))


class TestAttentive:
    def macs(self, architectures: Sequence[Architecture]) -> NDArray[np.int64]:
        return np.asarray(make_supernet(FAMILY).costs(architectures).macs.sum(axis=1))

    @pytest.mark.parametrize("pick", ["best", "worst"])
    def test_selects_by_loss_among_networks_of_similar_cost(self, pick: str) -> None:
        strategy = AttentiveStrategy(SPACE, self.macs, random_subnets=2, candidates=5, pick=pick)  # type: ignore[arg-type]
        asked: list[Architecture] = []

        def batch_loss(architecture: Architecture) -> float:
            asked.append(architecture)
            return float(sum(architecture.genes))

        passes = strategy.plan(0, np.random.default_rng(1), batch_loss)
        assert [p.architecture for p in passes[:2]] == [SPACE.largest, SPACE.smallest]
        for chosen, candidates in zip(passes[2:], (asked[:5], asked[5:]), strict=True):
            choose = min if pick == "best" else max
            assert batch_loss(chosen.architecture) == choose(map(batch_loss, candidates))
            macs = self.macs(candidates)
            everything = self.macs([SPACE.smallest, SPACE.largest])
            assert np.ptp(macs) <= np.ptp(everything) / 25

    def test_costs_are_sampled_like_those_of_random_networks(self) -> None:
        strategy = AttentiveStrategy(SPACE, self.macs, random_subnets=1, candidates=1)
        drawn = [strategy.plan(0, np.random.default_rng(s), lambda a: 0.0)[2].architecture for s in range(300)]
        random = [SPACE.sample(np.random.default_rng(1000 + s)) for s in range(300)]
        assert abs(np.median(self.macs(drawn)) / np.median(self.macs(random)) - 1) < 0.1
