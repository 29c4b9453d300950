"""A large model in several sessions of one process, in small pages of memory and in huge ones.

    python -m tests.benchmarks.noise.large_model [--sessions 5] [--rounds 15]

Method. The model is that of a decoding step: 32 products of a vector and a matrix, 340 MB of weights. Each session of ONNX
Runtime (one thread) has its own copy. All run in each round, in random order, four times each; a value is the 40 % quantile
of the rounds' fastest runs, in CPU time. Then `gather_memory` moves the process's memory to huge pages, and all is repeated.
How far small pages are scattered depends on what ran before: another call may find other values.
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime
import typer
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.measuring.protocol import QUANTILE
from hardware_profiles.measuring.worker import gather_memory, in_small_pages

WIDTH, HIDDEN, LAYERS = 576, 4608, 16


def model() -> bytes:
    """Layers of two matrices, float32, on ``x`` (1, 576)."""
    rng, nodes, weights, x = np.random.default_rng(0), [], [], "x"
    for i in range(LAYERS):
        for j, shape in enumerate([(WIDTH, HIDDEN), (HIDDEN, WIDTH)]):
            weights.append(numpy_helper.from_array(rng.normal(0, 0.02, shape).astype(np.float32), f"w{i}.{j}"))
            nodes.append(helper.make_node("MatMul", [x, f"w{i}.{j}"], [f"y{i}.{j}"]))
            x = f"y{i}.{j}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, WIDTH)) for name in ("x", x)]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    made: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()
    return made


def times(sessions: list[onnxruntime.InferenceSession], rounds: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Milliseconds of each session."""
    x, fastest = {"x": np.ones((1, WIDTH), np.float32)}, np.full((rounds, len(sessions)), np.inf)
    for own in fastest:
        for k in rng.permutation(len(sessions)):
            for _ in range(4):
                started = time.thread_time()
                sessions[k].run(None, x)
                own[k] = min(own[k], time.thread_time() - started)
    return np.asarray(np.quantile(fastest, QUANTILE, axis=0)) * 1e3


def main(sessions: int = 5, rounds: int = 15) -> None:
    """Prints the values of the sessions before and after."""
    print(__doc__)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    made, rng = model(), np.random.default_rng(0)
    loaded = [onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"]) for _ in range(sessions)]
    before = times(loaded, rounds, rng)
    started = time.perf_counter()
    gather_memory()
    seconds = time.perf_counter() - started
    for name, found in (("small pages", before), ("huge pages", times(loaded, rounds, rng))):
        print(
            f"{name}: " + ", ".join(f"{ms:.1f}" for ms in found) + f" ms; {found.max() / found.min():.2f} times apart"
        )
    print(f"moved in {seconds:.1f} s; {(in_small_pages() or 0) / 2**20:.0f} MiB are still in small pages")


if __name__ == "__main__":
    typer.run(main)
