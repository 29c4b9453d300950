"""Letterboxed images and their labels: sizes, orientations and unusual images, and how they are divided."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from supernets.data import (
    DataSet,
    Examples,
    ImageOptions,
    Source,
    checked_source,
    data_set_of,
    load_data,
    some_images,
)
from supernets.data.dense.coco import _area
from supernets.data.preprocessing import ImageFormat, letterbox, letterbox_window
from supernets.errors import DataError
from tests.dense_scenes import Scenes, make_scenes, write_coco, write_yolo
from tests.supernets.data.dense.faulty import (
    N_IMAGES,
    annotation,
    change_json,
    coco,
    masks,
    voc,
    voc_object,
    write_text,
    yolo,
)
from tests.supernets.data.raw import raw_rows

_ORIENTATION = 0x0112
_CODE = "i5]1?000000000000ROK55KK55KK55KK55KK55KK55KK55KK55KK55KK55i000000000000000000000000000000000000000Sh1"
"""The run-length code of a mask by faster-coco-eval."""


class TestLetterbox:
    @pytest.mark.parametrize(
        ("width", "height", "size", "expected"),
        [
            (640, 480, 320, (0, 40, 320, 240)),
            (480, 640, 320, (40, 0, 240, 320)),
            (100, 100, 64, (0, 0, 64, 64)),
            # 33 * 64 / 100 is 21.12; of the 43 columns that are left, 21 are on the left.
            (33, 100, 64, (21, 0, 21, 64)),
            # 75 * 10 / 100 is 7.5, which is rounded up.
            (100, 75, 10, (0, 1, 10, 8)),
            (1, 4000, 320, (159, 0, 1, 320)),
            (4000, 1, 320, (0, 159, 320, 1)),
            (1, 1, 5, (0, 0, 5, 5)),
        ],
    )
    def test_the_window_is_the_one_by_hand(
        self, width: int, height: int, size: int, expected: tuple[int, int, int, int]
    ) -> None:
        assert letterbox_window(width, height, size) == expected

    def test_the_window_keeps_the_ratio_and_is_centred(self) -> None:
        rng = np.random.default_rng(0)
        for width, height, size in rng.integers(1, 2000, (300, 3)).tolist():
            left, top, new_width, new_height = letterbox_window(width, height, size)
            assert max(new_width, new_height) == size
            for side, new in ((width, new_width), (height, new_height)):
                exact = Fraction(side * size, max(width, height))
                assert new == max(1, int(exact + Fraction(1, 2)))
            for margin, new in ((left, new_width), (top, new_height)):
                assert 0 <= size - new - 2 * margin <= 1

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    @pytest.mark.parametrize("size", [(40, 30), (30, 40), (7, 500)])
    def test_pixels_are_those_of_pillow(self, mode: str, size: tuple[int, int]) -> None:
        noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        image = Image.fromarray(noise).convert(mode)
        expected = Image.new(mode, (64, 64), 114 if mode == "L" else (114, 114, 114))
        left, top, width, height = letterbox_window(*size, 64)
        expected.paste(image.resize((width, size[1]), 2).resize((width, height), 2), (left, top))
        pixels = letterbox(image, 64)
        assert np.array_equal(pixels, np.asarray(expected).reshape(64, 64, -1).transpose(2, 0, 1))

    def test_the_format_states_and_repeats_it(self) -> None:
        format = ImageFormat((0.5,) * 3, (0.25,) * 3, 64, 3, resizing="letterbox")
        image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8))
        assert np.array_equal(format.resized(image), letterbox(image, 64))
        facts = format.to_json()
        assert (facts["resizing"], facts["padding"], facts["size"]) == ("letterbox", 114, [64, 64])
        assert not format.of_square


def save_turned(image: NDArray[np.uint8], orientation: int, file: Path) -> None:
    """Saves an image with an EXIF orientation."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file, exif=exif)


def bright(data: DataSet, index: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the white pixels of a training image."""
    pixels = np.frombuffer(raw_rows(data, data.train)[index], dtype=np.uint8).reshape(3, 60, 60)[0]
    rows, columns = np.nonzero(pixels > 250)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


class TestOrientation:
    """A white rectangle is at (6, 10) to (21, 16) of a black stored image of 60 x 30 pixels, which is kept at its size."""

    @pytest.fixture(params=range(1, 9))
    def orientation(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    def stored(self, i: int) -> NDArray[np.uint8]:
        image = np.zeros((30, 60, 3), dtype=np.uint8)
        image[10:16, 6:21] = 255
        image[0, 0] = i
        return image

    def upright_box(self, orientation: int) -> tuple[int, int, int, int]:
        """The rectangle of the upright image, found in its pixels."""
        image = Image.fromarray(self.stored(0))
        image.getexif()[_ORIENTATION] = orientation
        rows, columns = np.nonzero(np.asarray(ImageOps.exif_transpose(image))[:, :, 0] > 250)
        return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1

    def write_images(self, folder: Path, orientation: int) -> None:
        for i in range(6):
            save_turned(self.stored(i), orientation, folder / f"{i}.png")

    def check(self, data: DataSet) -> None:
        for i in range(len(data.train)):
            np.testing.assert_allclose(data.train.labels[i, 0, 1:5], bright(data, i))
            assert data.train.labels[i, 0, 5] == 15 * 6

    @pytest.mark.parametrize("is_upright", [False, True])
    def test_cocos_boxes_are_of_the_image_that_has_their_size(
        self, orientation: int, is_upright: bool, tmp_path: Path
    ) -> None:
        """Of the stored image, unless width and height are those of the upright image alone."""
        self.write_images(tmp_path / "images", orientation)
        exchanged = orientation >= 5
        is_upright = is_upright and exchanged
        x0, y0, x1, y1 = map(int, self.upright_box(orientation)) if is_upright else (6, 10, 21, 16)
        size = {"width": 30, "height": 60} if is_upright else {"width": 60, "height": 30}
        content = {
            "images": [{"id": i, "file_name": f"{i}.png", **size} for i in range(6)],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]} for i in range(6)
            ],
            "categories": [{"id": 1, "name": "a"}],
        }
        (tmp_path / "a.json").write_text(json.dumps(content))
        self.check(load_data("coco", path=tmp_path / "a.json", options=ImageOptions(image_size=60)))

    def test_yolos_boxes_are_of_the_upright_image(self, orientation: int, tmp_path: Path) -> None:
        self.write_images(tmp_path / "images" / "train", orientation)
        x0, y0, x1, y1 = self.upright_box(orientation)
        width, height = (30, 60) if orientation >= 5 else (60, 30)
        line = f"0 {(x0 + x1) / 2 / width} {(y0 + y1) / 2 / height} {(x1 - x0) / width} {(y1 - y0) / height}"
        for i in range(6):
            write_text(tmp_path / "labels" / "train" / f"{i}.txt", line)
        write_text(tmp_path / "data.yaml", "train: images/train\nnames: [a]")
        data = load_data("yolo", path=tmp_path, options=ImageOptions(image_size=60))
        for i in range(len(data.train)):
            np.testing.assert_allclose(data.train.labels[i, 0, 1:5], bright(data, i), atol=1e-5)

    @pytest.mark.parametrize("is_upright", [False, True])
    def test_masks_are_of_the_image_that_has_their_size(
        self, orientation: int, is_upright: bool, tmp_path: Path
    ) -> None:
        self.write_images(tmp_path / "images", orientation)
        image = Image.fromarray(self.stored(0)[:, :, 0] // 255)
        image.getexif()[_ORIENTATION] = orientation
        mask = ImageOps.exif_transpose(image) if is_upright and orientation >= 5 else image
        for i in range(6):
            (tmp_path / "masks").mkdir(exist_ok=True)
            Image.fromarray(np.asarray(mask)).save(tmp_path / "masks" / f"{i}.png")
        data = load_data("segmentation-folder", path=tmp_path, options=ImageOptions(image_size=60))
        for i in range(len(data.train)):
            rows, columns = np.nonzero(data.train.labels[i].numpy() == 1)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == bright(data, i)


class TestUnusualImages:
    def test_a_line_of_pixels_keeps_its_boxes(self, tmp_path: Path) -> None:
        """Of 1 x 4000 pixels, and a box in the second quarter."""
        path = yolo(tmp_path)
        Image.new("RGB", (1, 4000)).save(path / "images" / "train" / "0.png")
        write_text(path / "labels" / "train" / "0.txt", "1 0.5 0.375 1 0.25")
        data = load_data("yolo", path=path, options=ImageOptions(image_size=320), validation=2, test=2)
        parts = (data.train, data.validation, data.test)
        rows = {name: row for part in parts for name, row in zip(part.names, part.labels.numpy(), strict=True)}
        assert rows["images/train/0.png"][0].tolist() == pytest.approx([1, 159, 80, 160, 160, 1000, 0, 12.5**0.5])

    @pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "I;16"])
    def test_grey_and_palette_images_are_read(self, mode: str, tmp_path: Path) -> None:
        path = yolo(tmp_path)
        for file in (path / "images").rglob("*.png"):
            image = Image.open(file).convert("L" if mode == "I;16" else mode)
            (Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image).save(file)
        data = load_data("yolo", path=path, options=ImageOptions(image_size=32))
        assert data.images.channels == (3 if mode in ("P", "RGBA") else 1)
        assert load_data("yolo", path=path, options=ImageOptions(image_size=32, channels=3)).images.channels == 3

    def test_without_a_size_images_have_320_pixels(self, tmp_path: Path) -> None:
        assert load_data("yolo", path=yolo(tmp_path)).images.image_size == 320

    def test_memory_is_bounded(self, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            load_data("yolo", path=yolo(tmp_path), options=ImageOptions(image_size=10_000))
        assert caught.value.code == "data.too-large"

    @pytest.mark.parametrize("option", [{"crop": 0.9}, {"interpolation": "bicubic"}])
    def test_options_of_other_images_are_refused(self, option: dict[str, float | str], tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            load_data("yolo", path=yolo(tmp_path), options=ImageOptions(**option))  # type: ignore[arg-type]
        assert caught.value.code == "data.invalid-option"

    def test_a_task_of_other_labels_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            load_data("yolo", path=yolo(tmp_path), targets="masks")
        assert caught.value.code == "data.wrong-kind"


class TestLabels:
    def test_images_without_objects_are_kept(self, tmp_path: Path) -> None:
        path = coco(tmp_path)
        change_json(lambda content: content["annotations"].clear())(tmp_path)
        data = load_data("coco", path=path, options=ImageOptions(image_size=32))
        assert data.n_classes == 2
        for part in (data.train, data.validation, data.test):
            assert (part.labels[:, :, 0] == -1).all()
            assert part.labels.shape[1] == 1

    def test_crowds_and_difficult_objects_count_for_nobody(self, tmp_path: Path) -> None:
        path = coco(tmp_path / "coco")
        change_json(lambda content: [box.update(iscrowd=1) for box in content["annotations"]])(tmp_path / "coco")
        data = load_data("coco", path=path, options=ImageOptions(image_size=32))
        assert (data.train.labels[:, 0, 6] == 1).all()
        path = voc(tmp_path / "voc")
        for i in range(N_IMAGES):
            text = annotation(voc_object()).replace("<bndbox>", "<difficult>1</difficult><bndbox>")
            (path / "Annotations" / f"{i}.xml").write_text(text)
        data = load_data("voc", path=path, options=ImageOptions(image_size=32))
        assert (data.train.labels[:, 0, 6] == 1).all()

    def test_polygons_of_yolo_are_boxes_with_their_area(self, tmp_path: Path) -> None:
        """A triangle over half of the rectangle from (4, 3) to (20, 15) of images of 40 x 30 pixels."""
        path = yolo(tmp_path)
        for i in range(N_IMAGES):
            write_text(path / "labels" / "train" / f"{i}.txt", "0 0.1 0.1 0.5 0.1 0.1 0.5")
        data = load_data("yolo", path=path, options=ImageOptions(image_size=40))
        expected = [0, 4, 5 + 3, 20, 5 + 15, 16 * 12 / 2, 0, 1]
        assert data.train.labels[0, 0].tolist() == pytest.approx(expected, rel=1e-5)

    def test_a_small_step_over_the_edge_is_cut(self, tmp_path: Path) -> None:
        path = coco(tmp_path)
        change_json(lambda content: [box.update(bbox=[30, 20, 10.6, 10.9]) for box in content["annotations"]])(tmp_path)
        data = load_data("coco", path=path, options=ImageOptions(image_size=40))
        assert data.train.labels[0, 0, 1:5].tolist() == [30, 25, 40, 35]

    def test_areas_of_masks_are_those_by_hand(self) -> None:
        """A square of 3 x 3 with a corner cut off, and run lengths of which the second ones are in the mask."""
        polygon = [[0, 0, 3, 0, 3, 3, 0, 3], [10, 10, 12, 10, 10, 12]]
        assert _area({"segmentation": polygon}) == 9 + 2
        assert _area({"segmentation": {"counts": [5, 3, 2, 4]}}) == 7
        # By COCO's library: ones in rows 5 to 49 and columns 3 to 39 of 60 x 70 pixels, but for a hole of 10 x 10.
        assert _area({"segmentation": {"counts": _CODE}}) == 45 * 37 - 100
        assert _area({}) is None

    def test_ignored_values_and_void_rows_are_ignored(self, tmp_path: Path) -> None:
        path = masks(tmp_path)
        write_text(path / "classes.csv", "name,value\nvoid,0\nfloor,1\nwall,2\n")
        data = load_data("segmentation-folder", path=path, options=ImageOptions(image_size=40))
        expected = np.full((40, 40), 255, dtype=np.uint8)
        expected[5:35, 20:] = 0
        assert np.array_equal(data.train.labels[0], expected)
        assert data.class_names == ("floor", "wall")


@pytest.mark.parametrize(
    ("name", "make"), [("coco", coco), ("yolo", yolo), ("voc", voc), ("segmentation-folder", masks)]
)
def test_some_images_are_those_of_the_files(name: str, make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    next(tmp_path.rglob("0.png")).write_bytes(b"no image")
    images = some_images(name, path, channels=3, n=4)
    assert 3 <= len(images) <= 4
    pixels = {np.asarray(Image.open(file)).tobytes() for file in tmp_path.rglob("*.png") if file.stem != "0"}
    assert {np.asarray(image).tobytes() for image in images} <= pixels


class TestSplits:
    def test_rare_classes_are_in_every_part(self, tmp_path: Path) -> None:
        """Of the scenes, 36 have a garment of the rarest class; a part of a fifth has about a fifth of them."""
        scenes = make_scenes(500, sides=(32, 40), n_garments=(1, 1)).scenes
        others = [scene for scene in scenes if 8 not in scene.boxes[:, 0]]
        rare = [scene for scene in scenes if 8 in scene.boxes[:, 0]][:36]
        path = write_yolo({"": Scenes((*others, *rare))}, tmp_path)
        data = load_data("yolo", path=path, options=ImageOptions(image_size=32))
        counts = [int((part.labels[:, :, 0] == 8).any(1).sum()) for part in (data.train, data.validation, data.test)]
        assert counts[1:] == pytest.approx([7, 7], abs=1)
        assert sum(counts) == 36

    def test_equal_images_stay_in_one_part(self, tmp_path: Path) -> None:
        scenes = make_scenes(20, sides=(32, 40))
        path = write_coco({"": Scenes(scenes.scenes * 2)}, tmp_path)
        data = load_data("coco", path=path, options=ImageOptions(image_size=32))
        rows = [set(raw_rows(data, part)) for part in (data.train, data.validation, data.test)]
        assert len(set.union(*rows)) == sum(map(len, rows)) == 20

    def test_layouts_of_other_tools_are_read(self, tmp_path: Path) -> None:
        """COCO's own folders, Roboflow's exports, and lists of files of YOLO."""
        source = yolo(tmp_path / "yolo") / "images" / "train"
        content = json.loads(coco(tmp_path / "coco").read_text())
        halves = {
            "train": dict(content, images=content["images"][:8], annotations=content["annotations"][:8]),
            "valid": dict(content, images=content["images"][8:], annotations=content["annotations"][8:]),
        }
        for part, half in halves.items():
            folder = tmp_path / "roboflow" / part
            folder.mkdir(parents=True)
            (folder / "_annotations.coco.json").write_text(json.dumps(half))
            year = tmp_path / "original" / f"{part}2017"
            year.mkdir(parents=True)
            for image in half["images"]:
                for target in (folder, year):
                    (target / image["file_name"]).write_bytes((source / image["file_name"]).read_bytes())
            name = {"valid": "val"}.get(part, part)
            write_text(tmp_path / "original" / "annotations" / f"instances_{name}2017.json", json.dumps(half))
            write_text(tmp_path / "original" / "annotations" / f"captions_{name}2017.json", "{}")
            names = [f"./images/train/{image['file_name']}" for image in half["images"]]
            write_text(tmp_path / "yolo" / f"{name}.txt", "\n".join(names))
        (tmp_path / "yolo" / "data.yaml").write_text(
            "path: ../other\ntrain: train.txt\nval: val.txt\nnames: {0: a, 1: b}"
        )
        write_text(tmp_path / "export" / "data.yaml", "train: ../train/images\nval: ../valid/images\nnames: [a, b]")
        for part, half in halves.items():
            for image in half["images"]:
                file = tmp_path / "export" / part / "images" / image["file_name"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes((source / image["file_name"]).read_bytes())
                write_text(tmp_path / "export" / part / "labels" / f"{image['id']}.txt", "0 .5 .5 .2 .2")
        for name, path in (
            ("coco", tmp_path / "roboflow"),
            ("coco", tmp_path / "original"),
            ("yolo", tmp_path / "yolo"),
            ("yolo", tmp_path / "export"),
        ):
            data = load_data(name, path=path, options=ImageOptions(image_size=32), test=2)
            assert [len(part) for part in (data.train, data.validation, data.test)] == [6, 4, 2]


class TestPlugins:
    def images(self) -> NDArray[np.uint8]:
        return np.random.default_rng(0).integers(0, 256, (12, 3, 16, 16), dtype=np.uint8)

    def test_boxes_and_masks_of_plug_ins_are_letterboxed_and_split(self) -> None:
        boxes = np.zeros((12, 1, 8), dtype=np.float64)
        boxes[:, 0, 3:5] = 4
        masks = np.zeros((12, 16, 16), dtype=np.uint8)
        for kind, labels in (("boxes", boxes), ("masks", masks)):
            source = checked_source(Source("own", ("a", "b"), Examples(self.images(), labels), targets=kind), "own")
            data = data_set_of("own", source)
            assert data.images.resizing == "letterbox"
            assert len(data.test) == 2
            with pytest.raises(DataError) as caught:
                data_set_of("own", source, options=ImageOptions(image_size=8))
            assert caught.value.code == "data.invalid-option"

    @pytest.mark.parametrize(
        ("kind", "labels"),
        [
            ("boxes", np.zeros((12, 1, 7))),
            ("boxes", np.zeros((12, 0, 8))),
            ("boxes", np.full((12, 1, 8), 2.0)),
            ("masks", np.zeros((12, 16, 16), dtype=np.int64)),
            ("masks", np.zeros((12, 8, 8), dtype=np.uint8)),
            ("masks", np.full((12, 16, 16), 2, dtype=np.uint8)),
        ],
    )
    def test_wrong_arrays_are_refused(self, kind: str, labels: NDArray[np.generic]) -> None:
        with pytest.raises(DataError) as caught:
            checked_source(Source("own", ("a", "b"), Examples(self.images(), labels), targets=kind), "own")
        assert "train part" in str(caught.value)
