"""The whole path for a user's model on own images: init, plan, search and export; for a shipped family, a tutorial runs it."""

from __future__ import annotations

import json
import re
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
