"""The whole path for a user's own images: init, plan, search, export, and the script of the export."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.nas.commands import Shell
from tests.nas.users_networks import NAME, installed

N_IMAGES = 900


def write_digits(folder: Path) -> None:
    """Scikit-learn's digits as PNG files of several sizes, a folder for each class."""
    images, labels = load_digits(return_X_y=True)
    for i, (pixels, label) in enumerate(zip(images[:N_IMAGES], labels[:N_IMAGES], strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels.reshape(8, 8) * 255 / 16).astype(np.uint8))
        image.resize((16 + i % 3, 16), Image.Resampling.BICUBIC).save(folder / str(label) / f"{i:04}.png")


@pytest.mark.slow
def test_from_a_folder_of_images_to_predictions(shell: Shell) -> None:
    write_digits(shell.folder / "photos")
    made = shell.nas("init", "own-images", "--data", "photos")
    assert made.code == 0, made.err
    job = shell.folder / "own-images.yaml"
    text = job.read_text()
    assert re.search(r"image_size: 16 .*\n", text)
    assert "preset: digits" in text
    smaller = re.sub(r"epochs: \d+", "epochs: 12", text).replace("evaluations: 60", "evaluations: 8")
    job.write_text(smaller)
    planned = shell.nas("plan", job, "--no-time", "--inline", "--json")
    assert planned.code == 0, planned.err
    assert sum(planned.data["images"].values()) == N_IMAGES
    assert shell.nas("search", job, "--inline").code == 0
    exported = shell.nas("export", "own-images-1", "-o", "exports", "--json")
    assert exported.code == 0, exported.err
    listed = shell.nas("show", "own-images-1", "--test-files").out.splitlines()[:40]
    files = dict(line.split("\t") for line in listed)
    answers = subprocess.run(
        [sys.executable, exported.data["script"], *(f"photos/{file}" for file in files)],
        cwd=shell.folder, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    predicted = [line.partition(": ")[2].split()[0] for line in answers]
    assert sum(np.array(predicted) == list(files.values())) >= 20, answers


@pytest.mark.slow
def test_a_users_model_on_a_folder_of_images_keeps_the_names_of_the_classes(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(shell.folder, monkeypatch)
    write_digits(shell.folder / "photos")
    (shell.folder / "photos" / "9").rename(shell.folder / "photos" / "nine")
    assert shell.nas("init", "own-image-model", "--data", "photos", "--model", f"{NAME}:Colours").code == 0
    job = shell.folder / "own-image-model.yaml"
    text = re.sub(r"epochs: \d+", "epochs: 1", job.read_text()).replace("evaluations: 60", "evaluations: 3")
    job.write_text(text.replace("batch: 8", "batch: 3").replace("algorithm: guided", "algorithm: random"))
    planned = shell.nas("plan", job, "--no-time", "--inline", "--json")
    assert planned.code == 0, planned.err
    assert planned.data["model"]["input"] == [3, 16, 16]
    assert shell.nas("search", job, "--inline").code == 0
    exported = shell.nas("export", "own-image-model-1", "-o", "exports", "--json")
    assert exported.code == 0, exported.err
    classes = [*map(str, range(9)), "nine"]
    assert json.loads(Path(shell.folder / exported.data["manifest"]).read_text())["classes"] == classes
    written = shell.nas("export", "own-image-model-1", "--format", "torch", "-o", "network.py")
    assert written.code == 0, written.err
    assert f"CLASSES = {json.dumps(classes)}" in (shell.folder / "network.py").read_text()
