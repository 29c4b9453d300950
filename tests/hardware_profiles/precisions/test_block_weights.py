"""Weights in blocks: numbers by hand, real runs in ONNX Runtime, and what stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.precisions.block_weights import (
    BITS,
    BLOCK,
    TABLE_BITS,
    quantize_blocks,
    quantize_weights,
    quantized_bytes,
)
from hardware_profiles.quantize import convert, convert_weights
from hardware_profiles.runtime import run_model
from tests.errors import raises

ROWS = 40
ROUNDED = 0.03
"""Of the outputs' deviation: ONNX Runtime rounds activations to 8 bits in blocks, by up to 1/254 of a block's largest."""


def dequantized(matrix: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """The matrix that its blocks stand for, number by number."""
    stored, scales = quantize_blocks(matrix, bits)
    found = np.zeros_like(matrix)
    for row in range(matrix.shape[0]):
        for column in range(matrix.shape[1]):
            block, at = divmod(column, BLOCK)
            if bits == 8:
                integer = int(stored[row, block, at]) - 128
            else:
                integer = (int(stored[row, block, at // 2]) >> (4 * (at % 2)) & 15) - 8
            found[row, column] = integer * scales[row, block]
    return found


def model(nodes: list[onnx.NodeProto], weights: dict[str, NDArray[Any]], columns: int) -> bytes:
    """A model from ids (n, tokens) and x (n, columns) to y and z."""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"]),
         helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", columns])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "z")],
        [numpy_helper.from_array(own, name) for name, own in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(made.SerializeToString())


def tied(columns: int, rng: np.random.Generator) -> tuple[bytes, NDArray[np.float32], NDArray[np.float32]]:
    """A table that rows are looked up in and that both kinds of products multiply by, its model, and a bias."""
    table = rng.standard_normal((ROWS, columns), np.float32)
    bias = rng.standard_normal(ROWS, np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"], axis=0),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["words", "turned"], ["y"]),
        helper.make_node("Gemm", ["x", "table", "bias"], ["z"], transB=1),
    ]
    return model(nodes, {"table": table, "bias": bias}, columns), table, bias


@pytest.mark.parametrize("bits", [8, 4])
def test_a_number_is_off_by_half_a_step_and_the_largest_of_a_block_by_nothing(bits: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((5, 70), np.float32)
    matrix[3, 32:64] = 0  # a block without any scale
    found = dequantized(matrix, bits)
    _, scales = quantize_blocks(matrix, bits)
    steps = np.repeat(np.abs(scales), BLOCK, axis=1)[:, :70]
    # The greatest integer is one less than the least one's magnitude: a number beyond it is off by a step.
    assert (
        np.abs(found - matrix) <= np.where(np.abs(matrix) > (2 ** (bits - 1) - 1.5) * steps, 1, 0.5) * steps + 1e-6
    ).all()
    for row in range(5):
        for start in (0, 32, 64):
            at = start + int(np.abs(matrix[row, start : start + BLOCK]).argmax())
            assert found[row, at] == pytest.approx(matrix[row, at], rel=1e-6)


@pytest.mark.parametrize("columns", [64, 48, 20])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_products_and_look_ups_of_one_table_compute_with_its_quantized_numbers(precision: str, columns: int) -> None:
    rng = np.random.default_rng(1)
    plain, table, bias = tied(columns, rng)
    quantized = convert_weights(plain, precision)
    assert convert(plain, "int4", []) == convert_weights(plain, "int4")
    ids, x = np.array([[3, 0, 39], [7, 7, 1]]), rng.standard_normal((2, columns), np.float32)
    found = dequantized(table, TABLE_BITS)  # in int4, too
    y, z = run_model(quantized, {"ids": ids, "x": x})
    for output, expected in ((y, found[ids] @ found.T), (z, x @ found.T + bias)):
        assert output.shape == expected.shape
        assert np.abs(output - expected).max() <= ROUNDED * expected.std()
    tensors = onnx.load_from_string(quantized).graph.initializer
    stored = sum(len(tensor.raw_data) for tensor in tensors if tensor.data_type != TensorProto.INT64) - bias.nbytes
    assert stored == quantized_bytes(np.array([ROWS]), np.array([columns]), precision, words=ROWS)[0] < table.nbytes


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_of_a_language_model_only_the_layers_between_embeddings_and_head_have_less_than_8_bits(precision: str) -> None:
    rng = np.random.default_rng(4)
    weights = {"words": (ROWS, 64), "inner": (64, 64), "head": (64, ROWS)}
    own = {name: rng.standard_normal(shape, np.float32) for name, shape in weights.items()}
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["looked"], axis=0),
        helper.make_node("MatMul", ["looked", "inner"], ["h"]),
        helper.make_node("MatMul", ["h", "head"], ["y"]),
        helper.make_node("Identity", ["x"], ["z"]),
    ]
    quantized = quantize_weights(model(nodes, own, 64), precision)
    ids, bits = np.array([[3, 0, 39]]), BITS[precision]
    found, _ = run_model(quantized, {"ids": ids, "x": np.zeros((1, 64), np.float32)})
    hidden = dequantized(own["words"], 8)[ids] @ dequantized(own["inner"].T.copy(), bits).T
    expected = hidden @ dequantized(own["head"].T.copy(), 8).T
    assert np.abs(found - expected).max() <= 2 * ROUNDED * expected.std()
    stored = sum(len(own.raw_data) for own in onnx.load_from_string(quantized).graph.initializer if own.data_type != 7)
    sizes = np.array(list(weights.values()))
    sizes[2] = sizes[2][::-1]
    assert stored == quantized_bytes(sizes[:, 0], sizes[:, 1], precision, words=ROWS).sum()


def test_a_matrix_with_inputs_in_its_rows_is_turned() -> None:
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((64, ROWS), np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
        helper.make_node("Identity", ["ids"], ["_"]),
        helper.make_node("Gemm", ["x", "weight"], ["z"]),
    ]
    x = rng.standard_normal((2, 64), np.float32)
    given = {"ids": np.zeros((1, 1), np.int64), "x": x}
    y, z = run_model(quantize_weights(model(nodes, {"weight": weight}, 64), "int8"), given)
    expected = x @ dequantized(weight.T.copy(), 8).T
    assert max(np.abs(y - expected).max(), np.abs(z - expected).max()) <= ROUNDED * expected.std()


def test_matrices_that_other_operations_read_stay_as_they_are() -> None:
    """A product with the rows of one matrix and with its columns, a sum, a scaled product, a look-up by computed ids."""
    rng = np.random.default_rng(3)
    names = ("both", "summed", "scaled", "positions", "kept")
    weights = {name: rng.standard_normal((20, 20), np.float32) for name in names}
    nodes = [
        helper.make_node("Gemm", ["x", "both"], ["a"], transB=1),
        helper.make_node("MatMul", ["a", "both"], ["b"]),
        helper.make_node("Gemm", ["b", "scaled"], ["c"], alpha=2.0, transB=1),
        helper.make_node("Add", ["summed", "summed"], ["d"]),
        helper.make_node("Add", ["ids", "ids"], ["twice"]),
        helper.make_node("Gather", ["positions", "twice"], ["y"]),
        helper.make_node("MatMul", ["c", "d"], ["e"]),
        helper.make_node("MatMul", ["e", "kept"], ["z"]),
    ]
    plain = model(nodes, weights, 20)
    found = onnx.load_from_string(quantize_weights(plain, "int8"))
    assert {tensor.name for tensor in found.graph.initializer} >= set(names[:-1])
    assert [node.op_type for node in found.graph.node].count("MatMulNBits") == 1
    given = {"ids": np.array([[1, 2]]), "x": rng.standard_normal((2, 20), np.float32)}
    for one, two in zip(run_model(plain, given), run_model(found.SerializeToString(), given), strict=True):
        assert np.abs(one - two).max() <= ROUNDED * one.std()


def test_models_without_matrices_and_other_precisions_are_refused() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Relu", ["x"], ["z"])]
    plain = model(nodes, {}, 4)
    assert convert_weights(plain, "fp32") is plain
    with raises("precision.unsupported-operation", "int4", "MatMul", "fp32"):
        convert_weights(plain, "int4")
    with raises("precision.unsupported-operation", "bf16", "int4"):
        convert_weights(plain, "bf16")
    with raises("precision.model-invalid"):
        convert_weights(b"no model", "int8")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("MatMul", ["x", "w"], ["z"])]
    with raises("precision.overflow", "not finite"):
        convert_weights(model(nodes, {"w": np.full((4, 4), np.inf, np.float32)}, 4), "int8")
