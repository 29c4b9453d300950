"""`nas.jobs.planning.own_data`: a recipe for a user's own data, filled in from its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.jobs.planning import own_data
from nas.jobs.planning.own_data import fill_recipe
from nas.jobs.recipes import read_recipe
from nas.jobs.schema import parse_job
from supernets.networks.capture.captured_model import captured_for, save_capture
from supernets.networks.capture.opening import open_model
from tests.errors import raises
from tests.nas.users_networks import NAME, installed
from tests.supernets.data.dense.faulty import coco, masks, voc, yolo

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
    job = parse_job(fill_recipe(IMAGES, folder), source="filled")
    assert (job.data.path, job.data.image_size, job.supernet.preset) == (folder, size, preset)
    assert (job.training.epochs, job.training.augment.shift) == (60, shift)


def test_the_comments_stay_and_epochs_fall_with_the_number_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = images(tmp_path / "photos", side=32, n=10)
    monkeypatch.setattr(own_data, "_TRAINING_IMAGES", 400)
    text = fill_recipe(IMAGES, folder)
    assert parse_job(text, source="filled").training.epochs == 20
    assert [line.partition("#")[2] for line in text.splitlines()] == [
        line.partition("#")[2] for line in IMAGES.splitlines()
    ]


MODEL = read_recipe("own-image-model")


def test_a_function_of_the_users_is_filled_in_with_a_size_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch)
    folder = images(tmp_path / "photos", side=32, n=2)
    job = parse_job(fill_recipe(MODEL, folder, model=f"{NAME}:Colours"), source="filled")
    assert (job.supernet.model, job.supernet.weights, job.data.image_size) == (f"{NAME}:Colours", None, 32)
    assert job.data.channels == 3
    assert parse_job(fill_recipe(MODEL, folder, model=f"{NAME}:build"), source="filled").data.channels == 1
    text = fill_recipe(MODEL, folder, model=f"{NAME}:Colours", weights="own.pt")
    assert parse_job(text, source="filled").supernet.weights == "own.pt"


def test_a_model_of_a_library_has_its_weights_and_its_own_size_where_it_takes_no_other(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    folder = images(tmp_path / "photos", side=64, n=2)
    job = parse_job(fill_recipe(MODEL, folder), source="filled")
    assert (job.supernet.weights, job.data.image_size, job.training.epochs) == ("hub", 64, 20)
    fixed = parse_job(fill_recipe(MODEL, folder, model="torchvision:vit_b_32", weights="none"), source="filled")
    assert (fixed.supernet.weights, fixed.data.image_size) == (None, 224)
    with raises("capture.unknown-model", "did you mean", "mobilenet_v3_small"):
        fill_recipe(MODEL, folder, model="torchvision:mobilenet_v3_smal")


def test_a_captured_model_has_the_size_that_it_was_captured_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch)
    save_capture(tmp_path / "own.capture", captured_for(open_model(f"{NAME}:Colours"), (3, 16, 16)))
    folder = images(tmp_path / "photos", side=32, n=2)
    job = parse_job(fill_recipe(MODEL, folder, model=str(tmp_path / "own.capture")), source="filled")
    assert (job.data.image_size, job.supernet.weights, job.training.epochs) == (16, None, 20)


def test_a_recipe_with_networks_of_its_own_takes_no_model(tmp_path: Path) -> None:
    with raises("recipe.without-model", "model torchvision:resnet18: the recipe own-images", "own-image-model"):
        fill_recipe(IMAGES, tmp_path, model="torchvision:resnet18")
    with raises("recipe.without-model", "weights hub"):
        fill_recipe(IMAGES, tmp_path, weights="hub")


def test_sentences_have_their_path_filled_in(tmp_path: Path) -> None:
    table = tmp_path / "reviews.csv"
    table.write_text("text,label\n")
    for recipe in ("own-sentences", "minilm-text"):
        assert parse_job(fill_recipe(read_recipe(recipe), table), source="filled").data.path == table


@pytest.mark.parametrize(
    ("name", "text", "task"),
    [
        ("a.csv", "x,label\n1,cat\n2,dog\n", "classification"),
        ("a.tsv", "x\tTarget\n1\tcat\n2\t3\n", "classification"),
        ("a.jsonl", '{"x": 1, "class": "cat"}\n{"x": 2, "class": "dog"}\n', "classification"),
        ("a.csv", "x,target\n1,2.5\n2,\n3,4e2\n", "regression"),
        ("a.csv", "x,price\n1,cat\n", "regression"),
        ("a.csv", "", "regression"),
        ("a.jsonl", "no json", "regression"),
    ],
)
def test_the_task_of_a_table_follows_from_its_labels(tmp_path: Path, name: str, text: str, task: str) -> None:
    (tmp_path / name).write_text(text)
    recipe = read_recipe("own-numbers")
    job = parse_job(filled := fill_recipe(recipe, tmp_path / name), source="filled")
    assert job.task == task
    assert job.objectives == (("accuracy", "macs") if task == "classification" else ("mae", "macs"))
    assert filled.count("#") == recipe.count("#")


@pytest.mark.parametrize(
    ("make", "name", "recipe"),
    [
        (coco, "coco", "own-detector"),
        (yolo, "yolo", "own-detector"),
        (voc, "voc", "own-detector"),
        (masks, "segmentation-folder", "own-segmenter"),
    ],
)
def test_the_format_of_boxes_and_masks_is_recognised(
    tmp_path: Path, make: Callable[[Path], Path], name: str, recipe: str
) -> None:
    path = make(tmp_path)
    data = parse_job(fill_recipe(read_recipe(recipe), path), source="job").data
    assert (data.name, data.path, data.images) == (name, path, None)
    other = {"own-detector": "own-segmenter", "own-segmenter": "own-detector"}[recipe]
    with raises("recipe.unfit-data", name):
        fill_recipe(read_recipe(other), path)


def test_what_cannot_be_filled_in(tmp_path: Path) -> None:
    with raises("recipe.without-path", "digits-cnn has data of its own", "own-images"):
        fill_recipe(read_recipe("digits-cnn"), tmp_path)
    with raises("data.missing", "data ", "gone: does not exist"):
        fill_recipe(IMAGES, tmp_path / "gone")
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with raises("data.layout", "photos.zip: is a file; expected a folder"):
        fill_recipe(IMAGES, tmp_path / "photos.zip")
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "notes.png").write_text("no image")
    with raises("data.layout", "no image can be read", ".png"):
        fill_recipe(IMAGES, tmp_path / "photos")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((".",), "photos: holds 2 images outside of class folders (0.png, 1.png); expected path/CLASS/IMAGE"),
        (("cat",), "photos: holds the folder of 1 class (cat); expected at least 2"),
        (("train/cat", "train/dog", "test/cow"), "test: has classes that"),
        (("cat/old", "dog/old"), "old: is a folder inside a class folder"),
    ],
)
def test_images_without_folders_of_classes_are_rejected_as_by_their_job(
    tmp_path: Path, classes: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "photos"
    images(folder, side=8, n=2, classes=classes)
    with raises("data.layout", "data ", message):
        fill_recipe(IMAGES, folder)
