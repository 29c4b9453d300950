"""`supernets.data.checking` and `recognition`: what a job can be trained on passes, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from supernets.data import DocumentOptions, ImageOptions, RowOptions, TextOptions, image_folder
from supernets.data.checking import CheckedData, check_data
from supernets.data.recognition import recognise, recognise_targets
from tests.errors import raises
from tests.supernets.data.dense.faulty import coco, masks, voc, yolo
from tests.supernets.data.test_image_folder import write_images

IMAGES = ImageOptions()


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("dog", "cat"):
        write_images(tmp_path / "pets" / name, 10)
    return tmp_path / "pets"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class TestImages:
    def test_the_contents_are_counted(self, pets: Path) -> None:
        assert check_data("image-folder", pets, options=IMAGES) == CheckedData(20, "image", ("cat", "dog"), 20, 12)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
    def test_a_truncated_image_is_named(self, pets: Path, kind: str) -> None:
        file = pets / "dog" / f"large.{kind.lower()}"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
        check_data("image-folder", pets, options=IMAGES)
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) * 2 // 3])
        with raises("data.unreadable", file.name):
            check_data("image-folder", pets, options=IMAGES)
        skipping = check_data("image-folder", pets, options=ImageOptions(skip_unreadable=True))
        assert skipping.n_examples == 20

    def test_a_single_class_and_copies_in_two_classes(self, pets: Path) -> None:
        (pets / "dog" / "x.png").write_bytes((pets / "cat" / "03.png").read_bytes())
        with raises("data.duplicate", "x.png"):
            check_data("image-folder", pets, options=IMAGES)
        for file in (pets / "dog").iterdir():
            file.unlink()
        (pets / "dog").rmdir()
        with raises("data.unsplittable", "1 class"):
            check_data("image-folder", pets, options=IMAGES)

    def test_of_many_pixels_a_spread_share_is_decoded(self, pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        decoded = []
        read = image_folder.decode
        monkeypatch.setattr(
            image_folder, "decode", lambda image, channels: decoded.append(image) or read(image, channels)
        )
        checked = check_data("image-folder", pets, options=IMAGES, max_pixels=7 * 12 * 12)
        assert checked.n_decoded == len(decoded) == 7
        assert checked.n_examples == 20
        assert check_data("image-folder", pets, options=IMAGES, max_pixels=1).n_decoded == 1

    def test_a_table_of_images(self, pets: Path) -> None:
        names = [f"{name}/{i:02}.png" for name in ("cat", "dog") for i in range(10)]
        table = write(pets / "labels.csv", "image,label\n" + "".join(f"{n},{n[:3]}\n" for n in names))
        assert check_data("image-table", table, options=IMAGES).class_names == ("cat", "dog")
        (pets / "cat" / "03.png").unlink()
        with raises("data.unreadable", "03.png"):
            check_data("image-table", table, options=IMAGES)


NUMBERS = "a,b,target\n" + "".join(f"{i},{i % 7},{i / 3}\n" for i in range(40))
SENTENCES = "text,label\n" + "".join(f"a sentence {i},{'good' if i % 2 else 'bad'}\n" for i in range(20))
PAIRS = "source,target\n" + "".join(f"text {i},answer {i}\n" for i in range(20))
DOCUMENTS = "\n\n".join(f"Paragraph number {i}." for i in range(20))


def test_tables_and_texts(tmp_path: Path) -> None:
    numbers = write(tmp_path / "n.csv", NUMBERS)
    assert check_data("number-table", numbers, options=RowOptions(), targets="numbers").n_examples == 40
    checked = check_data("text-classification", write(tmp_path / "s.csv", SENTENCES), options=TextOptions())
    assert (checked.n_examples, checked.class_names, checked.n_decoded) == (20, ("bad", "good"), None)
    pairs = write(tmp_path / "p.csv", PAIRS)
    assert check_data("text-pairs", pairs, options=DocumentOptions()).n_examples == 20
    assert check_data("text", write(tmp_path / "d.txt", DOCUMENTS), options=DocumentOptions()).noun == "document"
    one_class = write(tmp_path / "o.csv", SENTENCES.replace("good", "bad"))
    with raises("data.unsplittable", "1 class"):
        check_data("text-classification", one_class, options=TextOptions())
    with raises("data.malformed-table", "n.csv:2", "'a'"):
        check_data("number-table", write(tmp_path / "n.csv", NUMBERS.replace("0,0", "x,0", 1)), options=RowOptions())
    with raises("data.invalid-option", "number-table"):
        check_data("number-table", numbers, options=IMAGES)


KINDS = {
    "number-table": {"numbers.csv": NUMBERS},
    "text-classification": {"reviews.csv": SENTENCES},
    "text-pairs": {"pairs.tsv": PAIRS.replace(",", "\t")},
    "text": {"corpus.txt": DOCUMENTS},
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_recognised(tmp_path: Path, kind: str) -> None:
    for name, text in KINDS[kind].items():
        write(tmp_path / name, text)
    (name,) = KINDS[kind]
    assert recognise(tmp_path, columns={}, encoding="utf-8") == (kind, tmp_path / name)


def test_folders_are_recognised(pets: Path, tmp_path: Path) -> None:
    assert recognise(pets, columns={}, encoding="utf-8") == ("image-folder", pets)
    table = write(pets / "labels.csv", "image,label\ncat/01.png,cat\n")
    assert recognise(pets, columns={}, encoding="utf-8") == ("image-table", table)
    parts = tmp_path / "parts"
    for part in ("train", "test"):
        write(parts / f"{part}.csv", SENTENCES)
    assert recognise(parts, columns={}, encoding="utf-8") == ("text-classification", parts)
    texts = tmp_path / "texts"
    for part in ("train", "validation"):
        write(texts / f"{part}.txt", DOCUMENTS)
    assert recognise(texts, columns={}, encoding="utf-8") == ("text", texts)


@pytest.mark.parametrize(
    ("name", "make"), [("coco", coco), ("yolo", yolo), ("voc", voc), ("segmentation-folder", masks)]
)
def test_boxes_and_masks_are_recognised_and_counted(tmp_path: Path, name: str, make: Callable[[Path], Path]) -> None:
    make(tmp_path)
    assert recognise(tmp_path, columns={}, encoding="utf-8") == (name, tmp_path)
    checked = check_data(name, tmp_path, options=IMAGES)
    assert (checked.n_examples, checked.n_decoded, len(checked.class_names)) == (12, 12, 2)
    next(tmp_path.rglob("3.png")).write_bytes(b"no image")
    with raises("data.unreadable", "3.png"):
        check_data(name, tmp_path, options=IMAGES)


def test_what_cannot_be_recognised_says_what_to_name(tmp_path: Path) -> None:
    classes = tmp_path / "classes"
    for name in ("good", "bad"):
        write(classes / f"{name}.txt", "one\ntwo\nthree\nfour\n")
    with raises("data.layout", "text-classification"):
        recognise(classes, columns={}, encoding="utf-8")
    named = recognise(classes, name="text-classification", columns={}, encoding="utf-8")
    assert named == ("text-classification", classes)
    odd = write(tmp_path / "odd" / "t.csv", "review,stars\nit was fine,3\n").parent
    with raises("data.layout", "'review', 'stars'"):
        recognise(odd, columns={}, encoding="utf-8")
    columns = {"text_column": "review", "label_column": "stars"}
    assert recognise(odd, columns=columns, encoding="utf-8")[0] == "text-classification"
    with raises("data.invalid-option", "image-folder"):
        recognise(odd, name="images", columns={}, encoding="utf-8")
    with raises("data.invalid-option", "rot13"):
        recognise(odd, columns=columns, encoding="rot13")
    alone = write(tmp_path / "alone" / "labels.csv", "image,label\na/1.png,a\n").parent
    with raises("data.layout", "not beside it"):
        recognise(alone, columns={}, encoding="utf-8")
    with raises("data.layout", "2 tables"):
        write(odd / "u.csv", NUMBERS)
        recognise(odd, name="number-table", columns={}, encoding="utf-8")
    with raises("data.layout", "nothing"):
        (tmp_path / "empty").mkdir()
        recognise(tmp_path / "empty", columns={}, encoding="utf-8")


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        (["cat", "dog"], "classes"),
        (["0", "1", "2"], "classes"),
        (["0.5", "1"], "numbers"),
        ([str(i) for i in range(21)], "numbers"),
        (["red round", "red"], "sets"),
    ],
)
def test_kinds_of_labels_are_recognised(tmp_path: Path, labels: list[str], targets: str) -> None:
    table = write(tmp_path / "t.csv", "image,label\n" + "".join(f"{i}.png,{label}\n" for i, label in enumerate(labels)))
    assert recognise_targets(table, "image-table", label_column=None) == targets
    flags = write(tmp_path / "f.csv", "image,red,round\na.png,1,0\n")
    assert recognise_targets(flags, "image-table", label_column=None) == "sets"


def test_data_are_checked_without_torch() -> None:
    text = "import sys, supernets.data.checking, supernets.data.recognition; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
