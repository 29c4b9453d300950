"""ONNX models as graphs: nodes and shapes, their division into blocks, and their bytes."""

from __future__ import annotations

from supernets.networks.onnx_graph.ir import (
    BATCH,
    BATCH_SIZE,
    CONTEXT,
    INPUT,
    LENGTH,
    LENGTH_NAME,
    MEMORIES,
    OUTPUT,
    PAST,
    ROOM,
    TOKENS,
)
from supernets.networks.onnx_graph.serialise import OPSET

__all__ = [
    "BATCH",
    "BATCH_SIZE",
    "CONTEXT",
    "INPUT",
    "LENGTH",
    "LENGTH_NAME",
    "MEMORIES",
    "OPSET",
    "OUTPUT",
    "PAST",
    "ROOM",
    "TOKENS",
]
