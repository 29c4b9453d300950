"""Damaged and hostile ONNX files: one error that names the fault, within limits of memory and time."""

from __future__ import annotations

import random as randomness
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from supernets.errors import CaptureError
from supernets.networks.capture.captured_model import captured_for
from supernets.networks.capture.opening import open_model
from supernets.networks.capture.user_model import UserModel
from supernets.networks.onnx_models.paths import RESERVED
from tests.errors import raises
from tests.supernets.networks.onnx_models.files import N, model_of, random, write

Change = Callable[[ModelProto], object]


def small() -> ModelProto:
    """A convolution and a classifier with a shape that is computed."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Shape", ["r"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "first"], ["n"], name="batch", axis=0),
        helper.make_node("Concat", ["n", "rest"], ["sizes"], name="sizes", axis=0),
        helper.make_node("Reshape", ["r", "sizes"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "v", "b"], ["y"], name="classifier", transB=1),
    ]
    constants = {
        "w": random(4, 3, 3, 3), "first": np.array([0]), "rest": np.array([-1]), "v": random(5, 64), "b": random(5),
    }  # fmt: skip
    return model_of(nodes, [N, 3, 4, 4], constants)


def changed(change: Change) -> bytes:
    model = small()
    change(model)
    return model.SerializeToString()


def node(model: ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def tensor(model: ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def refer_to(model: ModelProto, location: str, **entries: str) -> None:
    """Puts the weights of the convolution into another file."""
    weight = tensor(model, "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)


def first(model: ModelProto, *nodes: onnx.NodeProto, result: str) -> None:
    """Puts nodes before the others, the result of which the convolution adds as a bias."""
    existing = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *existing])
    node(model, "conv").input.append(result)


def constant(name: str, *numbers: float, kind: int = TensorProto.INT64) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, kind, [len(numbers)], numbers))


def call_itself(model: ModelProto) -> None:
    body = [helper.make_node("Again", ["a"], ["b"], domain="mine")]
    model.functions.append(helper.make_function("mine", "Again", ["a"], ["b"], body, model.opset_import))
    relu = node(model, "relu")
    relu.op_type, relu.domain = "Again", "mine"


def double_functions(model: ModelProto) -> None:
    """Thirty functions, each of which calls the one before it twice."""
    for i in range(30):
        calls = [(f"F{i - 1}", "mine")] * 2 if i else [("Relu", "")]
        body = [
            helper.make_node(
                op, ["a" if j == 0 else f"t{j}"], ["b" if j == len(calls) - 1 else f"t{j + 1}"], domain=domain
            )
            for j, (op, domain) in enumerate(calls)
        ]
        model.functions.append(helper.make_function("mine", f"F{i}", ["a"], ["b"], body, model.opset_import))
    relu = node(model, "relu")
    relu.op_type, relu.domain = "F29", "mine"


def double_branches(model: ModelProto) -> None:
    """Thirty functions, each of which calls the one before it in both branches."""
    value = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    for i in range(30):
        op, domain = (f"F{i - 1}", "mine") if i else ("Relu", "")
        branch = helper.make_graph([helper.make_node(op, ["a"], ["t"], domain=domain)], "branch", [], [value])
        body = [
            helper.make_node("Constant", [], ["yes"], value=yes),
            helper.make_node("If", ["yes"], ["b"], then_branch=branch, else_branch=branch),
        ]
        model.functions.append(helper.make_function("mine", f"F{i}", ["a"], ["b"], body, model.opset_import))
    set_op("relu", "F29", "mine")(model)


def nest(model: ModelProto) -> None:
    """Branches within branches."""
    value = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["c"], ["t"])], "inner", [], [value])
    for _ in range(40):
        inner = helper.make_node("If", ["yes"], ["t"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([inner], "outer", [], [value])
        if len(graph.SerializeToString()) > 2**20:
            break
    relu = node(model, "relu")
    relu.CopyFrom(helper.make_node("If", ["yes"], ["r"], name="relu", then_branch=graph, else_branch=graph))
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))


def set_op(name: str, op: str, domain: str = "") -> Change:
    def change(model: ModelProto) -> None:
        node(model, name).op_type, node(model, name).domain = op, domain

    return change


def grow(op: str, *shapes: tuple[int, ...], **attributes: Any) -> Change:
    """Puts an operator of small constants with a large result before the others."""

    def change(model: ModelProto) -> None:
        arrays = [np.ones(shape, bool if op == "Where" and i == 0 else np.float32) for i, shape in enumerate(shapes)]
        names = [f"part{i}" for i in range(len(shapes))]
        model.graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in zip(names, arrays, strict=True)
        )
        first(model, helper.make_node(op, names, ["big"], name="big", **attributes), result="big")

    return change


def divide(op: str, dividend: int, divisor: int) -> Change:
    return lambda model: first(
        model,
        constant("dividend", dividend),
        constant("divisor", divisor),
        helper.make_node(op, ["dividend", "divisor"], ["big"], name="big"),
        result="big",
    )


def repeat_data(model: ModelProto) -> None:
    """Many tensors that are all the same bytes of a file."""
    for i in range(9):
        weight = model.graph.initializer.add(name=f"again{i}", data_type=TensorProto.FLOAT, dims=[2**22])
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="large.bin")


def recur(gates: int, biases: int, **attributes: Any) -> bytes:
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], name="lstm", hidden_size=5, **attributes)
    weights = {"w": random(1, gates * 5, 3), "r": random(1, 20, 5), "b": random(biases, 40)}
    return model_of([node], [4, N, 3], weights).SerializeToString()


FAULTS: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "capture.onnx-malformed", "no graph"),
    "a huge batch": (
        changed(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2**30)),
        "capture.example",
        "1073741824",
    ),
    "text": (b"this is no network", "capture.onnx-malformed", "no ONNX model"),
    "cut off": (small().SerializeToString()[:300], "capture.onnx-malformed", "no ONNX model"),
    "a name that is no text": (
        small().SerializeToString().replace(b"classifier", b"classif\xff\xfer"),
        "capture.onnx-malformed",
        "no text",
    ),
    "a zip archive": (b"PK\x03\x04" + bytes(60), "capture.onnx-malformed", ""),
    "no nodes": (changed(lambda m: m.graph.ClearField("node")), "capture.onnx-malformed", "no graph with nodes"),
    "old opset": (changed(lambda m: setattr(m.opset_import[0], "version", 1)), "capture.onnx-malformed", "opset 1"),
    "future opset": (
        changed(lambda m: setattr(m.opset_import[0], "version", 99)),
        "capture.onnx-malformed",
        "opset 99",
    ),
    "no opset": (changed(lambda m: m.ClearField("opset_import")), "capture.onnx-malformed", "opset 0"),
    "unknown operator": (changed(set_op("relu", "Frobnicate")), "capture.unknown-operation", "relu (Frobnicate)"),
    "unknown domain": (changed(set_op("relu", "Relu", "ai.acme")), "capture.unknown-operation", "ai.acme"),
    "trees": (changed(set_op("relu", "TreeEnsemble", "ai.onnx.ml")), "capture.unknown-operation", "TreeEnsemble"),
    "a loop": (changed(set_op("relu", "Loop")), "capture.unknown-operation", "Loop"),
    "two inputs": (
        changed(
            lambda m: (
                m.graph.input.append(helper.make_tensor_value_info("z", 1, [N, 3])),
                node(m, "conv").input.append("z"),
            )
        ),
        "capture.example",
        "x, z",
    ),
    "no input": (changed(lambda m: m.graph.ClearField("input")), "capture.example", "none"),
    "texts as input": (
        changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 8)),
        "capture.example",
        "x",
    ),
    "a missing weight": (changed(lambda m: m.graph.initializer.pop(0)), "capture.onnx-malformed", "w"),
    "a weight of another size": (changed(lambda m: tensor(m, "w").dims.append(7)), "capture.onnx-malformed", "w"),
    "a huge weight": (changed(lambda m: tensor(m, "w").dims.__setitem__(0, 2**40)), "capture.onnx-malformed", "w"),
    "a negative size": (changed(lambda m: tensor(m, "w").dims.__setitem__(0, -4)), "capture.onnx-malformed", "w"),
    "weights as texts": (
        changed(lambda m: setattr(tensor(m, "w"), "data_type", TensorProto.STRING)),
        "capture.unknown-operation",
        "w",
    ),
    "weights of no type": (changed(lambda m: setattr(tensor(m, "w"), "data_type", 77)), "capture.onnx-malformed", "w"),
    "weights elsewhere": (changed(lambda m: refer_to(m, "/etc/passwd")), "capture.onnx-malformed", "/etc/passwd"),
    "weights above": (changed(lambda m: refer_to(m, "../secret.bin")), "capture.onnx-malformed", "../secret.bin"),
    "weights behind a link": (changed(lambda m: refer_to(m, "link.bin")), "capture.onnx-malformed", "link.bin"),
    "weights that are missing": (
        changed(lambda m: refer_to(m, "nothing.bin")),
        "capture.onnx-malformed",
        "nothing.bin",
    ),
    "weights beyond an end": (
        changed(lambda m: refer_to(m, "real.bin", offset="4", length="400")),
        "capture.onnx-malformed",
        "real.bin",
    ),
    "weights at no name of a file": (changed(lambda m: refer_to(m, "a\0b")), "capture.onnx-malformed", "missing"),
    "weights at a long name": (changed(lambda m: refer_to(m, 300 * "a")), "capture.onnx-malformed", "missing"),
    "weights that repeat a file": (changed(repeat_data), "capture.onnx-malformed", "large.bin"),
    "weights at no number": (changed(lambda m: refer_to(m, "real.bin", offset="many")), "capture.onnx-malformed", "w"),
    "a function of itself": (changed(call_itself), "capture.onnx-malformed", "Again"),
    "functions that double": (changed(double_functions), "capture.onnx-malformed", "nodes"),
    "branches that double": (changed(double_branches), "capture.onnx-malformed", "nodes"),
    "nested branches": (changed(nest), "capture.onnx-malformed", "nested"),
    "a huge constant": (
        changed(
            lambda m: first(
                m,
                constant("s", 2**20, 2**20),
                helper.make_node("ConstantOfShape", ["s"], ["big"], name="big"),
                result="big",
            )
        ),
        "capture.too-large",
        "big",
    ),
    "a long range": (
        changed(
            lambda m: first(
                m,
                *(constant(k, v) for k, v in (("s", 0), ("e", 2**50), ("t", 1))),
                helper.make_node("Range", ["s", "e", "t"], ["big"], name="big"),
                result="big",
            )
        ),
        "capture.too-large",
        "big",
    ),
    "a tiling": (
        changed(
            lambda m: first(
                m, constant("t", 2**40), helper.make_node("Tile", ["b", "t"], ["big"], name="big"), result="big"
            )
        ),
        "capture.too-large",
        "big",
    ),
    "a step of zero": (
        changed(
            lambda m: first(
                m,
                *(constant(k, v) for k, v in (("s", 0), ("e", 9), ("t", 0))),
                helper.make_node("Range", ["s", "e", "t"], ["big"], name="big"),
                result="big",
            )
        ),
        "capture.failed",
        "big",
    ),
    "a product of all numbers": (
        changed(grow("Einsum", (900,), (900,), (900,), equation="a,b,c->abc")),
        "capture.too-large",
        "big",
    ),
    "a maximum of all numbers": (
        changed(grow("Max", (900, 1, 1), (900, 1), (900,))),
        "capture.too-large",
        "big",
    ),
    "a choice of all numbers": (changed(grow("Where", (900, 1, 1), (900, 1), (900,))), "capture.too-large", "big"),
    "a padded constant": (
        changed(grow("Conv", (1, 1, 1, 1), (1, 1, 1, 1), pads=[0, 0, 20000, 20000])),
        "capture.unknown-operation",
        "big",
    ),
    "a division that ends the process": (changed(divide("Div", -(2**63), -1)), "capture.unknown-operation", "big"),
    "a remainder that ends the process": (changed(divide("Mod", -(2**63), -1)), "capture.unknown-operation", "big"),
    "a division by zero": (changed(divide("Div", 1, 0)), "capture.unknown-operation", "zero"),
    "gates of another number": (recur(3, 1), "capture.onnx-malformed", "ValueError"),
    "directions of another number": (recur(4, 1, direction="bidirectional"), "capture.onnx-malformed", "IndexError"),
    "a scale that is a text": (
        changed(lambda m: node(m, "classifier").attribute.append(helper.make_attribute("beta", "much"))),
        "capture.onnx-malformed",
        "much",
    ),
    "names of several lines": (
        changed(lambda m: node(m, "relu").MergeFrom(onnx.NodeProto(name="a\nb\x1b[2J", op_type="Fro\nb"))),
        "capture.unknown-operation",
        "Fro b",
    ),
    "a value that nothing makes": (
        changed(lambda m: node(m, "relu").input.__setitem__(0, "nothing")),
        "capture.onnx-malformed",
        "nothing",
    ),
    "a cycle": (changed(lambda m: node(m, "relu").input.__setitem__(0, "f")), "capture.onnx-malformed", "f"),
    "an output that nothing makes": (
        changed(lambda m: setattr(m.graph.output[0], "name", "none")),
        "capture.onnx-malformed",
        "none",
    ),
    "a lacking input": (
        changed(lambda m: node(m, "classifier").input.__delitem__(slice(0, 3))),
        "capture.onnx-malformed",
        "classifier",
    ),
    "an attribute of another kind": (
        changed(lambda m: node(m, "conv").attribute[0].CopyFrom(helper.make_attribute("pads", "much"))),
        "capture.failed",
        "conv",
    ),
    "a padding of another length": (
        changed(lambda m: node(m, "conv").attribute[0].CopyFrom(helper.make_attribute("pads", [1]))),
        "capture.failed",
        "conv",
    ),
    "an axis beyond": (changed(lambda m: setattr(node(m, "sizes").attribute[0], "i", 9)), "capture.failed", "sizes"),
    "weights that do not fit": (
        changed(lambda m: node(m, "classifier").ClearField("attribute")),
        "capture.failed",
        "classifier",
    ),
    "an attribute of no kind": (
        changed(lambda m: setattr(node(m, "conv").attribute[0], "type", AttributeProto.TYPE_PROTO)),
        "capture.unknown-operation",
        "pads",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error_that_names_it(fault: str, tmp_path: Path) -> None:
    content, code, mention = FAULTS[fault]
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "real.bin").write_bytes(bytes(100))
    (folder / "large.bin").write_bytes(bytes(2**24))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = folder / "model.onnx"
    path.write_bytes(content)
    with raises(code, str(path), mention) as caught:
        captured_for(open_model(str(path)), None)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()


def test_constants_of_functions_are_read_from_the_folder_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    elsewhere = TensorProto(name="k", data_type=TensorProto.FLOAT, dims=[4, 1, 1])
    elsewhere.data_location = TensorProto.EXTERNAL
    elsewhere.external_data.add(key="location", value="secret.bin")
    model = small()
    body = [
        helper.make_node("Constant", [], ["k"], value=elsewhere),
        helper.make_node("Add", ["a", "k"], ["b"]),
    ]
    model.functions.append(helper.make_function("mine", "Shift", ["a"], ["b"], body, model.opset_import))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    set_op("relu", "Shift", "mine")(model)
    path = write(folder / "model.onnx", model)
    monkeypatch.chdir(tmp_path)
    with raises("capture.onnx-malformed", "secret.bin", "missing"):
        open_model(str(path))
    (folder / "secret.bin").write_bytes(bytes(16))
    captured_for(open_model(str(path)), None)


def test_constants_of_a_branch_that_is_not_selected_are_not_computed(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    selected = helper.make_graph([helper.make_node("Relu", ["c"], ["t"])], "selected", [], [value])
    nodes = [
        *(constant("least", -(2**63)), constant("divisor", -1)),
        helper.make_node("Div", ["least", "divisor"], ["whole"]),  # which ends the process
        helper.make_node("Cast", ["whole"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["c", "number"], ["t"]),
    ]
    other = helper.make_graph(nodes, "other", [], [value])
    model = small()
    branches = helper.make_node("If", ["yes"], ["r"], name="relu", then_branch=selected, else_branch=other)
    node(model, "relu").CopyFrom(branches)
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    captured_for(open_model(str(write(tmp_path / "model.onnx", model))), None)


def test_nodes_that_no_output_needs_are_not_run(tmp_path: Path) -> None:
    model = small()
    model.graph.node.extend([constant("t", 1, 1, 2**20, 2**20), helper.make_node("Tile", ["x", "t"], ["unused"])])
    captured_for(open_model(str(write(tmp_path / "model.onnx", model))), None)


@pytest.mark.parametrize(
    "name", ["/nodes/a/Conv", "/values/Conv", "/_graph/a/Conv", "/.../Conv", f"/{199 * 'a'}/b/Conv", "/模型/class/Conv"]
)
def test_names_of_nodes_may_be_any(name: str, tmp_path: Path) -> None:
    model = small()
    node(model, "conv").name, node(model, "relu").name = name, "/b/c/Relu"
    captured_for(open_model(str(write(tmp_path / "model.onnx", model))), None)


def test_a_tensor_may_have_the_name_of_a_module(tmp_path: Path) -> None:
    model = small()
    tensor(model, "w").name = node(model, "conv").input[1] = "stem.conv"
    node(model, "conv").name, node(model, "relu").name = "/stem/Conv", "/stem/conv/x/Relu"
    captured_for(open_model(str(write(tmp_path / "model.onnx", model))), None)


def test_the_attributes_of_the_module_are_no_names_of_nodes(tmp_path: Path) -> None:
    opened = open_model(str(write(tmp_path / "model.onnx", small())))
    assert isinstance(opened, UserModel)
    children = {name for name, _ in opened.module.named_children()}
    of_torch = set(dir(nn.Module()))  # transformers adds to it when it is imported
    assert set(dir(opened.module)) - children - of_torch <= RESERVED


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with raises("capture.unknown-model", "none.onnx"):
        open_model(str(tmp_path / "none.onnx"))
    (tmp_path / "folder.onnx").mkdir()
    with raises("capture.onnx-malformed", "folder.onnx"):
        open_model(str(tmp_path / "folder.onnx"))


def test_arguments_that_a_file_does_not_have(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", small())
    for arguments in ({"width": 3}, {"dequantize": "yes"}):
        with raises("job.conflict", *arguments):
            open_model(str(path), arguments)
    with raises("job.conflict", "hub"):
        open_model(str(path), weights="hub")


def mutated(content: bytes, rng: randomness.Random) -> bytes:
    """A file with some bytes changed, removed or repeated."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, n = rng.randrange(len(data)), rng.randrange(1, 9)
        match rng.randrange(4):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + n] = rng.randbytes(n)
            case 2:
                del data[at : at + n]
            case _:
                data[at:at] = data[at : at + n]
    return bytes(data)


def check_mutation(path: Path, content: bytes) -> str:
    """The code of the error for a file; "" for a network that is read."""
    path.write_bytes(content)
    try:
        captured_for(open_model(str(path)), (3, 4, 4))
    except CaptureError as error:
        return error.code if str(path) in str(error) else f"no path in {error}"
    return ""


@pytest.mark.parametrize("seed", range(6))
def test_changed_bytes_give_a_network_or_one_error(seed: int, tmp_path: Path) -> None:
    rng = randomness.Random(seed)
    content = small().SerializeToString()
    for _ in range(8):
        assert not check_mutation(tmp_path / "model.onnx", mutated(content, rng)).startswith("no path")
