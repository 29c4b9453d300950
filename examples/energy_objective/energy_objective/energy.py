"""An estimate of the energy of one inference, from its operations and the bytes that it moves."""

from __future__ import annotations

from typing import ClassVar

from nas.engine.evaluation.metric import MeasuredNetwork, Metric

_WORD_BYTES = 4
_PJ_PER_MAC = {"fp32": 3.7 + 0.9, "fp16": 1.1 + 0.4, "bf16": 1.1 + 0.4, "int8": 0.2 + 0.03}
"""A multiplication and an addition in picojoules, 45 nm: Horowitz 2014 ("Computing's energy problem", ISSCC, figure 1.1.9).
bf16 is not in the figure and is taken as fp16."""
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


class EstimatedEnergy(Metric):
    """The estimated energy of one example, in millijoules; exact for the model behind it, so that its error is 0.

    Each multiply-accumulate costs what an arithmetic unit takes. Each weight is read once from DRAM, and each activation is
    written and read once. Caches, control and idle power are left out: use it to compare networks, not as the reading of a
    meter.

    Args:
        dram_pj: picojoules to move a word of 32 bits from or to DRAM; 640 is of Han et al. 2015 (arXiv 1506.02626, table 1),
            for 45 nm.
    """

    unit: ClassVar[str] = "mJ"
    goal: ClassVar[str] = "minimize"

    def __init__(self, dram_pj: float = 640.0) -> None:
        if dram_pj < 0:
            raise ValueError(f"dram_pj={dram_pj}: expected at least 0")
        self.dram_pj = dram_pj

    def measure(self, network: MeasuredNetwork) -> tuple[float, float]:
        cost, size = network.cost, _BYTES[network.precision]
        arithmetic_pj = cost.macs * _PJ_PER_MAC[network.precision]
        moved = cost.parameters * size + 2 * cost.activation_bytes * size / _BYTES["fp32"]
        return (arithmetic_pj + moved / _WORD_BYTES * self.dram_pj) * 1e-9, 0.0
