"""Wrong data sets of boxes and masks: each fault is a line with its file and line or entry, and none is a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from supernets.data import ImageOptions, load_data
from supernets.errors import DataError
from tests.supernets.data.dense.faulty import (
    HEIGHT,
    N_IMAGES,
    WIDTH,
    Change,
    annotation,
    change_json,
    coco,
    masks,
    voc,
    voc_object,
    write_image,
    write_mask,
    write_masks,
    write_text,
    yolo,
)

LABELS, LAYOUT, MISSING, UNREADABLE = "data.malformed-labels", "data.layout", "data.missing", "data.unreadable"
Case = tuple[Change, str, str]
"""A change of a right data set, the code of the error, and texts of its lines, between bars."""


def box(i: int, **values: object) -> Change:
    """A change of a box of COCO; None removes a key."""

    def change(content: dict[str, Any]) -> None:
        content["annotations"][i].update(values)

    return change_json(change)


def text(name: str, content: str) -> Change:
    return lambda folder: write_text(folder / name, content)


def truncated(name: str) -> Change:
    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return cut


def removed(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


COCO: dict[str, Case] = {
    "outside": (box(3, bbox=[35, 3, 10, 8]), LABELS, "annotations[3] (id 3): is outside | (35, 3, 45, 11) | 40x30"),
    "negative": (box(3, bbox=[-5, 3, 10, 8]), LABELS, "annotations[3] | (-5, 3, 5, 11)"),
    "no width": (box(0, bbox=[2, 3, 0, 8]), LABELS, "annotations[0] (id 0): has no area | (2, 3, 2, 11)"),
    "negative height": (box(0, bbox=[2, 9, 4, -3]), LABELS, "annotations[0] | has no area"),
    "NaN": (box(5, bbox=[float("nan"), 3, 10, 8]), LABELS, "annotations[5] | nan | finite"),
    "infinite": (box(5, bbox=[1, 3, float("inf"), 8]), LABELS, "annotations[5] | inf | finite"),
    "huge whole number": (box(5, bbox=[1, 3, 10**400, 8]), LABELS, "annotations[5] | bbox | four numbers"),
    "three numbers": (box(5, bbox=[1, 3, 8]), LABELS, "annotations[5] | [1, 3, 8] | four numbers"),
    "texts": (box(5, bbox=["1", "3", "8", "9"]), LABELS, "annotations[5] | four numbers"),
    "no box": (box(5, bbox=None), LABELS, "annotations[5] | bbox is missing"),
    "unknown class": (box(7, category_id=9), LABELS, "annotations[7] (id 7): is of the category 9 | categories"),
    "unknown image": (box(7, image_id=99), LABELS, "annotations[7] (id 7): is of the image 99"),
    "two boxes of an id": (box(7, id=6), LABELS, "annotations[7] (id 6) | another annotation"),
    "area NaN": (box(7, area=float("nan")), LABELS, "annotations[7] | area | nan"),
    "area above the image's": (box(7, area=1e300), LABELS, "annotations[7] | area is 1e+300 | 1200"),
    "run-length code": (
        box(7, area=None, segmentation={"size": [HEIGHT, WIDTH], "counts": "~~ ~"}),
        LABELS,
        "annotations[7] | run-length",
    ),
    "two images of an id": (
        change_json(lambda c: c["images"][2].update(id=1)),
        LABELS,
        "images[2] | id 1 | 1.png | annotations[2] (id 2): is of the image 2",
    ),
    "missing image": (removed("images/4.png"), MISSING, "images[4] (4.png): is not in"),
    "truncated image": (truncated("images/4.png"), UNREADABLE, "images/4.png | cannot be read"),
    "image above the folder": (
        change_json(lambda c: c["images"][0].update(file_name="../0.png")),
        LABELS,
        "images[0] | '../0.png' | annotations[0]",
    ),
    "image of another size": (
        lambda f: write_image(f / "images" / "4.png", size=(20, 15)),
        LABELS,
        "images[4] (4.png): is of 40x30 | 20x15",
    ),
    "two classes of a name": (
        change_json(lambda c: c["categories"][1].update(name="cat")),
        LABELS,
        "categories[1] | 'cat' | annotations[1]",
    ),
    "no list of annotations": (change_json(lambda c: c.pop("annotations")), LABELS, "no list of annotations"),
    "no JSON": (truncated("annotations.json"), UNREADABLE, "annotations.json | no JSON"),
    "a list": (text("annotations.json", "[1]"), LABELS, "holds a list"),
    "nested": (text("annotations.json", "[" * 100_000), UNREADABLE, "no JSON"),
}

YOLO: dict[str, Case] = {
    "outside": (text("labels/train/0.txt", "0 0.9 0.5 0.5 0.2"), LABELS, "0.txt:1: is outside | 40x30"),
    "no area": (text("labels/train/0.txt", "0 .5 .5 .2 .2\n0 0.5 0.5 0 0.2"), LABELS, "0.txt:2: has no area"),
    "NaN": (text("labels/train/0.txt", "0 nan 0.5 0.5 0.2"), LABELS, "0.txt:1: is 0 nan | finite"),
    "pixels": (text("labels/train/0.txt", "0 20 15 10 8"), LABELS, "0.txt:1: is 0 20 15 10 8 | shares"),
    "unknown class": (text("labels/train/0.txt", "2 .5 .5 .2 .2"), LABELS, "0.txt:1 | class 2 | 0 to 1"),
    "class of a name": (text("labels/train/0.txt", "cat .5 .5 .2 .2"), LABELS, "0.txt:1: is cat"),
    "six numbers": (text("labels/train/0.txt", "0 .5 .5 .2 .2 .1"), LABELS, "0.txt:1: has 6 numbers"),
    "no image": (text("labels/train/x.txt", "0 .5 .5 .2 .2"), LABELS, "labels/train/x.txt: is of no image"),
    "damaged image": (text("images/train/3.png", "no image"), UNREADABLE, "images/train/3.png"),
    "labels in bytes": (lambda f: (f / "labels/train/0.txt").write_bytes(b"\xff\xfe\0"), UNREADABLE, "0.txt"),
    "two images of labels": (lambda f: write_image(f / "images/train/0.jpg"), LABELS, "0.jpg | 0.png | 0.txt"),
    "names and nc": (text("data.yaml", "train: images/train\nnames: [cat, dog]\nnc: 3"), LABELS, "nc is 3 | 2"),
    "no names": (text("data.yaml", "train: images/train\n"), LABELS, "names is None"),
    "no train": (text("data.yaml", "names: [cat, dog]\n"), LABELS, "has no train"),
    "folder above": (text("data.yaml", "train: ../../x\nnames: [cat, dog]"), MISSING, "'../../x'"),
    "aliases": (text("data.yaml", "a: &a [x]\ntrain: images/train\nnames: [*a, *a]"), UNREADABLE, "no YAML | alias"),
    "names of lists": (text("data.yaml", "train: images/train\nnames: [[cat], dog]"), LABELS, "names is {0: ['cat']"),
    "no YAML": (text("data.yaml", "train: [\n"), UNREADABLE, "data.yaml | no YAML"),
    "no labels": (lambda f: (f / "labels").rename(f / "boxes"), LAYOUT, "none of 12 train images has labels"),
    "missing in a list": (
        both(text("data.yaml", "train: list.txt\nnames: [cat, dog]"), text("list.txt", "images/train/1.png\nx.png")),
        MISSING,
        "list.txt:2: names 'x.png'",
    ),
}

VOC: dict[str, Case] = {
    "outside": (
        text("Annotations/0.xml", annotation(voc_object(corners=(3, 4, 50, 11)))),
        LABELS,
        "Annotations/0.xml: object 1: is outside | (2, 3, 50, 11)",
    ),
    "no area": (
        text("Annotations/0.xml", annotation(voc_object() + voc_object(corners=(9, 4, 8, 11)))),
        LABELS,
        "0.xml: object 2: has no area",
    ),
    "NaN": (text("Annotations/0.xml", annotation(voc_object(corners=("nan", 4, 8, 9)))), LABELS, "object 1 | nan"),
    "no number": (
        text("Annotations/0.xml", annotation(voc_object(corners=("", 4, 8, 9)))),
        LABELS,
        "object 1 | xmin ''",
    ),
    "no name": (text("Annotations/0.xml", annotation(voc_object(""))), LABELS, "object 1 | name ''"),
    "unknown class": (
        both(text("classes.txt", "cat\n"), text("Annotations/1.xml", annotation(voc_object("dgo")))),
        LABELS,
        "Annotations/1.xml: object 1 | 'dgo' | classes.txt",
    ),
    "no annotation": (removed("Annotations/5.xml"), MISSING, "Annotations/5.xml: does not exist | 5.png"),
    "missing image": (removed("JPEGImages/5.png"), MISSING, "Annotations/5.xml: is of 5"),
    "another size": (
        text("Annotations/0.xml", annotation(voc_object(), size=(80, 60))),
        LABELS,
        "Annotations/0.xml | 80x60 | 40x30",
    ),
    "entities": (
        text("Annotations/0.xml", '<!DOCTYPE x [<!ENTITY a "b">]>' + annotation(voc_object("&a;"))),
        LABELS,
        "Annotations/0.xml: has a document type",
    ),
    "no XML": (text("Annotations/0.xml", "<annotation>"), UNREADABLE, "Annotations/0.xml: is no XML"),
    "another document": (text("Annotations/0.xml", "<html/>"), LABELS, "Annotations/0.xml: holds <html>"),
    "a name twice": (text("ImageSets/Main/train.txt", "0\n1\n0\n"), LABELS, "train.txt:3: names 0"),
    "a name above": (text("ImageSets/Main/train.txt", "0\n../1\n"), LABELS, "train.txt:2: is '../1'"),
    "a name without an image": (text("ImageSets/Main/train.txt", "0\nx\n"), MISSING, "train.txt:2: is of x | x.xml"),
    "no annotations": (lambda f: (f / "Annotations").rename(f / "xml"), LAYOUT, "has no folder Annotations"),
}

MASKS: dict[str, Case] = {
    "another size": (
        lambda f: write_mask(f / "masks/3.png", size=(20, 15)),
        LABELS,
        "images/3.png: its mask has 20x15 | 40x30",
    ),
    "turned": (
        lambda f: write_mask(f / "masks/3.png", size=(HEIGHT, WIDTH)),
        LABELS,
        "images/3.png: its mask has 30x40",
    ),
    "unknown value": (lambda f: write_mask(f / "masks/3.png", value=7), LABELS, "masks/3.png: has the values 7"),
    "colours without a table of colours": (
        lambda f: write_mask(f / "masks/3.png", mode="RGB"),
        LABELS,
        "masks/3.png: has colours (mode RGB)",
    ),
    "alpha": (lambda f: write_mask(f / "masks/3.png", mode="RGBA"), LABELS, "masks/3.png: has colours (mode RGBA)"),
    "16 bits": (
        lambda f: Image.new("I;16", (WIDTH, HEIGHT), 300).save(f / "masks/3.png"),
        LABELS,
        "masks/3.png: has values from 300 to 300",
    ),
    "unknown colour": (
        both(
            lambda f: write_masks(f, mode="RGB"),
            text("classes.csv", "name,r,g,b\nfloor,0,0,0\nwall,1,1,2\n"),
        ),
        LABELS,
        "12 faults | masks/0.png: has the colours (1, 1, 1) | masks/11.png",
    ),
    "missing mask": (removed("masks/3.png"), MISSING, "images/3.png: has no mask"),
    "missing image": (removed("images/3.png"), MISSING, "masks/3.png: is of no image"),
    "lossy mask": (
        both(removed("masks/3.png"), lambda f: write_image(f / "masks/3.jpg")),
        LABELS,
        "masks/3.jpg: is a mask in a lossy format",
    ),
    "damaged mask": (truncated("masks/3.png"), UNREADABLE, "masks/3.png | cannot be read"),
    "damaged image": (truncated("images/3.png"), UNREADABLE, "images/3.png | cannot be read"),
    "two masks of an image": (lambda f: write_mask(f / "masks/3.bmp"), LABELS, "masks/3.png | 3.bmp"),
    "a gap between values": (
        both(removed("classes.csv"), lambda f: write_mask(f / "masks/3.png", value=5)),
        LABELS,
        "masks/3.png: has the value 5 | 0, 1, 5 | classes.csv",
    ),
    "black and white": (
        both(removed("classes.csv"), lambda f: write_masks(f, value=255)),
        LABELS,
        "0, 255 | classes.csv",
    ),
    "table without values": (text("classes.csv", "name\nfloor\nwall\n"), LABELS, "classes.csv: has the columns name"),
    "value of no byte": (text("classes.csv", "name,value\nfloor,0\nwall,300\n"), LABELS, "classes.csv:3: has 300"),
    "a value twice": (text("classes.csv", "name,value\nfloor,0\nwall,0\n"), LABELS, "classes.csv:3: has 0"),
    "a name twice": (text("classes.csv", "name,value\nfloor,0\nfloor,1\n"), LABELS, "classes.csv:3 | 'floor'"),
    "one class": (text("classes.csv", "name,value\nfloor,0\nvoid,1\n"), LABELS, "has 1 classes"),
    "no masks": (lambda f: (f / "masks").rename(f / "labels"), LAYOUT, "has no folder masks"),
    "part without masks": (lambda f: (f / "val" / "images").mkdir(parents=True), LAYOUT, "has no folder"),
}
CASES = [
    pytest.param(name, write, *case, id=f"{name}: {title}")
    for name, write, cases in (
        ("coco", coco, COCO),
        ("yolo", yolo, YOLO),
        ("voc", voc, VOC),
        ("segmentation-folder", masks, MASKS),
    )
    for title, case in cases.items()
]


def load(name: str, path: Path, **options: Any) -> Any:
    return load_data(name, path=path, options=ImageOptions(image_size=32, **options))


@pytest.mark.parametrize(("name", "write", "change", "code", "mentions"), CASES)
def test_a_fault_is_a_line_with_its_file_and_entry(
    name: str, write: Callable[[Path], Path], change: Change, code: str, mentions: str, tmp_path: Path
) -> None:
    path = write(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError) as caught:
        load(name, path)
    message = str(caught.value)
    assert caught.value.code == code, message
    absent = [mention for mention in mentions.split(" | ") if mention not in message]
    assert not absent, message
    assert all(len(line) < 400 for line in message.replace(str(tmp_path), "").splitlines())


@pytest.mark.parametrize(
    ("name", "write"), [("coco", coco), ("yolo", yolo), ("voc", voc), ("segmentation-folder", masks)]
)
def test_the_right_data_sets_are_read(name: str, write: Callable[[Path], Path], tmp_path: Path) -> None:
    data = load(name, write(tmp_path))
    assert sum(map(len, (data.train, data.validation, data.test))) == N_IMAGES
    assert data.n_classes == 2


class TestManyFaults:
    def test_all_are_counted_and_twenty_listed(self, tmp_path: Path) -> None:
        path = coco(tmp_path)

        def spoil(content: dict[str, Any]) -> None:
            content["annotations"] = [dict(content["annotations"][0], id=i, bbox=[0, 0, 0, 0]) for i in range(33)]

        change_json(spoil)(tmp_path)
        with pytest.raises(DataError) as caught:
            load("coco", path)
        lines = str(caught.value).splitlines()
        assert "33 faults" in lines[0]
        assert len(lines) == 22
        assert [f"annotations[{i}] " in line for i, line in enumerate(lines[1:21])] == [True] * 20
        assert lines[21].strip() == "and 13 more"

    def test_images_with_faults_are_left_out(self, tmp_path: Path) -> None:
        path = coco(tmp_path)
        truncated("images/4.png")(tmp_path)
        box(7, bbox=[50, 50, 1, 1])(tmp_path)
        data = load("coco", path, skip_unreadable=True)
        assert sum(map(len, (data.train, data.validation, data.test))) == N_IMAGES - 2
        assert set(data.skipped) == {"images/4.png", "images/7.png"}

    def test_faults_of_no_image_are_not_skipped(self, tmp_path: Path) -> None:
        path = coco(tmp_path)
        box(7, image_id=99)(tmp_path)
        with pytest.raises(DataError) as caught:
            load("coco", path, skip_unreadable=True)
        assert "annotations[7]" in str(caught.value)

    def test_files_of_parts_have_the_same_classes(self, tmp_path: Path) -> None:
        file = coco(tmp_path)
        content = json.loads(file.read_text())
        (tmp_path / "train.json").write_text(json.dumps(content))
        content["categories"][1]["name"] = "horse"
        (tmp_path / "val.json").write_text(json.dumps(content))
        file.unlink()
        with pytest.raises(DataError) as caught:
            load("coco", tmp_path)
        assert "val.json: its categories" in str(caught.value)

    def test_bombs_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(DataError) as caught:
            load("yolo", yolo(tmp_path))
        assert caught.value.code == UNREADABLE
        assert f"{N_IMAGES} faults" in str(caught.value)
