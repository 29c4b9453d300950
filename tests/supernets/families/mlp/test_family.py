"""`supernets.families.mlp`: the invariants of its supernets, and the contract that plug-in families keep too."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from nas.testing import FamilyContract
from supernets.families.mlp.family import MLPFamily
from supernets.families.mlp.spec import MLP, MLPSpec
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


class TestInvariants:
    def test_extracted_live_and_handwritten_agree(self, supernet: Supernet) -> None:
        residual = supernet.family.to_json()["spec"].get("residual", True)
        invariants.check_extracted_live_and_handwritten_agree(supernet, rows(16), rows(64, 1), handwritten(residual))

    def test_the_same_modules(self, supernet: Supernet) -> None:
        invariants.check_same_modules(supernet)

    def test_permutations(self, supernet: Supernet) -> None:
        invariants.check_permutations(supernet, rows(16), rows(64, 1))

    @pytest.mark.parametrize(
        ("axis", "tensor"), [("width", "blocks.0.reduce.bias"), ("block0.hidden", "blocks.0.expand.bias")]
    )
    def test_one_tensor_left_unpermuted(self, supernet: Supernet, axis: str, tensor: str) -> None:
        invariants.check_control(supernet, rows(16), rows(64, 1), axis=axis, tensor=tensor)

    def test_gradients(self, supernet: Supernet) -> None:
        invariants.check_gradients(supernet, rows(16), torch.arange(16) % 3)

    def test_costs(self, supernet: Supernet) -> None:
        invariants.check_costs(supernet, rows(1))

    def test_extraction(self, supernet: Supernet) -> None:
        invariants.check_shares_no_storage(supernet)
        invariants.check_training_extracted(supernet, rows(8))

    @pytest.mark.parametrize("batch", [1, 8])
    def test_onnx(self, supernet: Supernet, batch: int) -> None:
        invariants.check_onnx(supernet, rows(8), rows(64, 1), batch=batch)


class TestContract(FamilyContract):
    @staticmethod
    def make() -> MLPFamily:
        return FAMILIES["residual"]


def test_blocks_are_dropped_from_the_end() -> None:
    family = FAMILIES["plain"]
    smallest = family.space.smallest
    assert family.dropped(smallest) == {"blocks.1", "blocks.2"}
    assert list(family.sizes(smallest)) == list(family.axes)
