"""Counts of labelled objects, compared with those of the scenes that were drawn, and pictures of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from supernets.data import ImageOptions, contact_sheet, label_summary, load_data
from supernets.data.class_colours import colour_of
from supernets.data.dense.label_pictures import labelled_picture
from tests.dense_scenes import MASK_CLASSES, Parts, make_parts, write_coco, write_masks
from tests.supernets.data.dense.faulty import change_json, coco


@pytest.fixture(scope="module")
def parts() -> Parts:
    return make_parts(20, 6, 6)


def test_boxes_are_counted_by_class_size_and_part(parts: Parts, tmp_path: Path) -> None:
    data = load_data("coco", path=write_coco(parts, tmp_path), options=ImageOptions(image_size=64))
    summary = label_summary(data)
    assert summary is not None
    names = {"train": "train", "val": "validation", "test": "test"}
    for label, row in enumerate(summary.classes):
        assert row.name == MASK_CLASSES[label + 1]
        counts = {
            part: [(scene.boxes[:, 0] == label).sum() for scene in scenes.scenes] for part, scenes in parts.items()
        }
        assert row.count == sum(map(sum, counts.values()))
        assert row.images == {names[part]: sum(n > 0 for n in of_part) for part, of_part in counts.items()}
    scenes = [scene for part in parts.values() for scene in part.scenes]
    areas = np.concatenate([scene.areas for scene in scenes])
    expected = {
        "small": (areas < 1024).sum(),
        "medium": ((areas >= 1024) & (areas < 9216)).sum(),
        "large": (areas >= 9216).sum(),
    }
    assert summary.sizes == expected
    assert summary.n_empty == sum(not len(scene.boxes) for scene in scenes)
    assert summary.max_boxes == max(len(scene.boxes) for scene in scenes)
    assert json.loads(json.dumps(summary.to_json()))["images"] == {"train": 20, "validation": 6, "test": 6}
    header, rows = summary.table()
    assert header == ["class", "boxes", "train images", "validation images", "test images"]
    assert [int(row[1]) for row in rows] == sorted((row.count for row in summary.classes), reverse=True)


def test_pixels_of_masks_are_counted(parts: Parts, tmp_path: Path) -> None:
    data = load_data("segmentation-folder", path=write_masks(parts, tmp_path), options=ImageOptions(image_size=64))
    summary = label_summary(data)
    assert summary is not None
    masks = np.concatenate([part.labels.numpy() for part in (data.train, data.validation, data.test)])
    assert [row.count for row in summary.classes] == [(masks == label).sum() for label in range(11)]
    assert summary.ignored_pixels == (masks == 255).sum()
    assert summary.sizes == {}


def test_images_without_boxes_and_absent_classes_are_reported(tmp_path: Path) -> None:
    path = coco(tmp_path)
    change_json(lambda content: content["annotations"].__delitem__(slice(3, None)))(tmp_path)
    change_json(lambda content: content["annotations"][0].update(iscrowd=1))(tmp_path)
    change_json(lambda content: content["categories"].append({"id": 9, "name": "cow"}))(tmp_path)
    summary = label_summary(load_data("coco", path=path, options=ImageOptions(image_size=32)))
    assert summary is not None
    assert (summary.n_empty, summary.n_crowd, summary.n_labels) == (9, 1, 2)
    text = "\n".join(summary.lines())
    assert "9 of 12 (75.0%)" in text
    assert "1 that count for nobody" in text
    assert "warning: no train image has" in text
    assert "cow" in text


def test_other_labels_have_no_summary_and_no_picture() -> None:
    data = load_data("digits")
    assert label_summary(data) is None
    assert contact_sheet(data) is None


def test_a_sheet_shows_every_class(parts: Parts, tmp_path: Path) -> None:
    """Twelve tiles in two rows, and below them the colour of each class."""
    data = load_data("coco", path=write_coco(parts, tmp_path), options=ImageOptions(image_size=64))
    sheet = contact_sheet(data, n=12)
    assert sheet is not None
    side = 256 + 6
    assert sheet.width == 6 * side + 6
    assert sheet.height > 2 * side
    legend = np.asarray(sheet)[2 * side + 6 :].reshape(-1, 3)
    colours = {tuple(colour) for colour in np.unique(legend, axis=0).tolist()}
    assert {colour_of(label) for label in range(10)} <= colours
    assert contact_sheet(data, n=1) is not None


def test_boxes_and_masks_are_drawn_at_their_places() -> None:
    pixels = np.full((1, 60, 60), 40, dtype=np.uint8)
    boxes = np.array([[1, 10, 20, 30, 40, 400, 0, 1], [-1, 0, 0, 0, 0, 0, 0, 1]], dtype=np.float32)
    drawn = np.asarray(labelled_picture(pixels, boxes, ("a", "b")))
    assert drawn.shape == (240, 240, 3)
    assert tuple(drawn[159, 60]) == colour_of(1)
    assert tuple(drawn[130, 80]) == (40, 40, 40)
    mask = np.zeros((60, 60), dtype=np.uint8)
    mask[:30, :30], mask[30:, 30:] = 1, 255
    painted = Image.fromarray(np.asarray(labelled_picture(pixels, mask, ("a", "b"))))
    assert painted.getpixel((10, 10)) == tuple(20 + channel // 2 for channel in colour_of(1))
    assert painted.getpixel((200, 10)) == painted.getpixel((200, 200)) == (40, 40, 40)
