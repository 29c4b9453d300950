"""Sorting by importance: what importance is, what is reordered, and that smaller networks are better for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from supernets.axes import Dim
from supernets.base import Supernet
from supernets.checkpoint import make_supernet
from supernets.data import DataSet, head
from supernets.errors import SpaceError
from supernets.families.mobile_cnn.family import MobileCNNFamily
from supernets.recalibration import recalibrate
from supernets.scoring import correct_predictions
from supernets.sorting import importance, orders
from supernets.space import Architecture
from supernets.strategies.largest import LargestStrategy
from supernets.trainer import TrainingSettings, train
from tests.conftest import digits_family
from tests.supernets import invariants
from tests.supernets.sharing.families import CASES, CNN, VIT, images_for, made


class NobodyReads(MobileCNNFamily):
    """The CNN with the first stage's width declared where it is made alone."""

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        readers = ("stages.0.1.expand.conv.weight", "stages.1.0.expand.conv.weight")
        return {name: (d[0], 8, *d[2:]) if name in readers else d for name, d in super().dims().items()}


class TestImportance:
    def test_of_channels_is_the_l1_norm_of_what_reads_them(self) -> None:
        supernet = made("cnn", "slice")
        found = importance(supernet)
        weights = {name: tensor.abs() for name, tensor in supernet.weights(CNN.space.largest).items()}
        hidden = weights["stages.0.1.project.conv.weight"]  # (width, hidden, 1, 1)
        torch.testing.assert_close(found["stage0.block1.hidden"], hidden[:, :, 0, 0].sum(dim=0))
        # The first stage's width is read by its second block and by the next stage's first.
        readers = [weights[f"stages.{block}.expand.conv.weight"][:, :, 0, 0] for block in ("0.1", "1.0")]
        torch.testing.assert_close(found["stage0.width"], sum(r.sum(dim=0) for r in readers))
        assert set(found) == {name for name, axis in CNN.axes.items() if axis.slice == "prefix"}

    def test_of_heads_is_that_of_all_their_channels(self) -> None:
        supernet = made("vit", "slice")
        found = importance(supernet)
        project = supernet.weights(VIT.space.largest)["blocks.1.attention.project.weight"].abs()
        expected = torch.stack([project[:, 4 * head : 4 * head + 4].sum() for head in range(3)])
        torch.testing.assert_close(found["block1.heads"], expected)

    def test_of_units_that_no_layer_reads_is_the_norm_of_what_makes_them(self) -> None:
        supernet = invariants.randomised(make_supernet(NobodyReads(CNN.spec, image_size=8, channels=2, n_classes=5)))
        weights = {name: tensor.abs() for name, tensor in supernet.weights(CNN.space.largest).items()}
        makers = [weights[f"stages.0.{b}.project.conv.weight"][:, :, 0, 0].sum(dim=1) for b in range(2)]
        torch.testing.assert_close(importance(supernet)["stage0.width"], sum(makers))

    def test_of_mixed_weights_is_that_of_the_mixed_ones(self) -> None:
        supernet = made("cnn", "neuron")
        project = supernet.weights(CNN.space.largest)["stages.0.1.project.conv.weight"].abs()
        torch.testing.assert_close(importance(supernet)["stage0.block1.hidden"], project[:, :, 0, 0].sum(dim=0))


VALUES = {"width": torch.tensor([1.0, 5.0, 3.0, 3.0, 9.0, 2.0])}


class TestOrders:
    def test_puts_the_important_first_and_keeps_the_order_of_equals(self) -> None:
        assert orders(VALUES)["width"].tolist() == [4, 1, 2, 3, 5, 0]

    def test_stays_within_the_groups_that_were_trained(self) -> None:
        assert orders(VALUES, {"width": [2, 4]})["width"].tolist() == [1, 0, 2, 3, 4, 5]
        assert orders(VALUES, {"width": [6, 3]})["width"].tolist() == [1, 2, 0, 4, 3, 5]

    @pytest.mark.parametrize("groups", [{"width": [7]}, {"width": [-1]}, {"depth": [1]}])
    def test_groups_that_are_none_are_refused(self, groups: dict[str, list[int]]) -> None:
        with pytest.raises(SpaceError, match="groups"):
            orders(VALUES, groups)


class TestSort:
    @pytest.mark.parametrize(("family", "sharing"), CASES)
    @torch.no_grad()
    def test_the_largest_stays_and_importance_falls(self, family: str, sharing: str) -> None:
        images = images_for(family)
        largest = made(family, sharing).space.largest
        supernet = invariants.with_statistics(made(family, sharing), largest, images)
        before, smallest = supernet(images, largest), supernet.extract(supernet.space.smallest)(images)
        invariants.assert_varies(before)
        supernet.sort(orders(importance(supernet)))
        assert invariants.relative(supernet(images, largest), before) <= invariants.RELATIVE
        assert all((values.diff() <= 1e-5 * values.max()).all() for values in importance(supernet).values())
        if supernet.space.size == 1:
            return
        other = supernet.extract(supernet.space.smallest)(images)
        assert invariants.relative(other, smallest) > 1000 * invariants.RELATIVE

    @torch.no_grad()
    def test_networks_of_a_group_keep_their_units(self) -> None:
        """Those whose sizes are ends of groups compute what they did, since a prefix is reordered within itself."""
        images, space = images_for("cnn"), CNN.space
        genes = [
            0 if choice.name.endswith(("width", "expand")) else len(choice.options) - 1 for choice in space.choices
        ]
        narrow = space.canonical(genes)
        supernet = invariants.with_statistics(made("cnn", "slice"), narrow, images)
        before = supernet(images, narrow)
        groups = {name: [size] for name, size in CNN.sizes(narrow).items() if CNN.axes[name].slice == "prefix"}
        found = importance(supernet)
        supernet.sort(orders(found, groups))
        assert invariants.relative(supernet(images, narrow), before) <= invariants.RELATIVE
        supernet.sort(orders(importance(supernet)))
        assert invariants.relative(supernet(images, narrow), before) > 1000 * invariants.RELATIVE

    @pytest.mark.parametrize(
        ("order", "message"),
        [
            ({"stage0.width": torch.arange(7)}, "no permutation of its 8 units"),
            ({"stage0.width": torch.tensor([0, 0, 2, 3, 4, 5, 6, 7])}, "no permutation of its 8 units"),
            ({"stage0.block0.kernel": torch.arange(7)}, "no axis whose units can be sorted"),
            ({"width": torch.arange(8)}, "no axis whose units can be sorted"),
        ],
    )
    def test_what_is_no_order_is_refused(self, order: dict[str, Tensor], message: str) -> None:
        with pytest.raises(SpaceError, match=message):
            made("cnn", "slice").sort(order)


def accuracy(supernet: Supernet, data: DataSet, architecture: Architecture) -> float:
    module = recalibrate(supernet.extract(architecture), [head(data.train, 500).inputs])
    return correct_predictions(module, data.test).float().mean().item()


def test_networks_cut_out_of_a_trained_one_are_better_for_it(digits: DataSet, tmp_path: Path) -> None:
    """A subnet keeps a quarter or half of the channels that the largest expands to: which ones matters much."""
    torch.manual_seed(0)
    supernet = make_supernet(digits_family(digits))
    space = supernet.space
    train(supernet, digits, LargestStrategy(space), TrainingSettings(epochs=3, batch_size=64, seed=0), tmp_path)
    rng, narrower = np.random.default_rng(0), []
    for _ in range(6):
        levels = [int(rng.integers(2)) if c.name.endswith("expand") else len(c.options) - 1 for c in space.choices]
        narrower.append(space.canonical(levels))
    before, whole = [accuracy(supernet, digits, a) for a in narrower], accuracy(supernet, digits, space.largest)
    supernet.sort(orders(importance(supernet)))
    after = [accuracy(supernet, digits, a) for a in narrower]
    assert accuracy(supernet, digits, space.largest) == pytest.approx(whole, abs=0.01)
    # Seen: from 0.34 to 0.63 on average, each of them better.
    assert np.mean(after) > np.mean(before) + 0.1
    assert sum(a > b for a, b in zip(after, before, strict=True)) >= 5
