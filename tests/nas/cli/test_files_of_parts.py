"""``nas show RUN --test-files``: with them, a user computes the test accuracy of an exported network again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from tests.nas.commands import SMALL_JOB, Shell, assert_error

JOB = (
    SMALL_JOB.replace("{name: digits,", "{name: image-folder, path: digits, skip_unreadable: true,")
    .replace("epochs: 4", "epochs: 2")
    .replace("[accuracy, latency_ms]", "[accuracy, parameters]")
    .replace("algorithm: guided, evaluations: 30", "algorithm: random, evaluations: 8")
)


@pytest.fixture
def pictures(shell: Shell) -> Path:
    """The digits as PNG files, one of which is no image."""
    images, labels = load_digits(return_X_y=True)
    folder = shell.folder / "digits"
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.reshape(8, 8) * 15).astype(np.uint8)).save(folder / str(label) / f"{i:04}.png")
    (folder / "3" / "none.png").write_bytes(b"no image")
    return folder


def grey(folder: Path, files: list[str]) -> NDArray[np.float64]:
    return np.stack([np.asarray(Image.open(folder / file)) for file in files])[:, None] / 255


@pytest.mark.slow
def test_the_test_accuracy_is_computed_again_from_the_listed_files(shell: Shell, pictures: Path) -> None:
    searched = shell.nas("search", shell.job(JOB), "--inline", "--json")
    assert searched.code == 0, searched.err
    assert "1 file cannot be used and was skipped: 3/none.png" in searched.err
    parts = shell.nas("show", "small-1", "--training-files", "--validation-files", "--test-files", "--json").data[
        "parts"
    ]
    files = {part: [row["name"] for row in rows] for part, rows in parts.items()}
    assert sum(map(len, files.values())) == len({name for names in files.values() for name in names}) == 1797
    training = grey(pictures, files["train"])
    listed = [line.split("\t") for line in shell.nas("show", "small-1", "--test-files").out.splitlines()]
    assert listed == [[row["name"], row["class"]] for row in parts["test"]]

    key = searched.data["front"][0]["key"]
    assert shell.nas("export", "small-1", "--select", f"key={key}", "-o", "small.onnx").code == 0
    session = onnxruntime.InferenceSession(shell.folder / "small.onnx")
    inputs = ((grey(pictures, files["test"]) - training.mean()) / training.std()).astype(np.float32)
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs})
    found = np.mean(outputs.argmax(1) == [int(row["class"]) for row in parts["test"]])
    assert found == pytest.approx(searched.data["front"][0]["test"]["accuracy"])

    (pictures / parts["test"][0]["name"]).unlink()  # other data than the run's
    assert_error(shell.nas("show", "small-1", "--test-files"), "small-1", "data", code="run.incompatible")
