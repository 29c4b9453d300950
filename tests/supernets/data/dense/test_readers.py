"""The four formats of boxes and masks: scenes are read back as they were drawn."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from supernets.data import DataSet, ImageOptions, Part, load_data
from tests.dense_scenes import (
    MASK_CLASSES,
    Parts,
    Scene,
    Scenes,
    make_parts,
    make_scenes,
    write_coco,
    write_masks,
    write_voc,
    write_yolo,
)
from tests.supernets.data.raw import raw_rows

SIZE = 96


@pytest.fixture(scope="module")
def parts() -> Parts:
    return make_parts(24, 8, 8)


def window(scene: Scene) -> tuple[float, float, int, int, int, int]:
    """Scale of x and of y, left, top, width and height of a letterboxed scene."""
    height, width = scene.mask.shape
    new_width, new_height = (int(side * SIZE / max(width, height) + 0.5) for side in (width, height))
    return (
        new_width / width,
        new_height / height,
        (SIZE - new_width) // 2,
        (SIZE - new_height) // 2,
        new_width,
        new_height,
    )


def expected_image(scene: Scene) -> NDArray[np.uint8]:
    """The letterboxed image (3, size, size), resized and placed by Pillow."""
    _, _, left, top, width, height = window(scene)
    square = Image.new("RGB", (SIZE, SIZE), (114, 114, 114))
    narrow = Image.fromarray(scene.image).resize((width, scene.mask.shape[0]), Image.Resampling.BILINEAR)
    square.paste(narrow.resize((width, height), Image.Resampling.BILINEAR), (left, top))
    return np.asarray(square).transpose(2, 0, 1)


def expected_boxes(scene: Scene) -> NDArray[np.float64]:
    """Class, corners in the letterboxed image, area, crowd and scale of each box."""
    x_scale, y_scale, left, top, _, _ = window(scene)
    scale = (x_scale * y_scale) ** -0.5
    rows = [
        (label, left + x0 * x_scale, top + y0 * y_scale, left + x1 * x_scale, top + y1 * y_scale, area, 0, scale)
        for (label, x0, y0, x1, y1), area in zip(scene.boxes.tolist(), scene.areas.tolist(), strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 8)


def expected_mask(scene: Scene) -> NDArray[np.uint8]:
    """The class of the pixel that holds each new pixel's centre, and 255 around them, (size, size)."""
    _, _, left, top, width, height = window(scene)
    out = np.full((SIZE, SIZE), 255, dtype=np.uint8)
    for row in range(height):
        for column in range(width):
            old_row = floor(Fraction(2 * row + 1, 2) * scene.mask.shape[0] / height)
            old_column = floor(Fraction(2 * column + 1, 2) * scene.mask.shape[1] / width)
            out[top + row, left + column] = scene.mask[old_row, old_column]
    return out


def by_name(data: DataSet, part: Part) -> dict[str, tuple[bytes, NDArray[np.float32]]]:
    """Bytes of the image and labels of each example by the name of its file, without a folder and a suffix."""
    names = [Path(name).stem for name in part.names]
    return dict(zip(names, zip(raw_rows(data, part), part.labels.numpy(), strict=True), strict=True))


def check_boxes(data: DataSet, part: Part, scenes: Scenes, *, has_areas: bool) -> None:
    examples = by_name(data, part)
    assert set(examples) == {scenes.name(i) for i in range(len(scenes.scenes))}
    for i, scene in enumerate(scenes.scenes):
        pixels, labels = examples[scenes.name(i)]
        assert pixels == expected_image(scene).tobytes()
        expected = expected_boxes(scene)
        if not has_areas:
            expected[:, 5] = (scene.boxes[:, 3] - scene.boxes[:, 1]) * (scene.boxes[:, 4] - scene.boxes[:, 2])
        n = len(expected)
        names = [data.class_names[int(label)] for label in labels[:n, 0]]
        assert names == [MASK_CLASSES[label + 1] for label in scene.boxes[:, 0]]
        # Corners are of float32, and shares in YOLO's files have nine digits.
        np.testing.assert_allclose(labels[:n, 1:], expected[:, 1:], rtol=1e-5, atol=1e-4)
        assert (labels[n:, 0] == -1).all()
        assert np.ptp(labels[:, 7]) == 0
        assert not labels[n:, 1:7].any()


class TestBoxes:
    @pytest.mark.parametrize("name", ["coco", "yolo", "voc"])
    def test_parts_are_read_back(self, name: str, parts: Parts, tmp_path: Path) -> None:
        path = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc}[name](parts, tmp_path)
        data = load_data(name, path=path, options=ImageOptions(image_size=SIZE), targets="boxes")
        assert data.targets == "boxes"
        assert data.images.resizing == "letterbox"
        assert data.n_classes == 10
        for part, scenes in ((data.train, parts["train"]), (data.validation, parts["val"]), (data.test, parts["test"])):
            check_boxes(data, part, scenes, has_areas=name == "coco")

    @pytest.mark.parametrize("name", ["coco", "yolo", "voc"])
    def test_undivided_scenes_are_split(self, name: str, tmp_path: Path) -> None:
        """Parts have all images once, the same for the same seed."""
        scenes = make_scenes(40, sides=(48, 64))
        path = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc}[name]({"": scenes}, tmp_path)
        data = load_data(name, path=path, options=ImageOptions(image_size=SIZE))
        sizes = [len(part) for part in (data.train, data.validation, data.test)]
        assert sizes == [24, 8, 8]
        names = [set(by_name(data, part)) for part in (data.train, data.validation, data.test)]
        assert len(set.union(*names)) == sum(sizes) == 40
        again = load_data(name, path=path, options=ImageOptions(image_size=SIZE))
        assert [p.digest for p in (again.train, again.test)] == [p.digest for p in (data.train, data.test)]


class TestMasks:
    @pytest.mark.parametrize("kind", ["grey", "palette", "colours"])
    def test_parts_are_read_back(self, kind: str, tmp_path: Path) -> None:
        parts = make_parts(6, 2, 2)
        path = write_masks(parts, tmp_path, kind=kind)  # type: ignore[arg-type]  # one of the three
        data = load_data("segmentation-folder", path=path, options=ImageOptions(image_size=SIZE))
        assert (data.targets, data.class_names) == ("masks", MASK_CLASSES)
        for part, scenes in ((data.train, parts["train"]), (data.validation, parts["val"]), (data.test, parts["test"])):
            examples = by_name(data, part)
            assert part.labels.numpy().dtype == np.uint8
            for i, scene in enumerate(scenes.scenes):
                pixels, mask = examples[scenes.name(i)]
                assert pixels == expected_image(scene).tobytes()
                assert np.array_equal(mask, expected_mask(scene))

    def test_classes_without_a_table_are_values(self, tmp_path: Path) -> None:
        scenes = make_scenes(60, sides=(48, 64))
        path = write_masks({"": scenes}, tmp_path)
        (path / "classes.csv").unlink()
        data = load_data("segmentation-folder", path=path, options=ImageOptions(image_size=SIZE))
        assert data.class_names == tuple(map(str, range(11)))
        assert sum(map(len, (data.train, data.validation, data.test))) == 60
