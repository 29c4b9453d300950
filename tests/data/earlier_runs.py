"""Runs that earlier versions made, with what these versions printed and what their exported networks returned.

A folder has ``runs.tar.gz`` (the runs and the files that they need), and by the name of a run

* ``RUN.show.json``: what ``nas show RUN --json`` printed;
* ``RUN.exports.json``: exported networks, each with the ``arguments`` of ``nas export RUN``, what it ``printed``, and the
  ``outputs`` of its ONNX files by their ends, as of `outputs_for_fixed_inputs`;
* ``RUN.blocks.json``: the ``key`` and the ``blocks`` of the most accurate network, as ``nas show RUN --select LIMIT --json``
  printed them with the limit `ANY_LATENCY`;
* ``RUN.continued.json``: of a killed run, its ``asks`` and ``values`` by network and metric after the same version resumed it.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hardware_profiles.runtime import run_model

HERE = Path(__file__).parent
ARCHIVE = "runs.tar.gz"
FOLDER = "/folder-of-the-runs"
"""Stands in archived job files for the folder of the runs and their files."""
ANY_LATENCY = "latency_ms<=1000"
N_OUTPUTS = 64
_DYNAMIC_SIZE = 5
_FILLED = 3
"""Tokens in a cache that has room for `_DYNAMIC_SIZE`."""


def unpack_runs(folder: str, target: Path) -> None:
    """Puts the runs of a folder beside this file into another folder, with the paths of their job files."""
    with tarfile.open(HERE / folder / ARCHIVE) as archive:
        archive.extractall(target, filter="data")
    for job in target.glob("runs/*/job.yaml"):
        job.write_text(job.read_text(encoding="utf-8").replace(FOLDER, str(target)), encoding="utf-8")


def read_record(folder: str, run: str, kind: str) -> Any:
    """The content of ``RUN.KIND.json`` in a folder beside this file."""
    return json.loads((HERE / folder / f"{run}.{kind}.json").read_text(encoding="utf-8"))


def read_rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows that a query of a run's database returns."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def outputs_for_fixed_inputs(model: bytes) -> list[float]:
    """Outputs of an ONNX model for inputs that its declaration determines: at most `N_OUTPUTS`, evenly spaced over all."""
    inputs = {value.name: _fixed_input(value) for value in onnx.load_from_string(model).graph.input}
    outputs = np.concatenate([output.ravel() for output in run_model(model, inputs)])
    chosen = np.linspace(0, len(outputs) - 1, min(N_OUTPUTS, len(outputs))).astype(int)
    return [float(output) for output in outputs[chosen]]


def _fixed_input(declared: onnx.ValueInfoProto) -> NDArray[Any]:
    """Waves for a float input, ascending ids of tokens, no padding, and a cache that is filled in part."""
    tensor = declared.type.tensor_type
    shape = [dim.dim_value or _DYNAMIC_SIZE for dim in tensor.shape.dim]
    counted = np.arange(np.prod(shape)).reshape(shape)
    if tensor.elem_type == onnx.TensorProto.FLOAT:
        return np.sin(counted * 0.37).astype(np.float32)
    match declared.name:
        case "padding":
            return np.zeros_like(counted)
        case "filled":
            return np.full_like(counted, _FILLED)
        case _:
            return counted + 1
