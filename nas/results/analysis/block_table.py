"""A network's blocks as a table: sizes, predicted latencies, and shares of the latency or of the MACs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nas.engine.formatting import format_value
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from supernets.space import title_of_place

REST_TITLE = "in no block"
TOTAL_TITLE = "whole network"


@dataclass(frozen=True, slots=True)
class BlockRow:
    """One block that a network has, the part of its latency that is in no block, or the whole network.

    Attributes:
        title: Title of the row.
        share: Share of the latency on the first profile of the table, or of the MACs where there is none.
        latencies_ms: Latency by profile, predicted from the lookup tables.
        macs, parameters: Counts; None for the part that is in no block.
    """

    title: str
    share: float
    latencies_ms: tuple[float, ...]
    macs: int | None = None
    parameters: int | None = None

    def cells(self) -> list[str]:
        """Texts under `BlockTable.titles`."""
        sizes = ["–" if size is None else f"{size:,}" for size in (self.macs, self.parameters)]
        return [self.title, share_of_network(self.share), *(f"{value:.4f}" for value in self.latencies_ms), *sizes]


@dataclass(frozen=True, slots=True)
class BlockTable:
    """The blocks of one network.

    Attributes:
        profiles: Profiles with a lookup table; shares are of the MACs where there are none.
        basis: The quantity that the shares divide, in words, with the network's predicted and measured latency.
    """

    profiles: tuple[str, ...]
    rows: tuple[BlockRow, ...]
    basis: str

    @property
    def titles(self) -> list[str]:
        """Titles of the columns."""
        latencies = [f"predicted latency (ms), {profile}" for profile in self.profiles]
        return ["block", f"share of the {'latency' if self.profiles else 'MACs'}", *latencies, "MACs", "parameters"]

    def to_json(self) -> list[dict[str, Any]]:
        """The rows without that of the whole network; sizes are null for what is in no block."""
        return [
            {
                "block": row.title,
                "share": row.share,
                "predicted_latency_ms": dict(zip(self.profiles, row.latencies_ms, strict=True)),
                "macs": row.macs,
                "parameters": row.parameters,
            }
            for row in self.rows[:-1]
        ]


def block_table(report: RunReport, point: Point) -> BlockTable | None:
    """The blocks of a measured network; None where their costs were not recorded.

    Shares are of the sum of all parts above 0: a block that costs nearly nothing may have been measured below 0.
    """
    costs = report.block_costs.networks.get(point.key)
    if costs is None:
        return None
    latencies = [costs.latencies[name] for name in costs.latencies]
    parts: Sequence[float] = [*latencies[0].blocks_ms, latencies[0].rest_ms] if latencies else [*costs.macs, 0.0]
    total = sum(max(0.0, part) for part in parts) or 1.0
    shares = [max(0.0, part) / total for part in parts]
    rows = [
        BlockRow(
            title_of_place(place),
            shares[i],
            tuple(latency.blocks_ms[i] for latency in latencies),
            costs.macs[i],
            costs.parameters[i],
        )
        for i, place in enumerate(report.block_costs.places)
    ]
    rows = [row for row in rows if row.macs or row.parameters or any(row.latencies_ms)]
    if latencies:
        rows.append(BlockRow(REST_TITLE, shares[-1], tuple(latency.rest_ms for latency in latencies)))
    totals = tuple(latency.total_ms for latency in latencies)
    rows.append(BlockRow(TOTAL_TITLE, 1.0, totals, sum(costs.macs), sum(costs.parameters)))
    return BlockTable(tuple(costs.latencies), tuple(rows), _basis(report, point, tuple(costs.latencies), rows[-1]))


def _basis(report: RunReport, point: Point, profiles: Sequence[str], sums: BlockRow) -> str:
    if not profiles:
        return f"shares of the network's {sums.macs:,} MACs; with a lookup table they are of its latency"
    profile = profiles[0]
    metric = next((o for o in report.columns if o.metric == "latency_ms" and o.profile == profile), None)
    measured = ""
    if metric is not None and metric.name in point.values:
        measured = f"; measured: {format_value(metric, point.values[metric.name], point.errors.get(metric.name))}"
    predicted = f"{sums.latencies_ms[0]:.4f} ms"
    return f"shares of the latency on {profile} as predicted from the lookup table: {predicted}{measured}"


def share_of_network(share: float) -> str:
    """``13 %``; with a decimal below 10 %."""
    return f"{100 * share:.1f} %" if 0 < share < 0.0995 else f"{100 * share:.0f} %"
