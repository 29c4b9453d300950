"""The table of a network's blocks: shares of the predicted latency, or of the MACs without a lookup table."""

from __future__ import annotations

import pytest

from nas.engine.store.block_costs import BlockCosts, BlockLatencies, NetworkCosts
from nas.results.analysis.block_table import block_table
from nas.results.analysis.report import RunReport, build_report
from tests.nas.results.export.runs import PROFILE, example_run

LATENCIES = {PROFILE: BlockLatencies((0.3, -0.01, 0.0, 0.6), 0.1)}


def report_with(latencies: dict[str, BlockLatencies]) -> RunReport:
    """A report of a run that recorded the blocks of the first member of its front."""
    store = example_run()
    key = build_report(store, run="example-1").front[0].key
    costs = NetworkCosts((1000, 20, 0, 3000), (40_000, 0, 0, 120_000), latencies)
    store.record_block_costs(BlockCosts(("stem", "stage0.block0", "stage0.block1", "head"), {key: costs}))
    return build_report(store, run="example-1")


def test_shares_are_of_the_latency_that_the_lookup_table_predicts() -> None:
    report = report_with(LATENCIES)
    table = block_table(report, report.front[0])
    assert table is not None
    assert [row.title for row in table.rows] == ["stem", "stage 0, block 0", "head", "in no block", "whole network"]
    assert [row.share for row in table.rows] == pytest.approx([0.3, 0.0, 0.6, 0.1, 1.0])
    assert table.rows[-1].latencies_ms == pytest.approx((0.99,))
    assert table.rows[2].cells() == ["head", "60 %", "0.6000", "120,000", "3,000"]
    assert table.basis.startswith(
        f"shares of the latency on {PROFILE} as predicted from the lookup table: 0.9900 ms; meas"
    )
    assert report.value_text(report.front[0], report.cost) in table.basis


def test_without_a_lookup_table_shares_are_of_the_macs() -> None:
    report = report_with({})
    table = block_table(report, report.front[0])
    assert table is not None
    assert [(row.title, row.share) for row in table.rows[:-1]] == [
        ("stem", 0.25),
        ("stage 0, block 0", 0.0),
        ("head", 0.75),
    ]
    assert table.titles == ["block", "share of the MACs", "MACs", "parameters"]
    assert "160,000 MACs" in table.basis


def test_networks_that_were_not_chosen_to_be_measured_again_have_none() -> None:
    report = report_with(LATENCIES)
    assert block_table(report, report.front[1]) is None
    old = build_report(example_run(), run="example-1")
    assert block_table(old, old.front[0]) is None
