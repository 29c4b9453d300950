"""Captured models as files, opened by name, with weights, and with other numbers of classes."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from supernets.networks.capture.captured_model import (
    CapturedModel,
    capture_model,
    captured_for,
    load_capture,
    save_capture,
)
from supernets.networks.capture.classifier import with_outputs
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.execution import outputs_of
from supernets.networks.capture.model_names import is_file, is_function, is_library
from supernets.networks.capture.opening import matching, open_model, read_weights
from supernets.networks.capture.user_model import Preprocessing, own_model, unwrapped
from tests.errors import raises
from tests.supernets.networks.capture import faulty
from tests.supernets.networks.capture.networks import example, network, opened_module

SOURCE = """
import torch
from torch import nn
def build(width=8, half=False):
    layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
    return layers.half() if half else layers
def broken(): raise RuntimeError("no such file here")
def number(): return 3
def nothing(): pass
def talking():
    print("hello")
    return build()
"""


class Spare(nn.Module):
    """Has a parameter that its forward does not read, and two names for another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.spare, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.again(x).relu())


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_networks.py").write_text(SOURCE)
    (tmp_path / "faulty_import.py").write_text("import a_package_of_nobody\n")
    (tmp_path / "faulty_syntax.py").write_text("# a function\ndef build(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    return "own_networks"


def captured(name: str = "resnet") -> CapturedModel:
    return capture_model(own_model(network(name)), example(name, 2))


def saved(tmp_path: Path) -> Path:
    save_capture(tmp_path / "model", captured())
    return tmp_path / "model"


def outputs(model: CapturedModel, x: Tensor) -> tuple[Tensor, ...]:
    return outputs_of(infer_axes(model.program), model.tensors.__getitem__, [x])


def test_a_model_is_read_back_equal(tmp_path: Path) -> None:
    model, again = captured("windowed"), None
    save_capture(tmp_path / "model", model)
    again = load_capture(tmp_path / "model")
    assert again.program == model.program
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in model.tensors.items())
    assert (again.name, again.preprocessing, again.unused) == (model.name, model.preprocessing, model.unused)


def test_equal_models_make_equal_files(tmp_path: Path) -> None:
    save_capture(tmp_path / "a", captured())
    save_capture(tmp_path / "b", captured())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def rewritten(path: Path, change: Any, *, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as file:
        parts = {info.filename: file.read(info) for info in file.infolist()}
    change(parts)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        for name, data in parts.items():
            file.writestr(name, data)
    path.write_bytes(content.getvalue())


def changed_index(change: Any) -> Any:
    def apply(parts: dict[str, bytes]) -> None:
        index = json.loads(parts["program.json"])
        change(index)
        parts["program.json"] = json.dumps(index).encode()

    return apply


def _other_shape(index: dict[str, Any]) -> None:
    call = index["program"]["calls"][0]["outputs"][0]
    index["program"]["values"][call][0][1] += 1


@pytest.mark.parametrize(
    "change",
    [
        changed_index(lambda index: index.update(version=2)),
        changed_index(lambda index: index.pop("program")),
        changed_index(lambda index: index["program"]["calls"][0]["arguments"].update(stride="x")),
        changed_index(lambda index: index["program"]["calls"][0]["arguments"].clear()),
        changed_index(lambda index: index["preprocessing"].update(image_size=-1)),
        changed_index(_other_shape),
        lambda parts: parts.update({"tensors.safetensors": parts["tensors.safetensors"][:-9]}),
        lambda parts: parts.update({"code.py": b"print()"}),
        lambda parts: parts.update({"program.json": b"[]"}),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, change: Any) -> None:
    path = saved(tmp_path)
    rewritten(path, change)
    with raises("capture.malformed"):
        load_capture(path)


def test_an_operation_without_a_rule_is_not_written(tmp_path: Path) -> None:
    model = capture_model(own_model(faulty.Custom()), torch.randn(2, 4))
    with raises("capture.unknown-operation", "faulty.doubled", "faulty.py:"):
        save_capture(tmp_path / "own.capture", model)
    assert not any(tmp_path.iterdir())


def test_a_compressed_file_is_refused_as_it_may_grow_beyond_memory(tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewritten(path, lambda parts: None, compression=zipfile.ZIP_DEFLATED)
    with raises("capture.malformed", "compressed"):
        load_capture(path)


def test_an_archive_of_many_members_is_refused_before_they_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(200):
            file.writestr(f"{i}", b"")
    monkeypatch.setattr(zipfile, "ZipFile", None)  # not called
    with raises("capture.malformed", "directory"):
        load_capture(path)
    with path.open("ab") as opened:  # 64-bit records, and an end that names a small directory
        record = b"PK\x06\x06" + bytes(36) + (10**9).to_bytes(8, "little") + bytes(8)
        opened.write(record + b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + bytes(18))
    with raises("capture.malformed", "directory has 1000000000 bytes"):
        load_capture(path)


def test_a_file_that_is_missing_or_no_archive_is_refused(tmp_path: Path) -> None:
    with raises("capture.unknown-model", "missing"):
        load_capture(tmp_path / "missing")
    (tmp_path / "text").write_text("hello")
    with raises("capture.malformed", "text"):
        load_capture(tmp_path / "text")


def test_unused_parameters_and_tied_tensors_are_listed() -> None:
    model = capture_model(own_model(Spare()), torch.randn(2, 4))
    assert model.unused == ("spare.weight", "spare.bias")
    assert model.program.aliases == {"again.weight": "first.weight", "again.bias": "first.bias"}


def test_a_captured_file_is_opened_by_its_path_with_its_own_input_and_weights(tmp_path: Path) -> None:
    path = saved(tmp_path)
    model = open_model(str(path))
    assert isinstance(model, CapturedModel)
    assert captured_for(model, None) is model
    assert captured_for(model, model.input_shape) is model
    with raises("job.conflict", "3x9x9", "x".join(map(str, model.input_shape))):
        captured_for(model, (3, 9, 9))
    with raises("job.conflict", "arguments"):
        open_model(str(path), {"width": 3})
    with raises("job.conflict", "hub"):
        open_model(str(path), weights="hub")


def test_names_of_models_are_told_apart() -> None:
    assert is_library("timm:resnet18")
    assert is_function("package.module:function")
    assert not is_function("timm:resnet18")
    assert is_file("folder/model:1.capture")


def test_a_function_of_the_users_is_called_with_its_arguments(own_module: str) -> None:
    model = opened_module(f"{own_module}:build", {"width": 6})
    assert model.module[0].out_features == 6  # type: ignore[index]
    again = opened_module(f"{own_module}:build", {"width": 6})
    assert torch.equal(model.module[0].weight, again.module[0].weight)  # type: ignore[index]


def test_half_precision_becomes_single_and_is_noted(own_module: str) -> None:
    model = opened_module(f"{own_module}:build", {"half": True})
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert "float16" in model.notes[0]


@pytest.mark.parametrize(
    ("name", "code", "mention"),
    [
        ("own_networks:missing", "capture.unknown-model", "build"),
        ("not_there.networks:build", "capture.unknown-model", "PYTHONPATH"),
        ("own_networks:broken", "capture.model-unusable", "no such file here"),
        ("own_networks:missing", "capture.unknown-model", "it has build, broken, number"),
        ("own_networks:number", "capture.model-unusable", "int"),
        ("own_networks:nothing", "capture.model-unusable", "NoneType"),
        ("faulty_import:build", "capture.model-unusable", "No module named 'a_package_of_nobody'"),
        ("faulty_syntax:build", "capture.model-unusable", "faulty_syntax.py, line 2"),
        ("nothing of this", "capture.unknown-model", "torchvision:NAME"),
    ],
)
def test_a_name_that_is_no_model_is_refused(own_module: str, name: str, code: str, mention: str) -> None:
    with raises(code, mention):
        open_model(name)


def test_what_a_function_prints_is_no_output(own_module: str, capsys: pytest.CaptureFixture[str]) -> None:
    opened_module(f"{own_module}:talking")
    assert capsys.readouterr() == ("", "hello\n")


def test_a_function_has_no_weights_of_a_library(own_module: str) -> None:
    with raises("capture.weights-unusable", "hub", "file of weights"):
        opened_module(f"{own_module}:build", weights="hub")


def test_how_images_are_made_for_the_model_is_a_note(tmp_path: Path) -> None:
    assert Preprocessing(224, 3, None, None, "bilinear", 1.0).notes() == ()
    [note] = Preprocessing(224, 3, None, None, "bicubic", 0.875).notes()
    assert "by bicubic interpolation, and the central 87.5% of the side is taken" in note
    strange = Preprocessing(224, 3, None, None, "nearest-exact", float("nan"), squeezed=True)
    assert strange.resizing == {}
    assert ["nearest-exact" in note or "nan" in note or "squeezes" in note for note in strange.notes()] == [True] * 3
    model = Preprocessing(8, 1, (0.5,), (0.25,), "bicubic", 0.9)
    assert Preprocessing.from_json(json.loads(json.dumps(model.to_json()))) == model
    earlier = {"image_size": 8, "channels": 1, "mean": None, "std": None}
    assert Preprocessing.from_json(earlier) == Preprocessing(8, 1)


def test_the_preprocessing_of_libraries_is_read_with_what_differs_here(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    model = opened_module("torchvision:mobilenet_v3_small")
    assert (model.preprocessing.interpolation, model.preprocessing.crop) == ("bilinear", 0.875)
    assert any("87.5%" in note for note in model.notes)
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ViTForImageClassification(
        transformers.ViTConfig(image_size=16, patch_size=8, **small)
    ).save_pretrained(tmp_path)
    found = {
        "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3, "do_center_crop": True,
        "size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16},
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(found))
    model = opened_module(f"transformers:{tmp_path}")
    expected = Preprocessing(16, 3, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic", 0.8)
    assert model.preprocessing == expected
    assert model.notes == expected.notes()


@pytest.mark.parametrize("library", ["torchvision", "timm", "transformers"])
def test_a_library_that_is_not_installed_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supernets.networks.capture.user_model.find_spec", lambda name: None)
    with raises("capture.package-missing", f"pip install {library}"):
        opened_module(f"{library}:model")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_weights_are_read_from_both_kinds_of_files(tmp_path: Path, name: str) -> None:
    state = dict(network("resnet").state_dict())
    if name.endswith("pt"):
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / name)
    else:
        save_file(state, tmp_path / name)
    found = matching(state, read_weights(tmp_path / name), source=name)
    assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_weights_of_a_wrapped_model_and_of_one_with_a_module_of_that_name_are_read(tmp_path: Path, prefix: str) -> None:
    module = nn.Sequential(OrderedDict(module=nn.Linear(2, 3), _orig_mod=nn.Linear(3, 1)))
    for state in (module.state_dict(), nn.Linear(2, 2).state_dict()):
        torch.save({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / "w.pt")
        found = matching(state, read_weights(tmp_path / "w.pt"), source="w.pt")
        assert all(torch.equal(found[key], value) for key, value in state.items())
    assert unwrapped(module) is module


def test_weights_of_another_model_are_refused_with_the_first_ten_differences(tmp_path: Path) -> None:
    torch.save(network("mobile").state_dict(), tmp_path / "other.pt")
    with raises("capture.other-weights", "other.pt", "missing, expected", "more") as caught:
        matching(network("resnet").state_dict(), read_weights(tmp_path / "other.pt"), source="other.pt")
    assert str(caught.value).count("\n") == 11


def test_a_file_that_is_no_weights_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"hello")
    with raises("capture.weights-unusable", "w.pt", "Error"):
        read_weights(tmp_path / "w.pt")


def test_weights_with_code_are_refused(tmp_path: Path) -> None:
    torch.save(network("mobile"), tmp_path / "module.pt")
    with raises("capture.weights-unusable", "module.pt"):
        read_weights(tmp_path / "module.pt")


def test_a_model_with_the_datas_classes_keeps_its_last_layer() -> None:
    model = captured()
    assert with_outputs(model, model.outputs[0].shape[1], seed=1) is model


def test_the_last_layer_is_replaced_for_other_numbers_of_classes() -> None:
    model, x = captured(), example("resnet", 3)
    found = with_outputs(model, 7, seed=1)
    (before,), (after,) = outputs(model, x), outputs(found, x)
    assert after.shape == (3, 7)
    assert str(before.shape[1]) in found.notes[0]
    changed = [name for name, tensor in found.tensors.items() if tensor is not model.tensors[name]]
    assert len(changed) == 2
    again = with_outputs(model, 7, seed=1)
    assert relative_difference([after], outputs(again, x)) == 0


def test_a_model_whose_last_layer_is_not_found_is_refused() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x)

    with raises("capture.outputs", "num_classes"):
        with_outputs(capture_model(own_model(Sum()), torch.randn(2, 4)), 5, seed=1)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("resnet18", "torchvision:resnet18"),
        ("mobilenet_v3_smal", "torchvision:mobilenet_v3_small"),
        ("vit_tiny_patch16_224", "timm:vit_tiny_patch16_224"),
    ],
)
def test_a_name_without_its_library_is_suggested_with_it(name: str, suggested: str) -> None:
    pytest.importorskip(suggested.partition(":")[0])
    with raises("capture.unknown-model", name, "did you mean", suggested):
        open_model(name)
    with raises("capture.unknown-model", "expected torchvision:NAME"):
        open_model("no-such-thing-at-all")
