"""`nas.planning.own_data`: a recipe for a user's own data, filled in from its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.config import parse_job
from nas.planning import own_data
from nas.planning.own_data import filled
from nas.recipes import read_recipe
from supernets.data import image_folder
from tests.errors import raises

IMAGES = read_recipe("own-images")


def images(folder: Path, *, side: int, n: int, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 255, (side, side + i % 3, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("side", "size", "preset", "shift"),
    [
        (5, 8, "digits", 0),
        (8, 8, "digits", 0),
        (16, 16, "digits", 1),
        (31, 24, "tiny", 1),
        (64, 64, "tiny", 2),
        (130, 128, "mobile", 2),
        (500, 224, "mobile", 2),
    ],
)
def test_image_size_preset_and_shifts_follow_from_the_sizes_of_the_images(
    tmp_path: Path, side: int, size: int, preset: str, shift: int
) -> None:
    folder = images(tmp_path / "my photos: all", side=side, n=2)
    job = parse_job(filled(IMAGES, folder), source="filled")
    assert (job.data.path, job.data.image_size, job.supernet.preset) == (folder, size, preset)
    assert (job.training.epochs, job.training.augment.shift) == (60, shift)


def test_the_comments_stay_and_epochs_fall_with_the_number_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = images(tmp_path / "photos", side=32, n=10)
    monkeypatch.setattr(own_data, "_SEEN", 400)
    text = filled(IMAGES, folder)
    assert parse_job(text, source="filled").training.epochs == 20
    assert [line.partition("#")[2] for line in text.splitlines()] == [
        line.partition("#")[2] for line in IMAGES.splitlines()
    ]


def test_sentences_have_their_path_filled_in(tmp_path: Path) -> None:
    table = tmp_path / "reviews.csv"
    table.write_text("text,label\n")
    for recipe in ("own-sentences", "minilm-text"):
        assert parse_job(filled(read_recipe(recipe), table), source="filled").data.path == table


def test_what_cannot_be_filled_in(tmp_path: Path) -> None:
    with raises("recipe.without-path", "digits-cnn has data of its own", "own-images"):
        filled(read_recipe("digits-cnn"), tmp_path)
    with raises("data.missing", "--data", "gone: does not exist"):
        filled(IMAGES, tmp_path / "gone")
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with raises("data.layout", "photos.zip: is a file; expected a folder"):
        filled(IMAGES, tmp_path / "photos.zip")
    (tmp_path / "notes.png").write_text("no image")
    with raises("data.layout", "no image can be read", ".png"):
        filled(IMAGES, tmp_path)


def test_the_files_looked_at_are_those_that_a_job_reads() -> None:
    assert own_data.SUFFIXES == image_folder.SUFFIXES
