"""Scenes of Fashion-MNIST garments with a box and a mask for each, drawn from a seed, in four formats of data sets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from supernets.data.fashion_mnist import CLASS_NAMES, fashion_mnist

MAX_GARMENTS = 6
_SCALES = (0.3, 1.5)
_PLAIN_SIDE = 0.4
"""The side of a garment of scale 1, by the short side of the scene: 64 of 160 pixels."""
_MIN_VISIBLE = 0.4
"""The visible share of a garment below which it has no box."""
_MIN_PIXELS = 9
"""The visible pixels of a garment below which it has no box."""
BACKGROUND = "background"
MASK_CLASSES = (BACKGROUND, *CLASS_NAMES)
"""Classes of masks; a garment's is one more than its class as a box."""


@dataclass(frozen=True, eq=False, slots=True)
class Scene:
    """An image with its labels.

    Attributes:
        image: (height, width, 3), uint8.
        boxes: (garments, 5), int64: class, x0, y0, x1, y1 of the visible pixels, the second corner exclusive.
        areas: (garments,), int64: visible pixels.
        mask: (height, width), uint8, by `MASK_CLASSES`; it has garments without a box, too.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    mask: NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class Scenes:
    """Scenes in the order of their files, ``scene00000.png`` and on after `prefix`."""

    scenes: tuple[Scene, ...]
    prefix: str = "scene"

    def name(self, index: int) -> str:
        """The name of a scene's files, without a suffix."""
        return f"{self.prefix}{index:05}"


Parts = Mapping[str, Scenes]
"""Scenes by the part that files and folders are named after: train, val, test; or "" alone, undivided."""


def make_scenes(
    n: int,
    *,
    seed: int = 0,
    sides: tuple[int, int] = (128, 160),
    garments: Literal["train", "test"] = "train",
    n_garments: tuple[int, int] = (1, MAX_GARMENTS),
    prefix: str = "scene",
) -> Scenes:
    """`n` scenes, which depend on the arguments alone; about 500 a second.

    Garments overlap; one whose visible share is below 40 %, or that is smaller than 9 pixels, has no box and stays in the mask.

    Args:
        sides: Smallest and largest number of pixels of a scene's width and of its height, each drawn uniformly.
        garments: The part of Fashion-MNIST that garments are drawn from.
        n_garments: Smallest and largest number of garments in a scene.
        prefix: Begin of the files' names.
    """
    source = _garments(garments)
    return Scenes(
        tuple(_scene(np.random.default_rng([seed, i]), *source, sides=sides, n_garments=n_garments) for i in range(n)),
        prefix,
    )


def make_parts(n_train: int, n_val: int, n_test: int, *, seed: int = 0, sides: tuple[int, int] = (128, 160)) -> Parts:
    """Scenes to train, to validate and to test on; those of the test part have garments that no other part has."""
    return {
        "train": make_scenes(n_train, seed=3 * seed, sides=sides, prefix="a"),
        "val": make_scenes(n_val, seed=3 * seed + 1, sides=sides, prefix="b"),
        "test": make_scenes(n_test, seed=3 * seed + 2, sides=sides, garments="test", prefix="c"),
    }


@cache
def _garments(part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    source = fashion_mnist(None)
    examples = source.train if part == "train" or source.test is None else source.test
    return examples.inputs[:, 0], examples.labels


def _scene(
    rng: np.random.Generator,
    garments: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    sides: tuple[int, int],
    n_garments: tuple[int, int],
) -> Scene:
    width, height = rng.integers(sides[0], sides[1] + 1, 2).tolist()
    image = _background(rng, width, height)
    owner = np.full((height, width), -1, dtype=np.int64)
    chosen = rng.integers(len(garments), size=rng.integers(n_garments[0], n_garments[1] + 1))
    n_pixels = np.empty(len(chosen), dtype=np.int64)
    for place, index in enumerate(chosen.tolist()):
        side = max(4, round(_PLAIN_SIDE * min(width, height) * rng.uniform(*_SCALES)))
        grey = np.asarray(Image.fromarray(garments[index]).resize((side, side), Image.Resampling.BILINEAR))
        is_garment = grey > 24
        n_pixels[place] = is_garment.sum()
        # A quarter of a garment may be outside of the scene.
        left, top = (int(rng.integers(-(side // 4), max(1, length - 3 * side // 4))) for length in (width, height))
        x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
        window = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        drawn = is_garment[window]
        colour = rng.uniform(0.35, 1, 3)
        image[y0:y1, x0:x1][drawn] = (grey[window][drawn][:, None] * colour).astype(np.uint8)
        owner[y0:y1, x0:x1][drawn] = place
    classes = labels[chosen]
    mask = np.append(classes + 1, 0)[owner].astype(np.uint8)
    boxes, areas = [], []
    for place, label in enumerate(classes.tolist()):
        rows, columns = np.nonzero(owner == place)
        if len(rows) >= max(_MIN_PIXELS, _MIN_VISIBLE * n_pixels[place]):
            boxes.append((label, columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
            areas.append(len(rows))
    return Scene(image, np.array(boxes, dtype=np.int64).reshape(-1, 5), np.array(areas, dtype=np.int64), mask)


def _background(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Smooth patches of colour with stripes and noise on them, (height, width, 3)."""
    patches = Image.fromarray(rng.integers(30, 226, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    across, down = rng.uniform(-0.6, 0.6, 2)
    phase = across * np.arange(width, dtype=np.float32) + down * np.arange(height, dtype=np.float32)[:, None]
    stripes = rng.uniform(0, 25) * np.sin(phase)
    noise = rng.integers(-12, 13, (height, width), dtype=np.int8)
    pixels: NDArray[np.uint8] = np.clip(smooth + (stripes + noise)[:, :, None], 0, 255).astype(np.uint8)
    return pixels


def write_coco(parts: Parts, folder: Path) -> Path:
    """Writes ``annotations/PART.json`` (undivided: ``annotations.json``) and ``images/*.png``.

    Returns:
        The path of a job's data section; its `images` is ``folder/images``.
    """
    _write_images(parts, dict.fromkeys(parts, folder / "images"))
    path = folder / "annotations.json"
    for part, scenes in parts.items():
        file = folder / "annotations" / f"{part}.json" if part else path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(coco_annotations(scenes)))
    return path if "" in parts else folder / "annotations"


def coco_annotations(scenes: Scenes) -> dict[str, Any]:
    """The content of a file of annotations; ids begin at 1, and categories have every second id."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, scene in enumerate(scenes.scenes):
        height, width = scene.mask.shape
        images.append({"id": i + 1, "file_name": f"{scenes.name(i)}.png", "width": width, "height": height})
        for (label, x0, y0, x1, y1), area in zip(scene.boxes.tolist(), scene.areas.tolist(), strict=True):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": area, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, "category_id": 2 * label + 1} | box)
    categories = [{"id": 2 * label + 1, "name": name} for label, name in enumerate(CLASS_NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_yolo(parts: Parts, folder: Path) -> Path:
    """Writes ``data.yaml``, ``images/PART/*.png`` and ``labels/PART/*.txt``; returns the folder."""
    _write_images(parts, {part: folder / "images" / part for part in parts})
    for part, scenes in parts.items():
        labels = folder / "labels" / part
        labels.mkdir(parents=True, exist_ok=True)
        for i, scene in enumerate(scenes.scenes):
            height, width = scene.mask.shape
            lines = [
                f"{label} {(x0 + x1) / 2 / width:.9f} {(y0 + y1) / 2 / height:.9f} "
                f"{(x1 - x0) / width:.9f} {(y1 - y0) / height:.9f}"
                for label, x0, y0, x1, y1 in scene.boxes.tolist()
            ]
            (labels / f"{scenes.name(i)}.txt").write_text("".join(f"{line}\n" for line in lines))
    names = "".join(f"  {label}: {name}\n" for label, name in enumerate(CLASS_NAMES))
    folders = "".join(f"{part or 'train'}: images/{part}\n" for part in parts)
    (folder / "data.yaml").write_text(f"path: .\n{folders}names:\n{names}")
    return folder


def write_voc(parts: Parts, folder: Path) -> Path:
    """Writes ``Annotations/*.xml``, ``JPEGImages/*.png`` and ``ImageSets/Main/PART.txt`` (none for ""); returns the folder."""
    _write_images(parts, dict.fromkeys(parts, folder / "JPEGImages"))
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    for part, scenes in parts.items():
        for i, scene in enumerate(scenes.scenes):
            height, width = scene.mask.shape
            size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
            objects = "".join(
                f"<object><name>{CLASS_NAMES[label]}</name><difficult>0</difficult><bndbox><xmin>{x0 + 1}</xmin>"
                f"<ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>\n"
                for label, x0, y0, x1, y1 in scene.boxes.tolist()
            )
            name = scenes.name(i)
            text = f"<annotation><filename>{name}.png</filename>{size}\n{objects}</annotation>\n"
            (folder / "Annotations" / f"{name}.xml").write_text(text)
        if part:
            sets = folder / "ImageSets" / "Main"
            sets.mkdir(parents=True, exist_ok=True)
            (sets / f"{part}.txt").write_text("".join(f"{scenes.name(i)}\n" for i in range(len(scenes.scenes))))
    return folder


def write_masks(parts: Parts, folder: Path, *, kind: Literal["grey", "palette", "colours"] = "grey") -> Path:
    """Writes ``PART/images/*.png`` and ``PART/masks/*.png``, and ``classes.csv`` with names; returns the folder.

    Args:
        kind: Masks of the classes' numbers, grey or with a palette; or of the colours `mask_colours`.
    """
    _write_images(parts, {part: folder / part / "images" for part in parts})
    colours = mask_colours()
    for part, scenes in parts.items():
        masks = folder / part / "masks"
        masks.mkdir(parents=True, exist_ok=True)
        for i, scene in enumerate(scenes.scenes):
            image = Image.fromarray(colours[scene.mask] if kind == "colours" else scene.mask)
            if kind == "palette":
                image = image.convert("P")
                image.putpalette(colours.tobytes())
                image.putdata(scene.mask.reshape(-1).tolist())
            image.save(masks / f"{scenes.name(i)}.png", compress_level=1)
    rows = [
        ",".join((name, *(map(str, colours[label].tolist()) if kind == "colours" else (str(label),))))
        for label, name in enumerate(MASK_CLASSES)
    ]
    header = "name,r,g,b" if kind == "colours" else "name,value"
    (folder / "classes.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def mask_colours() -> NDArray[np.uint8]:
    """A colour for each of `MASK_CLASSES`, (classes, 3), uint8."""
    labels = np.arange(len(MASK_CLASSES))
    return np.stack([labels * 23, 255 - labels * 17, labels % 3 * 90], axis=1).astype(np.uint8)


def _write_images(parts: Parts, folders: Mapping[str, Path]) -> None:
    for part, scenes in parts.items():
        folders[part].mkdir(parents=True, exist_ok=True)
        for i, scene in enumerate(scenes.scenes):
            Image.fromarray(scene.image).save(folders[part] / f"{scenes.name(i)}.png", compress_level=1)
