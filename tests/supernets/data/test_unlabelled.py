from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from supernets.data import ImageOptions, TextOptions, load_data, some_images
from supernets.errors import DataError

IMAGES, SENTENCES = ImageOptions(labelled=False), TextOptions(labelled=False, vocabulary=100, max_tokens=8)


def write_images(folder: Path, n: int, size: int = 4) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / f"{i:03}.png")


def test_images_of_all_depths_are_read_once_and_divided(tmp_path: Path) -> None:
    write_images(tmp_path, 6)
    write_images(tmp_path / "holiday" / "beach", 8)
    (tmp_path / "notes.txt").write_text("of the camera")
    write_images(tmp_path / ".thumbnails", 2)
    data = load_data("image-folder", path=tmp_path, options=IMAGES, validation=4, test=3)
    parts = [{*map(bytes, part.inputs.numpy())} for part in (data.train, data.validation, data.test)]
    assert [*map(len, parts)] == [1, 4, 3]  # six images of the folder below are copies of those above
    assert len(set.union(*parts)) == 8
    assert (data.targets, data.class_names) == ("none", ())
    assert not any(part.labels.any() for part in (data.train, data.validation, data.test))
    names = {name for part in (data.train, data.validation, data.test) for name in part.names}
    assert "holiday/beach/007.png" in names


def test_examples_are_spread_over_the_folder(tmp_path: Path) -> None:
    write_images(tmp_path, 20)
    data = load_data(
        "image-folder", path=tmp_path, options=ImageOptions(labelled=False, examples=5), validation=1, test=1
    )
    names = sorted(name for part in (data.train, data.validation, data.test) for name in part.names)
    assert names == [f"{i:03}.png" for i in (0, 4, 8, 12, 16)]
    assert len(some_images("image-folder", tmp_path, channels=3, n=4, labelled=False)) == 4


def test_sentences_are_lines_and_rows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"line {i} of a text" for i in range(10)) + "\n\n")
    (tmp_path / "b.csv").write_text("text,stars\n" + "".join(f"row {i} of a table,3\n" for i in range(6)))
    data = load_data("text-classification", path=tmp_path, options=SENTENCES, validation=4, test=4)
    names = sorted(name for part in (data.train, data.validation, data.test) for name in part.names)
    assert len(names) == 16
    assert names[0] == "a.txt:1"
    assert names[-1] == "b.csv:7"
    single = load_data("text-classification", path=tmp_path / "a.txt", options=SENTENCES, validation=2, test=2)
    assert len(single.train) == 6


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ({}, "data.layout", "holds no images"),
        ({"a.png": b"no image"}, "data.unreadable", "cannot be read"),
        ({"a.png": 1}, "data.unsplittable", "holds 1 different image(s); expected at least 3"),
        ({"a.png": 1, "b/c.png": 2, "d.png": b""}, "data.unreadable", "d.png"),
    ],
)
def test_folders_without_enough_images_are_rejected(
    tmp_path: Path, content: dict[str, bytes | int], code: str, words: str
) -> None:
    for name, value in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if isinstance(value, bytes):
            (tmp_path / name).write_bytes(value)
        else:
            Image.new("RGB", (4, 4), (value, 0, 0)).save(tmp_path / name)
    with pytest.raises(DataError, match=words.replace("(", r"\(").replace(")", r"\)")) as raised:
        load_data("image-folder", path=tmp_path, options=IMAGES)
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "\n \n", "holds no sentences"),
        ("a.csv", "words,stars\nbad,1\n", "no text column"),
        ("a.jsonl", '{"text": 3}\n', "has no text"),
        ("a.txt", "x" * 100_001, "100001 characters"),
        ("a.txt", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "at least 3"),
    ],
)
def test_files_without_sentences_are_rejected(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        load_data("text-classification", path=tmp_path, options=SENTENCES)
