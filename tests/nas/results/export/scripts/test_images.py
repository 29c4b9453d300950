"""The script beside an export reproduces the promised accuracy on the run's own test images, from the training's own inputs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from hardware_profiles.runtime import run_calls
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.job_data import SPLIT_SEED
from nas.jobs.build.trained_run import load_trained_run
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.runs.driver import run as search
from nas.runs.run import Run
from supernets.data.fashion_mnist import fashion_mnist, find
from supernets.data.splitting import split
from tests.nas.commands import Shell
from tests.nas.results.export.digit_images import write_digits
from tests.nas.results.export.running_scripts import found_by, prediction_of
from tests.nas.tasks.test_pixel_task import write_some

JOB = """
name: photos
seed: 3
data: {data}
supernet:
  family: mobile-cnn
  space:
    stem: 8
    stem_stride: 1
    stages:
      - {{stride: 2, depth: [1, 2], width: [8, 16], kernel: [3], expand: [1, 4]}}
    head: 32
training: {{epochs: {epochs}, batch_size: 64, random_subnets: 1}}
objectives: [accuracy, macs]
search: {{algorithm: random, evaluations: 8, batch: 8}}
calibration_images: 300
"""


def searched(runs: Path, data: str, *, epochs: int) -> Run:
    job = parse_job(JOB.format(data=data, epochs=epochs), source="job.yaml")
    return search(job, RunOptions(RunsFolder(runs), inline=True))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of files of mixed modes and sizes."""
    folder = tmp_path_factory.mktemp("photos")
    write_digits(folder / "digits", n=800)
    data = f"name: image-folder, path: {folder / 'digits'}, image_size: 12, channels: 3, crop: 0.95"
    return searched(folder / "runs", f"{{{data}, interpolation: bicubic}}", epochs=12)


def test_a_broken_file_is_named_and_the_others_are_classified(photos: Run, tmp_path: Path) -> None:
    script = photos.export(tmp_path, select="accuracy>=0")["script"]
    broken, whole = tmp_path / "broken.png", tmp_path / "whole.png"
    broken.write_bytes(b"no image")
    Image.new("L", (20, 20), 200).save(whole)
    run = partial(subprocess.run, capture_output=True, text=True, check=False, timeout=120)
    done = run([sys.executable, script, str(broken), str(tmp_path), str(whole)])
    assert done.returncode == 1
    assert done.stdout.startswith(f"{whole}: ")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [str(broken), str(tmp_path)]
    done = run([sys.executable, script])
    assert (done.returncode, done.stdout) == (2, "")
    assert "FILE" in done.stderr
    renamed = Path(script).rename(tmp_path / "other.predict.py")
    done = run([sys.executable, renamed, str(whole)])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{tmp_path / 'other.onnx'}: no such file; ")
    assert done.stderr.count("\n") == 1


def test_it_ends_quietly_where_its_reader_has_left(photos: Run, tmp_path: Path) -> None:
    script = photos.export(tmp_path, select="accuracy>=0")["script"]
    Image.new("L", (20, 20), 200).save(tmp_path / "one.png")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-u", script, *["one.png"] * 3]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, check=False, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize("in_graph", [False, True])
def test_images_of_a_folder(photos: Run, tmp_path: Path, in_graph: bool) -> None:
    made = photos.export(tmp_path, select="accuracy>=0", with_preprocessing=in_graph)
    manifest = json.loads(Path(made["manifest"]).read_text())
    data = load_trained_run(photos).data.dataset
    assert photos.job.data.path is not None
    files = [photos.job.data.path / name for name in data.test.names]
    found = found_by(Path(made["script"]), files)
    right = [name == file.parent.name for (name, _), file in zip(found, files, strict=True)]
    assert np.mean(right) == manifest["figures"]["test"]["accuracy"]
    assert np.mean(right) > 0.3  # ten classes
    _, preprocess = prediction_of(Path(made["script"]))
    own = [preprocess(str(file)) for file in files]
    if in_graph:
        assert {array.dtype for array in own} == {np.dtype(np.uint8)}
        assert made["parity_on_raw_images"] == 0
        model = onnx.load(made["path"])
        del model.graph.output[:]
        model.graph.output.add(name="input", type=onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
        own = [array for (array,) in run_calls(model.SerializeToString(), ({"image": pixels} for pixels in own))]
    assert np.array_equal(np.concatenate(own), data.test.inputs.numpy())


def test_images_that_the_training_rejects_are_rejected(photos: Run, tmp_path: Path) -> None:
    made = photos.export(tmp_path, index=0)
    Image.fromarray(np.zeros((12, 12), dtype=np.float32)).save(tmp_path / "deep.tiff")
    with pytest.raises(ValueError, match="16 bits a channel"):
        prediction_of(Path(made["script"]))[1](str(tmp_path / "deep.tiff"))


def test_sixteen_bits_of_grey_are_scaled(photos: Run, tmp_path: Path) -> None:
    made = photos.export(tmp_path, index=0)
    levels = np.arange(144, dtype=np.uint16).reshape(12, 12) * 450
    Image.fromarray(levels).save(tmp_path / "deep.png")
    Image.fromarray(np.rint(levels / 257).astype(np.uint8)).save(tmp_path / "grey.png")
    preprocess = prediction_of(Path(made["script"]))[1]
    assert np.array_equal(preprocess(str(tmp_path / "deep.png")), preprocess(str(tmp_path / "grey.png")))


def test_the_model_states_its_preprocessing(photos: Run, tmp_path: Path) -> None:
    for in_graph in (False, True):
        made = photos.export(tmp_path / "x.onnx", index=0, with_preprocessing=in_graph)
        manifest = json.loads((tmp_path / "x.json").read_text())
        metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "x.onnx").metadata_props}
        steps = json.loads(metadata["preprocessing"])
        assert steps == manifest["preprocessing"]
        assert {
            "orientation", "alpha", "channel_order", "grey", "crop", "resized_side", "size", "filter", "antialias", "scale",
            "mean", "std", "layout",
        } <= set(steps)  # fmt: skip
        assert (steps["channel_order"], steps["size"], steps["filter"], steps["antialias"]) == (
            "RGB", [12, 12], "bicubic", True,
        )  # fmt: skip
        assert ("in_graph" in steps) == in_graph
        assert manifest["input"]["name"] == ("image" if in_graph else "input")
        assert set(manifest["files"]) == {"x.onnx", "x.safetensors", "x.predict.py"}
        assert made["script"] == str(tmp_path / "x.predict.py")


def test_files_are_named_after_run_and_network(
    photos: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, capsys, monkeypatch)
    runs = ("--runs", photos.runs.root)
    keys = photos.report.evaluated.keys[:2]
    paths = [Path(shell.nas("export", "photos-1", "--select", f"key={k}", *runs, "--json").data["path"]) for k in keys]
    assert len({path.name for path in paths}) == 2
    assert all(path.name.startswith("photos-1-") for path in paths)
    again = shell.nas("export", "photos-1", "--select", f"key={keys[0]}", "-o", tmp_path, *runs, "--json").data
    assert again["path"] == str(tmp_path / paths[0].name)
    written = {path.name.removeprefix(paths[0].stem) for path in tmp_path.glob(f"{paths[0].stem}*")}
    assert written == {".onnx", ".safetensors", ".json", ".predict.py"}


def test_a_path_that_is_neither_a_folder_nor_onnx_is_rejected(
    photos: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, capsys, monkeypatch)
    made = shell.nas("export", "photos-1", "-o", "network.txt", "--runs", photos.runs.root)
    assert (made.code, made.error) == (1, "export.invalid-path")


def test_a_measured_network_outside_of_the_front_is_exported_by_its_key(photos: Run, tmp_path: Path) -> None:
    report = photos.report
    others = set(report.evaluated.keys) - {point.key for point in report.front}
    assert others
    for key in sorted(others)[:2]:
        assert photos.export(tmp_path, select=f"key={key}")["key"] == key


def test_digits_as_files(tmp_path: Path) -> None:
    """Files of a data set that has none, in more grey levels than it has."""
    run = searched(tmp_path / "runs", "{name: digits}", epochs=3)
    made = run.export(tmp_path, index=0)
    test = load_trained_run(run).data.dataset
    _, preprocess = prediction_of(Path(made["script"]))
    levels = test.test.inputs.numpy() * test.images.std[0] + test.images.mean[0]
    for i, image in enumerate(np.round(levels[:, 0] * 255).astype(np.uint8)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        assert np.array_equal(preprocess(str(tmp_path / f"{i}.png"))[0], test.test.inputs[i].numpy())
    found = found_by(Path(made["script"]), [tmp_path / f"{i}.png" for i in range(len(test.test))])
    right = np.mean([name == str(label) for (name, _), label in zip(found, test.test.labels.tolist(), strict=True)])
    assert right == json.loads(Path(made["manifest"]).read_text())["figures"]["test"]["accuracy"]


@pytest.mark.slow
@pytest.mark.skipif(find() is None, reason="Fashion-MNIST is not on this machine")
def test_fashion_mnist_as_files(tmp_path: Path) -> None:
    """Grey files of another size than the colour images that the networks read."""
    some = write_some(tmp_path / "some")
    data = f"{{name: fashion-mnist, path: {some}, validation: 300, image_size: 20, channels: 3}}"
    run = searched(tmp_path / "runs", data, epochs=1)
    made = run.export(tmp_path, index=0)
    source, dataset = fashion_mnist(some), load_trained_run(run).data.dataset
    test = split(source, validation=300, test=None, seed=SPLIT_SEED).test
    files = [tmp_path / f"{i}.png" for i in range(len(test))]
    _, preprocess = prediction_of(Path(made["script"]))
    for i, file in enumerate(files):
        Image.fromarray(test.inputs[i, 0]).save(file)
        assert np.array_equal(preprocess(str(file))[0], dataset.test.inputs[i].numpy())
    found = found_by(Path(made["script"]), files)
    names = [source.class_names[label] for label in test.labels]
    right = np.mean([name == expected for (name, _), expected in zip(found, names, strict=True)])
    assert right == json.loads(Path(made["manifest"]).read_text())["figures"]["test"]["accuracy"]
