"""Sessions that write a cache in place, and those that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hardware_profiles.runtime import run_model
from hardware_profiles.runtimes.onnx_runtime import OnnxRuntime, Session

HEADS, SIZE, ROOM = 2, 8, 5


def model(present: str = "room") -> bytes:
    """One more token of a text, whose queries, keys and values are its input, joins the cache; the output is `present` long."""
    inputs: list[tuple[str, int, list[Any]]] = [
        ("x", TensorProto.FLOAT, ["n", 1, HEADS * SIZE]),
        ("before", TensorProto.INT32, ["n"]),
        ("total", TensorProto.INT32, []),
        *((f"past.{kind}", TensorProto.FLOAT, ["n", HEADS, "room", SIZE]) for kind in ("key", "value")),
    ]
    outputs: list[tuple[str, int, list[Any]]] = [
        ("y", TensorProto.FLOAT, ["n", 1, HEADS * SIZE]),
        *((f"present.{kind}", TensorProto.FLOAT, ["n", HEADS, present, SIZE]) for kind in ("key", "value")),
    ]
    node = helper.make_node(
        "GroupQueryAttention", ["x", "x", "x", "past.key", "past.value", "before", "total"],
        [name for name, *_ in outputs], domain="com.microsoft", num_heads=HEADS, kv_num_heads=HEADS,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(*own) for own in inputs],
        [helper.make_tensor_value_info(*own) for own in outputs],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def inputs(filled: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    cache = {f"past.{kind}": rng.standard_normal((1, HEADS, ROOM, SIZE), np.float32) for kind in ("key", "value")}
    numbers = {"before": np.array([filled], np.int32), "total": np.array(filled + 1, np.int32)}
    return {"x": rng.standard_normal((1, 1, HEADS * SIZE), np.float32), **numbers, **cache}


def loaded(serialised: bytes) -> Session:
    return OnnxRuntime().load(serialised, device="CPUExecutionProvider", cpus=[0], inputs=(), whole=True)


def test_outputs_are_written_into_the_memory_of_the_cache() -> None:
    session, given = loaded(model()), inputs(2)
    assert session.in_place == {"present.key": "past.key", "present.value": "past.value"}
    before = {name: own.copy() for name, own in given.items()}
    found = session.run(given)
    assert list(found) == ["y", "present.key", "present.value"]
    for kind in ("key", "value"):
        own = given[f"past.{kind}"]
        assert found[f"present.{kind}"] is own
        np.testing.assert_array_equal(own[0, :, 2], given["x"].reshape(HEADS, SIZE))
        rest = [0, 1, 3, 4]
        np.testing.assert_array_equal(own[:, :, rest], before[f"past.{kind}"][:, :, rest])
    # The next token, in the same arrays, and a text in others.
    given["x"], given["before"], given["total"] = given["x"] + 1, np.array([3], np.int32), np.array(4, np.int32)
    session.run(given)
    np.testing.assert_array_equal(given["past.key"][0, :, 3], given["x"].reshape(HEADS, SIZE))
    other = inputs(2)
    np.testing.assert_allclose(session.run(other)["y"], found["y"], rtol=1e-6)
    np.testing.assert_array_equal(other["past.key"][0, :, 2], other["x"].reshape(HEADS, SIZE))


def test_a_run_beside_measuring_leaves_its_inputs_as_they_are() -> None:
    given = inputs(2)
    before = given["past.key"].copy()
    y, key, _ = run_model(model(), given)
    np.testing.assert_array_equal(given["past.key"], before)
    assert not np.array_equal(key, before)
    np.testing.assert_allclose(y, loaded(model()).run(given)["y"], rtol=1e-6)


@pytest.mark.parametrize("present", ["longer", "n"])
def test_outputs_of_other_shapes_are_memory_of_their_own(present: str) -> None:
    session = loaded(model(present))
    assert session.in_place == {}
    given = inputs(2)
    before = given["past.key"].copy()
    assert len(session.run(given)) == 3
    np.testing.assert_array_equal(given["past.key"], before)
    assert onnx.load_from_string(model()).graph.node[0].op_type == "GroupQueryAttention"
