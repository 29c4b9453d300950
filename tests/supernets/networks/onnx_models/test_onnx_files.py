"""Networks of ONNX files: captured, elastic, equal to their files, and equal after an export and a second import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import nas
from supernets.families.captured import inspect_model
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.captured_model import CapturedModel, captured_for, load_capture, save_capture
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.execution import outputs_of
from supernets.networks.capture.opening import open_model
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.module_to_onnx import onnx_model
from supernets.networks.onnx_models.registry import OPERATORS
from supernets.training.checkpoint import make_supernet
from tests.benchmarks.onnx_models import exported_by_torch
from tests.errors import raises
from tests.supernets.networks.onnx_models.files import N, model_of, random, write

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporters
EXPORTERS = pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["TorchScript", "dynamo"]
)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x)).relu()


class Convolutional(nn.Module):
    """Two residual blocks between a convolution and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 16, 3, padding=1), nn.Sequential(Block(16), Block(16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Attending(nn.Module):
    """A transformer of patches with a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 5, 16))
        self.layer = nn.TransformerEncoderLayer(16, 4, 24, activation="gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.positions
        return self.head(self.layer(tokens)[:, 0])


class Recurrent(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.LSTM(24, 12, batch_first=True), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rows(x.transpose(1, 2).flatten(2))
        return self.head(out[:, -1])


def opened(path: Path) -> CapturedModel:
    """The network of a file, captured; its equality with the file is checked."""
    return captured_for(open_model(str(path)), None)


@EXPORTERS
@pytest.mark.parametrize("build", [Convolutional, Attending, Recurrent])
def test_a_file_of_torch_is_the_network_that_it_was_made_of(
    build: Callable[[], nn.Module], dynamo: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = build().eval()
    path = tmp_path / "model.onnx"
    path.write_bytes(exported_by_torch(module, torch.randn(2, 3, 8, 8), dynamo=dynamo))
    model = opened(path)
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        expected = module(x)
    inspection = inspect_model(model, SpaceOptions(), proof=True)
    outputs = list(outputs_of(infer_axes(model.program), model.tensors.__getitem__, [x]))
    assert relative_difference(outputs, [expected]) < 1e-5
    assert inspection.proof is not None
    assert inspection.proof.holds
    assert inspection.share > 0.9 or build is Recurrent


def subnet_and_inputs(model: CapturedModel) -> tuple[nn.Module, Tensor]:
    """The smallest subnet, and examples."""
    supernet = make_supernet(CapturedFamily(model.program, SpaceOptions(), tensors=model.tensors)).eval()
    return supernet.extract(supernet.space.smallest).eval(), torch.randn(3, *model.input_shape)


def test_a_smaller_network_that_is_exported_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(exported_by_torch(Convolutional().eval(), torch.randn(2, 3, 8, 8), dynamo=False))
    module, x = subnet_and_inputs(opened(path))
    smaller = tmp_path / "smaller.onnx"
    smaller.write_bytes(onnx_model(module, x))
    again = opened(smaller)
    with torch.no_grad():
        expected = module(x)
    outputs = list(outputs_of(infer_axes(again.program), again.tensors.__getitem__, [x]))
    assert relative_difference(outputs, [expected]) < 1e-5


@EXPORTERS
def test_parameters_have_the_names_of_the_modules_that_the_file_was_written_of(dynamo: bool, tmp_path: Path) -> None:
    path, module = tmp_path / "model.onnx", Convolutional().eval()
    path.write_bytes(exported_by_torch(module, torch.randn(2, 3, 8, 8), dynamo=dynamo))
    names = set(opened(path).program.trainable)
    assert names >= {"stem.weight", "blocks.0.conv.weight", "blocks.1.conv.bias", "head.weight", "head.bias"}
    assert names <= {name for name, _ in module.named_parameters()}


def reshaping(shape: list[int | str]) -> onnx.ModelProto:
    """Flattens by the sizes of its input, through constants of a shape and a branch that follows from sizes."""
    then, otherwise = (
        helper.make_graph(
            [helper.make_node(op, ["flat"], [op])], op, [], [helper.make_tensor_value_info(op, TensorProto.FLOAT, None)]
        )
        for op in ("Relu", "Neg")
    )
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["n"], axis=0),
        helper.make_node("Concat", ["n", "rest"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["x", "sizes"], ["flat"]),
        helper.make_node("Shape", ["flat"], ["flat_shape"]),
        helper.make_node("Size", ["flat_shape"], ["rank"]),
        helper.make_node("Equal", ["rank", "two"], ["is_flat"]),
        helper.make_node("If", ["is_flat"], ["chosen"], then_branch=then, else_branch=otherwise),
        helper.make_node("MatMul", ["chosen", "w"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "v", "b"], ["y"], transB=1),
    ]
    constants = {
        "first": np.array([0]), "rest": np.array([-1]), "two": np.array(2), "w": random(24, 16), "v": random(4, 16),
        "b": random(4),
    }  # fmt: skip
    return model_of(nodes, shape, constants)


def test_shapes_and_branches_that_follow_from_sizes_are_folded(tmp_path: Path) -> None:
    model = opened(write(tmp_path / "model.onnx", reshaping([N, 6, 4])))
    assert [call.name for call in model.program.calls] == ["reshape", "relu", "linear", "relu", "linear"]


def test_a_file_of_one_example_takes_any_number(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    constants = {"w": random(8, 3, 3, 3), "shape": np.array([1, 128]), "v": random(5, 128)}
    model = opened(write(tmp_path / "model.onnx", model_of(nodes, [1, 3, 4, 4], constants)))
    assert "fixed at 1" in " ".join(model.notes)
    (logits,) = outputs_of(infer_axes(model.program), model.tensors.__getitem__, [torch.randn(7, 3, 4, 4)])
    assert logits.shape == (7, 5)


def test_rows_of_all_examples_are_the_examples(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], start=0, end=1),
        helper.make_node("Squeeze", ["n"], ["limit"]),
        helper.make_node("Range", ["zero", "limit", "one"], ["rows"]),
        helper.make_node("Gather", ["x", "rows"], ["g"], axis=0),
        helper.make_node("MatMul", ["g", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    constants = {"zero": np.array(0), "one": np.array(1), "w": random(6, 16), "v": random(16, 3)}
    model = opened(write(tmp_path / "model.onnx", model_of(nodes, [N, 6], constants)))
    assert [call.name for call in model.program.calls] == ["linear", "linear"]


def test_the_softmax_of_a_classifier_is_left_out(tmp_path: Path) -> None:
    path, module = tmp_path / "model.onnx", nn.Sequential(Convolutional(), nn.Softmax(-1)).eval()
    path.write_bytes(exported_by_torch(module, torch.randn(2, 3, 8, 8), dynamo=False))
    model = opened(path)
    x = torch.randn(3, 3, 8, 8)
    (logits,) = outputs_of(infer_axes(model.program), model.tensors.__getitem__, [x])
    with torch.no_grad():
        assert torch.allclose(logits.softmax(-1), module(x), atol=1e-6)
    assert "softmax" in " ".join(model.notes)


@pytest.mark.parametrize(("opset", "rank"), [(18, 4), (18, 3), (11, 2)])
def test_the_softmax_of_each_position_is_left_out(opset: int, rank: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Softmax", ["c" if rank == 4 else "r"], ["y"], axis=1),
    ]
    constants = {"w": random(5, 3, 3, 3)}
    if rank < 4:
        constants["s"] = np.array([0, 0, -1] if rank == 3 else [0, -1])
        nodes.insert(1, helper.make_node("Reshape", ["c", "s"], ["r"]))
    model = opened(write(tmp_path / "model.onnx", model_of(nodes, [N, 3, 4, 4], constants, opset=opset)))
    assert "softmax" in " ".join(model.notes)


def test_a_softmax_over_all_numbers_before_opset_13_is_left_out(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Softmax", ["c"], ["y"])]
    opened(write(tmp_path / "model.onnx", model_of(nodes, [N, 3, 4, 4], {"w": random(5, 3, 3, 3)}, opset=11)))


def test_recurrent_layers_whose_last_states_alone_are_read(tmp_path: Path) -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2])]
    constants: dict[str, np.ndarray] = {}
    for i in range(2):
        nodes.append(helper.make_node("LSTM", ["t", f"w{i}", f"r{i}"], ["", f"h{i}"], hidden_size=5))
        constants |= {f"w{i}": random(1, 20, 3, seed=i), f"r{i}": random(1, 20, 5, seed=i + 9)}
    nodes.append(helper.make_node("Add", ["h0", "h1"], ["y"]))
    opened(write(tmp_path / "model.onnx", model_of(nodes, [N, 6, 3], constants)))


def test_layers_with_the_same_bias_of_different_scales(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], beta=2.0),
        helper.make_node("Gemm", ["h", "w", "b"], ["y"], beta=0.5),
    ]
    opened(write(tmp_path / "model.onnx", model_of(nodes, [N, 6], {"w": random(6, 6), "b": random(6)})))


def test_images_with_channels_last_become_channels_first(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["d"]),
        helper.make_node("ReduceMean", ["d"], ["y"], axes=[2, 3], keepdims=0),
    ]
    constants = {"w": random(8, 3, 3, 3), "v": random(4, 8, 3, 3)}
    model = opened(write(tmp_path / "model.onnx", model_of(nodes, [N, 9, 10, 3], constants, opset=13)))
    assert model.input_shape == (3, 9, 10)
    assert not [call for call in model.program.calls if call.name == "conv2d" and call.arguments["groups"] != 1]


def quantised() -> onnx.ModelProto:
    """A network of two products with weights of eight bits, whose input is rounded."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["w8", "ws"], ["w"], axis=1),
        helper.make_node("MatMul", ["xq", "w"], ["h"]),
        helper.make_node(
            "QuantizeLinear", ["h", "hs", "hz"], ["hq"]
        ),  # it begins with zero: a relu is left out before it
        helper.make_node("DequantizeLinear", ["hq", "hs", "hz"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    constants = {
        "s": np.float32(0.03),
        "z": np.uint8(128),
        "hs": np.float32(0.2),
        "hz": np.uint8(0),
        "w8": rng.integers(-128, 128, (6, 16)).astype(np.int8),
        "ws": np.abs(random(16)) / 50,
        "v": random(16, 3),
    }
    return model_of(nodes, [N, 6], constants)


def test_a_quantised_file_is_read_as_real_numbers_where_that_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", quantised())
    with raises("capture.unknown-operation", "QuantizeLinear", "dequantize: true"):
        open_model(str(path))
    model = captured_for(open_model(str(path), {"dequantize": True}), None)
    assert [call.name for call in model.program.calls] == ["linear", "clamp", "linear"]
    (note,) = [note for note in model.notes if "quantised file" in note]
    assert float(note.split(" by ")[1].split()[0]) < 0.1


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(reshaping([N, 6, 4]), path, save_as_external_data=True, location="weights.bin", size_threshold=64)
    with_weights_inside = opened(write(tmp_path / "inside.onnx", reshaping([N, 6, 4])))
    tensors = opened(path).tensors
    assert tensors.keys() == with_weights_inside.tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in with_weights_inside.tensors.items())
    (tmp_path / "weights.bin").unlink()
    with raises("capture.onnx-malformed", "weights.bin"):
        open_model(str(path))


def test_a_captured_file_needs_the_onnx_file_no_more(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", reshaping([N, 6, 4]))
    save_capture(tmp_path / "model.capture", opened(path))
    path.unlink()
    assert load_capture(tmp_path / "model.capture").input_shape == (6, 4)


def test_another_result_is_an_error_that_names_the_first_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "model.onnx", reshaping([N, 6, 4]))
    monkeypatch.setitem(OPERATORS, ("", "Relu"), lambda call: call.tensor(0) * 1.01)
    with raises("capture.other-outputs", "from the node chosen (If) on"):
        opened(path)


def test_the_supernet_of_a_file(tmp_path: Path) -> None:
    supernet = nas.supernet_of(str(write(tmp_path / "model.onnx", reshaping([N, 6, 4]))))
    assert supernet.space.size > 1
