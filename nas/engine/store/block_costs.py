"""Costs of networks by block: exact sizes, and latencies predicted from lookup tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

BLOCK_COSTS = "block_costs"
"""The stored key."""
_STAGE = re.compile(r"stages\.(\d+)\.(\d+)")
_LAYER = re.compile(r"((?:encoder|decoder)\.)?(block|layer)s\.(\d+)")
"""Names of blocks, as families name their modules."""


@dataclass(frozen=True, slots=True)
class BlockLatencies:
    """The latency of one network on one profile by its blocks, predicted from the profile's lookup table, per batch.

    Attributes:
        blocks_ms: Latency of each block, scaled as in the table's fit; below zero for some blocks that cost nearly nothing.
        rest_ms: Latency that the fit adds for a whole network, in no block.
    """

    blocks_ms: tuple[float, ...]
    rest_ms: float

    @property
    def total_ms(self) -> float:
        """The table's prediction for the network."""
        return sum(self.blocks_ms) + self.rest_ms


@dataclass(frozen=True, slots=True)
class NetworkCosts:
    """The costs of one network by block, zero for a block that it lacks.

    Attributes:
        parameters: Parameters of each block.
        macs: Multiply-accumulates of each block, for one example.
        latencies: Latencies by the name of each profile that has a lookup table.
    """

    parameters: tuple[int, ...]
    macs: tuple[int, ...]
    latencies: Mapping[str, BlockLatencies] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlockCosts:
    """The costs by block of some networks of a run.

    Attributes:
        places: Places of the blocks in order, in the words of the space's choices: ``stage0.block1``, ``layer3``, ``head``.
        networks: Costs by the key of the candidate.
    """

    places: tuple[str, ...] = ()
    networks: Mapping[str, NetworkCosts] = field(default_factory=dict)

    def with_earlier(self, earlier: BlockCosts) -> BlockCosts:
        """These costs, and those of further networks that were recorded before."""
        return BlockCosts(self.places, {**earlier.networks, **self.networks}) if self.places == earlier.places else self

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The costs that `to_json` wrote; `KeyError` or `TypeError` if they are damaged."""
        networks = {
            key: NetworkCosts(
                tuple(costs["parameters"]),
                tuple(costs["macs"]),
                {p: BlockLatencies(tuple(x["blocks_ms"]), float(x["rest_ms"])) for p, x in costs["latencies"].items()},
            )
            for key, costs in data["networks"].items()
        }
        return cls(tuple(data["places"]), networks)


def place_of(module: str) -> str:
    """The place of a block in the words of the space's choices: ``stages.0.1`` is ``stage0.block1``."""
    if matched := _STAGE.fullmatch(module):
        return f"stage{matched[1]}.block{matched[2]}"
    return _LAYER.sub(r"\1\2\3", module) if _LAYER.fullmatch(module) else module
