"""Lookup tables: sums, missing entries, and the affine fit against its definition."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from hardware_profiles.base import HardwareProfile
from hardware_profiles.lookup_table import AffineFit, Entry, LookupTable, Subnet, fit_affine
from hardware_profiles.measuring.protocol import PROTOCOL
from tests.errors import raises

PROFILE = HardwareProfile("board", threads=2, placement={"hw-board": 1})
ENVIRONMENT = {"cpu": "a fast one", "onnxruntime": "1.32", "threads": 2, "pinned_cpus": [1, 0]}


def table() -> LookupTable:
    entries = {"a": Entry(0.5, 0.01, 100), "b": Entry(1.5, 0.02, 300), "tiny": Entry(-0.001, 0.002, 0)}
    return LookupTable(
        asdict(PROFILE),
        PROTOCOL,
        ENVIRONMENT,
        "a space",
        0.25,
        entries={"fp32": entries},
        subnets={"fp32": {"0-1": Subnet(2.0, 0.02), "1-1": Subnet(3.0, 0.02), "1-0": Subnet(4.5, 0.02)}},
        fits={"fp32": AffineFit(0.9, 0.1, 3, 0.02)},
        complete=True,
    )


def test_blocks_are_looked_up_at_any_position() -> None:
    keys = np.array([["a", "b", ""], ["b", "", "tiny"]])
    found = table().by_block(keys, np.zeros((2, 3), np.int64), "fp32")
    np.testing.assert_array_equal(found, [[0.5, 1.5, 0.0], [1.5, 0.0, -0.001]])
    np.testing.assert_allclose(table().estimate(found.sum(axis=1), "fp32"), [0.9 * 2.0 + 0.1, 0.9 * 1.499 + 0.1])
    assert table().by_block(np.empty((0, 3), dtype=np.str_), np.empty((0, 3), np.int64), "fp32").shape == (0, 3)


def test_a_missing_block_is_estimated_from_its_macs() -> None:
    # Entries on the line net = 0.005 x MACs give that line for each missing key.
    known = replace(table(), entries={"fp32": {"a": Entry(0.5, 0.0, 100), "b": Entry(1.5, 0.0, 300)}})
    keys, macs = np.array([["a", "new"], ["newer", ""], ["new", "b"]]), np.array([[100, 200], [800, 0], [200, 300]])
    found = known.by_block(keys, macs, "fp32")
    np.testing.assert_allclose(found, [[0.5, 1.0], [4.0, 0.0], [1.0, 1.5]], rtol=1e-12)
    assert known.missing(keys, "fp32") == {"new", "newer"}
    one = replace(table(), entries={"fp32": {"a": Entry(0.5, 0.0, 100)}})
    assert np.isfinite(one.by_block(keys, macs, "fp32")).all()


def test_entries_are_means_of_their_measurements() -> None:
    one, two, three = Entry(1.0, 0.3, 5), Entry(2.0, 0.4, 5), Entry(6.0, 0.0, 5)
    assert one.mean_with(two) == Entry(1.5, 0.25, 5, 2)
    assert one.mean_with(two).mean_with(three).net_ms == pytest.approx((1 + 2 + 6) / 3)


def test_a_missing_precision_is_named() -> None:
    keys = np.array([["a"]])
    for use in (
        lambda: table().by_block(keys, np.array([[1]]), "int8"),
        lambda: table().missing(keys, "int8"),
        lambda: table().estimate(np.array([1.0]), "int8"),
    ):
        with raises("lookup-table.precision-missing", "profile board", "int8", "fp32"):
            use()


def test_the_fit_is_of_least_relative_error_and_its_mape_is_by_leaving_out() -> None:
    rng = np.random.default_rng(0)
    sums = rng.uniform(1.0, 9.0, 25)
    latencies = (0.8 * sums + 0.3) * rng.normal(1.0, 0.03, 25)

    def by_weights(chosen: list[int]) -> Any:
        # numpy's own weighted line: weights multiply the residuals.
        return np.polyfit(sums[chosen], latencies[chosen], 1, w=1 / latencies[chosen])

    fit = fit_affine(sums, latencies)
    np.testing.assert_allclose([fit.scale, fit.offset_ms], by_weights(list(range(25))), rtol=1e-9)
    left_out = [
        abs(np.polyval(by_weights([j for j in range(25) if j != i]), sums[i]) / latencies[i] - 1) for i in range(25)
    ]
    assert fit.mape == pytest.approx(np.mean(left_out), rel=1e-9)
    assert fit.n == 25


def test_too_few_networks_for_a_fit_are_rejected() -> None:
    with raises("lookup-table.too-few-subnets", "3", "got 2"):
        fit_affine(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    with raises("lookup-table.too-few-subnets", "got 4 with 1 different sums"):
        fit_affine(np.ones(4), np.arange(1.0, 5.0))
