"""Small right data sets in the four formats, to be made wrong."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("cat", "dog")
N_IMAGES = 12
WIDTH, HEIGHT = 40, 30
Change = Callable[[Path], object]


def write_image(file: Path, *, size: tuple[int, int] = (WIDTH, HEIGHT), seed: int = 0) -> None:
    """A different image of noise for each seed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


def coco(folder: Path) -> Path:
    """``annotations.json`` and ``images``: image i has a box of the class i % 2."""
    for i in range(N_IMAGES):
        write_image(folder / "images" / f"{i}.png", seed=i)
    images = [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(N_IMAGES)]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [2, 3, 10, 8], "area": 80, "iscrowd": 0}
        for i in range(N_IMAGES)
    ]
    categories = [{"id": 1 + label, "name": name} for label, name in enumerate(NAMES)]
    file = folder / "annotations.json"
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return file


def change_json(change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of the content of ``annotations.json``."""

    def apply(folder: Path) -> None:
        file = folder / "annotations.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return apply


def yolo(folder: Path) -> Path:
    """``data.yaml``, ``images/train`` and ``labels/train``."""
    for i in range(N_IMAGES):
        write_image(folder / "images" / "train" / f"{i}.png", seed=i)
        write_text(folder / "labels" / "train" / f"{i}.txt", f"{i % 2} 0.5 0.5 0.25 0.2\n")
    write_text(folder / "data.yaml", "train: images/train\nnames: [cat, dog]\n")
    return folder


def voc(folder: Path) -> Path:
    """``Annotations`` and ``JPEGImages``."""
    for i in range(N_IMAGES):
        write_image(folder / "JPEGImages" / f"{i}.png", seed=i)
        write_text(folder / "Annotations" / f"{i}.xml", annotation(voc_object(NAMES[i % 2])))
    return folder


def voc_object(name: str = "cat", corners: tuple[object, ...] = (3, 4, 12, 11)) -> str:
    """An object with its box, as XML."""
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


def annotation(objects: str, *, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    """An annotation of an image, as XML."""
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"


def masks(folder: Path) -> Path:
    """``images``, ``masks`` of the values 0 and 1, and ``classes.csv``."""
    for i in range(N_IMAGES):
        write_image(folder / "images" / f"{i}.png", seed=i)
    write_masks(folder)
    write_text(folder / "classes.csv", "name,value\nfloor,0\nwall,1\n")
    return folder


def write_mask(file: Path, *, value: int = 1, size: tuple[int, int] = (WIDTH, HEIGHT), mode: str = "L") -> None:
    """A mask of zeros on the left, and of `value` on the right."""
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), dtype=np.uint8)
    values[:, size[0] // 2 :] = value
    Image.fromarray(values).convert(mode).save(file)


def write_masks(folder: Path, *, value: int = 1, mode: str = "L") -> None:
    """The masks of all images."""
    for i in range(N_IMAGES):
        write_mask(folder / "masks" / f"{i}.png", value=value, mode=mode)


def write_text(file: Path, text: str) -> None:
    """A text file, with its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def zipped(make: Callable[[Path], Path]) -> bytes:
    """A zip archive of one of these data sets."""
    out = io.BytesIO()
    with TemporaryDirectory() as folder, zipfile.ZipFile(out, "w") as archive:
        make(Path(folder))
        for file in sorted(Path(folder).rglob("*.*")):
            archive.write(file, file.relative_to(folder))
    return out.getvalue()
