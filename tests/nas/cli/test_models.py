"""`nas inspect` and `nas capture` on a module of the user's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from supernets.networks.operations import RULES
from tests.nas.commands import Shell
from tests.nas.users_networks import MODEL, installed
from tests.supernets.networks.formats.test_pretrained import install
from tests.supernets.networks.onnx_models.files import classifier, write


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    installed(tmp_path, monkeypatch)
    return Shell(tmp_path, capsys, monkeypatch)


NAME, INPUT = MODEL, ("--input", "1x8x8")


def test_a_model_is_inspected(shell: Shell) -> None:
    found = shell.nas("inspect", NAME, *INPUT, "--json").data
    assert found["input"] == [1, 8, 8]
    assert {choice["kind"] for choice in found["choices"]} == {"width", "depth"}
    assert found["elastic_share_of_macs"] == 1
    assert found["proof"]["holds"]
    assert found["smallest"]["macs"] < found["largest"]["macs"]
    text = shell.nas("inspect", NAME, *INPUT).out
    assert max(map(len, text.splitlines())) <= 80
    assert "blocks.0" in text
    assert "head.weight" in text
    listed = shell.nas("inspect", NAME, *INPUT, "--layers").out
    assert max(map(len, listed.splitlines())) <= 80
    for choice in found["choices"]:
        assert choice["title"] in text
        assert not set(choice["members"]) - set(re.findall(r"[\w.]+", listed))


def test_the_work_of_the_layers_is_drawn_before_anything_is_trained(shell: Shell) -> None:
    made = shell.nas("inspect", NAME, *INPUT, "--no-proof", "--plot", "layers.png", "--json")
    assert made.code == 0, made.err
    layers = made.data["layers"]
    assert sum(layer["macs"] for layer in layers) == made.data["largest"]["macs"]
    assert sum(layer["smallest_macs"] for layer in layers) == made.data["smallest"]["macs"]
    with Image.open(shell.folder / "layers.png") as picture:
        assert picture.size[0] == 1200
    text = shell.nas("inspect", NAME, *INPUT, "--no-proof").out
    [bars] = [line for line in text.splitlines() if line.startswith("  blocks.0 ")]
    assert "░" in bars
    job = shell.job(f'name: own\ndata: {{name: digits}}\nsupernet: {{model: "{NAME}"}}\n')
    planned = shell.nas("plan", job, "--inline", "--no-time", "--plot", "plan.svg")
    assert planned.code == 0, planned.err
    assert "in every network" in planned.out
    assert "blocks.0" in (shell.folder / "plan.svg").read_text()
    seven = shell.job(f'name: own\ndata: {{name: digits}}\nsupernet: {{model: "{NAME}", arguments: {{classes: 7}}}}\n')
    noted = shell.nas("plan", seven, "--inline", "--no-time").out
    assert "\nnotes:\n- head has 7 outputs" in noted
    assert shell.nas("inspect", NAME, *INPUT, "--plot", "layers.jpg").error == "plot.invalid-path"
    other = shell.job("name: small\ndata: {name: digits}\nsupernet: {preset: digits}\n")
    assert shell.nas("plan", other, "--inline", "--plot", "plan.png").code == 2


def test_kept_layers_are_no_choices(shell: Shell) -> None:
    found = shell.nas("inspect", NAME, *INPUT, "--keep", "blocks.*", "--no-proof", "--json").data
    assert {choice["kind"] for choice in found["choices"]} == {"width"}
    assert found["proof"] is None


def test_a_captured_file_stands_for_the_model(shell: Shell) -> None:
    made = shell.nas("capture", NAME, *INPUT, "-o", "own.capture")
    assert made.code == 0
    (shell.folder / "users_networks.py").unlink()
    of_file = shell.nas("inspect", "own.capture", "--json").data
    assert of_file["proof"]["original"] is None
    assert of_file["proof"]["holds"]
    wrong = shell.nas("inspect", "own.capture", "--input", "1x9x9")
    assert wrong.error == "job.conflict"


def test_an_onnx_file_is_inspected_and_captured(shell: Shell) -> None:
    write(shell.folder / "model.onnx", classifier())
    shown = shell.nas("inspect", "model.onnx")
    assert shown.code == 0
    assert "body" in shown.out
    assert "softmax" in shown.out
    assert "proof: holds" in shown.out
    assert shell.nas("capture", "model.onnx", "-o", "model.capture").code == 0
    assert shell.nas("inspect", "model.capture", "--json").data["choices"]
    (shell.folder / "damaged.onnx").write_bytes(b"nothing")
    assert shell.nas("inspect", "damaged.onnx").error == "capture.onnx-malformed"


def test_arguments_are_those_of_the_function(shell: Shell) -> None:
    wide = ("--arguments", "{width: 24}")
    found = shell.nas("inspect", NAME, *INPUT, *wide, "--no-proof", "--json").data
    plain = shell.nas("inspect", NAME, *INPUT, "--no-proof", "--json").data
    assert found["largest"]["parameters"] > plain["largest"]["parameters"]
    assert shell.nas("capture", NAME, *INPUT, *wide, "-o", "wide.capture").code == 0
    of_file = shell.nas("inspect", "wide.capture", "--no-proof", "--json").data
    assert of_file["largest"] == found["largest"]
    assert shell.nas("inspect", "wide.capture", *wide).error == "job.conflict"
    assert shell.nas("inspect", NAME, *INPUT, "--arguments", "24").error == "job.invalid-yaml"
    assert shell.nas("inspect", NAME, *INPUT, "--arguments", "{wide: 24}").error == "capture.model-unusable"


def test_weights_are_loaded_and_others_refused(shell: Shell) -> None:
    import users_networks  # type: ignore[import-not-found]

    torch.save(users_networks.build().state_dict(), shell.folder / "w.pt")
    torch.save(users_networks.build(width=24).state_dict(), shell.folder / "other.pt")
    assert shell.nas("inspect", NAME, *INPUT, "--weights", "w.pt", "--no-proof").code == 0
    refused = shell.nas("inspect", NAME, *INPUT, "--weights", "other.pt")
    assert refused.error == "capture.other-weights"
    assert "stem.weight" in refused.err


def test_weights_of_a_package_are_loaded(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    import users_networks

    monkeypatch.syspath_prepend(shell.folder)
    install(shell.folder, "a_model", "a_model/net.pth")
    torch.save(users_networks.build().state_dict(), shell.folder / "a_model" / "net.pth")
    assert shell.nas("inspect", NAME, *INPUT, "--weights", "package:a_model", "--no-proof").code == 0
    job = shell.job(
        f"""
name: own
data: {{name: digits, validation: 0.25, test: 0.25}}
supernet: {{model: "{NAME}", weights: "package:a_model"}}
"""
    )
    assert shell.nas("plan", job, "--inline", "--no-time", "--json").code == 0
    missing = shell.nas("plan", shell.job((shell.folder / job).read_text().replace("a_model", "b_model")), "--inline")
    assert missing.error == "pretrained.not-found"
    assert "supernet.weights: the package b_model" in missing.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((NAME,), "capture.input-unknown"),
        ((NAME, "--input", "3xa"), "job.invalid-value"),
        ((NAME, "--input", "3x8x8"), "capture.failed"),
        ((NAME, *INPUT, "--granularity", "block"), "job.invalid-value"),
        (("missing.capture",), "capture.unknown-model"),
        (("missing.onnx",), "capture.unknown-model"),
        ((NAME, *INPUT, "--keep", "*"), "capture.nothing-elastic"),
    ],
)
def test_bad_arguments_are_refused(shell: Shell, arguments: tuple[str, ...], code: str) -> None:
    assert shell.nas("inspect", *arguments).error == code


@pytest.mark.parametrize(
    ("name", "is_file"),
    [("nope", False), ("resnet18", False), ("nope.capture", True), ("nope.onnx", False), ("a/nope", True)],
)
def test_a_capture_is_suggested_for_the_name_of_a_file_alone(shell: Shell, name: str, is_file: bool) -> None:
    assert ("next: nas capture" in shell.nas("inspect", name).err) is is_file


class TestAnUnprovedModel:
    """A model whose axes are not understood, here by a rule that is wrong, is rejected by every command with its axis."""

    NAME = "users_networks:Flipping"
    AXIS = "stem.out, in stem.weight"

    @pytest.fixture(autouse=True)
    def _wrong_rule(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(RULES, "flip", lambda ctx, call: ctx.tensor_dims(call.arguments["self"]))

    def test_inspecting_it_shows_all_and_fails(self, shell: Shell) -> None:
        shown = shell.nas("inspect", self.NAME, *INPUT)
        assert (shown.code, shown.error) == (1, "capture.unproved")
        assert "proof: DOES NOT HOLD" in shown.out
        assert self.AXIS in shown.err
        of_json = shell.nas("inspect", self.NAME, *INPUT, "--json")
        assert (of_json.code, of_json.error) == (1, "capture.unproved")
        assert not of_json.data["proof"]["holds"]
        assert [axis["name"] for axis in of_json.data["proof"]["wrong_axes"]] == ["stem.out"]
        assert shell.nas("inspect", self.NAME, *INPUT, "--keep", "stem.*").code == 0
        assert shell.nas("inspect", self.NAME, *INPUT, "--no-proof").code == 0

    def test_it_is_not_captured(self, shell: Shell) -> None:
        refused = shell.nas("capture", self.NAME, *INPUT, "-o", "own.capture")
        assert refused.error == "capture.unproved"
        assert self.AXIS in refused.err
        assert not (shell.folder / "own.capture").exists()

    def test_a_job_rejects_it_unless_the_axis_is_kept(self, shell: Shell) -> None:
        text = 'name: own\ndata: {{name: digits}}\nsupernet: {{model: "{}"{}}}\n'
        refused = shell.nas("plan", shell.job(text.format(self.NAME, "")), "--inline", "--no-time")
        assert refused.error == "capture.unproved"
        assert self.AXIS in refused.err
        kept = shell.nas("plan", shell.job(text.format(self.NAME, ", keep: [stem.*]")), "--inline", "--no-time")
        assert kept.code == 0, kept.err
