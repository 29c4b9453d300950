"""`supernets.families.mlp_family`: its forward by hand, and the contract that plug-in families keep too."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from nas.plugins.testing import FamilyContract
from supernets.families.mlp_family import MLPFamily
from supernets.families.mlp_spec import MLP, MLPSpec
from supernets.sharing.base import Supernet
from supernets.space import Option
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants

FEATURES = 7
PLAIN = MLPSpec(width=(16, 24), depth=(1, 3), hidden=(16, 32), residual=False)
FAMILIES = {
    "residual": MLPFamily(MLP["tiny"], features=FEATURES, n_classes=3),
    "plain": MLPFamily(PLAIN, features=FEATURES, n_classes=3),
}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(FAMILIES[request.param]))


def rows(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, FEATURES, generator=torch.Generator().manual_seed(seed))


def handwritten(residual: bool) -> invariants.ByHand:
    """The forward by products of matrices alone."""

    def forward(weights: Mapping[str, Tensor], values: Mapping[str, Option], x: Tensor) -> Tensor:
        def layer(name: str, x: Tensor) -> Tensor:
            return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

        x = layer("stem", x).clamp(min=0)
        for i in range(int(values["depth"])):
            y = layer(f"blocks.{i}.reduce", layer(f"blocks.{i}.expand", x).clamp(min=0))
            x = x + y if residual else y.clamp(min=0)
        return layer("classifier", x)

    return forward


class TestContract(FamilyContract):
    @staticmethod
    def make() -> MLPFamily:
        return FAMILIES["residual"]


def test_blocks_are_dropped_from_the_end() -> None:
    family = FAMILIES["plain"]
    smallest = family.space.smallest
    assert family.dropped(smallest) == {"blocks.1", "blocks.2"}
    assert list(family.sizes(smallest)) == list(family.axes)
