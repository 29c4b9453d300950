"""Importance by what the removal of units costs, against fits without them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import nas
from supernets.sharing import removal
from supernets.sharing.removal import removal_importance
from supernets.sharing.sorting import importance, orders


def refitted_error(rows: Tensor, weight: Tensor, group: list[int]) -> float:
    """The least share of the variance of a layer's outputs that is lost without some of its inputs."""
    rows = (rows - rows.mean(0)).double()
    outputs = rows @ weight.double().T
    others = rows[:, [i for i in range(rows.shape[1]) if i not in group]]
    fitted = others @ torch.linalg.lstsq(others, outputs, driver="gelsd").solution
    return float((outputs - fitted).square().sum() / outputs.square().sum())


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    monkeypatch.setattr(removal, "_RIDGE", 1e-9)
    monkeypatch.setattr(removal, "_POSITIONS", 10**6)
    return torch.randn(90, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def eliminated(rows: Tensor, weight: Tensor, n_units: int) -> list[float]:
    """The step in which each unit of a layer's inputs is removed, always that after whose removal a fit is best."""
    each, removed = rows.shape[1] // n_units, list[int]()
    while len(removed) < n_units:
        left = [unit for unit in range(n_units) if unit not in removed]
        errors = [
            refitted_error(rows, weight, [each * u + i for u in (*removed, unit) for i in range(each)]) for unit in left
        ]
        removed.append(left[errors.index(min(errors))])
    return [float(removed.index(unit)) for unit in range(n_units)]


@torch.no_grad()
def test_units_are_removed_in_the_order_of_the_best_fits(inputs: Tensor) -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 16, 3), nn.Conv2d(16, 24, 2, stride=2, padding=1)
    model = nn.Sequential(first, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    supernet = nas.supernet_of(model, inputs[:2], sort=False)
    (steps,) = (values for values in removal_importance(supernet, inputs.split(40)).values() if len(values) == 16)
    windows = functional.unfold(model[:2](inputs), (2, 2), stride=2, padding=1).transpose(1, 2).reshape(-1, 64)
    assert steps.tolist() == eliminated(windows, second.weight.flatten(1), 16)


@torch.no_grad()
def test_units_that_others_replace_come_last(inputs: Tensor) -> None:
    """A copy of a unit costs nothing, whatever the norms of the weights that read it; then its original is needed."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 16, 3), nn.Conv2d(16, 5, 2)
    first.weight[3], first.bias[3] = first.weight[6], first.bias[6]
    second.weight[:, 3] *= 10
    model = nn.Sequential(first, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    supernet = nas.supernet_of(model, inputs[:2], sort=False)
    values = removal_importance(supernet, [inputs])
    assert set(values) == set(importance(supernet))
    (hidden,) = (v for v in values.values() if len(v) == 16)
    assert float(hidden[[3, 6]].min()) == 0
    assert float(hidden[[3, 6]].max()) > 0
    supernet.sort(orders(values))
    assert torch.allclose(supernet.extract(supernet.space.largest)(inputs[:9]), model(inputs[:9]), atol=1e-5)
