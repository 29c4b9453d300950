"""Reads images with their labels, letterboxes both, and returns them as labelled examples."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supernets.data.dense.faults import Faults
from supernets.data.image_folder import Problems, opened_image, read_each, read_shape
from supernets.data.image_memory import MAX_GIB, check_memory
from supernets.data.labelled_examples import PARTS, Examples, OnProgress, Source, too_large
from supernets.data.options import ImageOptions
from supernets.data.preprocessing import decode, letterbox, letterbox_window
from supernets.data.targets import BOXES, COLUMNS, IGNORED, MASKS, present_classes, set_groups

DEFAULT_SIZE = 320
"""Side in pixels of letterboxed images without an `image_size`: the size of torchvision's mobile detectors."""
_NO_BOX = -1
_TOLERANCE = 1.0
"""Pixels by which a box may reach outside of its image, where it is cut off: tools round differently."""
_ORIENTATION = 0x0112
_TURNS = {
    2: (True, False, False),
    3: (True, True, False),
    4: (False, True, False),
    5: (False, False, True),
    6: (False, True, True),
    7: (True, True, True),
    8: (True, False, True),
}
"""Changes that turn points upright, by the EXIF orientation: whether x is mirrored, whether y is, and whether they
are then exchanged."""
_PARTS = {**PARTS, "valid": "validation", "training": "train", "testing": "test"}


class Box(NamedTuple):
    """A labelled box as an annotation has it.

    Attributes:
        where: File with the line or entry, for errors.
        label: Position of its class.
        corners: x0, y0, x1, y1, the second corner exclusive: pixels of the image or, where they are relative, shares of its
            width and height.
        area: In the same unit, squared; None for the box's own.
        crowd: True for a region that counts for nobody.
    """

    where: str
    label: int
    corners: tuple[float, float, float, float]
    area: float | None = None
    crowd: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class LabelledImage:
    """An image file with its boxes.

    Attributes:
        where: The entry that names it, for errors.
        size: Width and height by the annotations; None if they have none.
        relative: True if the boxes are shares of the upright image's width and height; else they are in pixels of the stored
            image, before it is turned by its EXIF orientation, unless `size` is that of the upright image alone.
    """

    file: Path
    part: str
    where: str
    boxes: list[Box] = field(default_factory=list)
    size: tuple[int, int] | None = None
    relative: bool = False


class _Read(NamedTuple):
    """The letterboxed pixels (channels, size, size) of an image, its stored width and height, and its EXIF orientation."""

    pixels: NDArray[np.uint8]
    stored: tuple[int, int]
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the image upright."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored

    def scale(self, size: int) -> float:
        """The edge of a pixel of the letterboxed image in pixels of the original; of unequal edges their geometric mean."""
        _, _, width, height = letterbox_window(*self.stored, size)
        return math.sqrt(self.stored[0] * self.stored[1] / (width * height))


def part_of(name: str) -> str:
    """The part that is a word of the name of a file or folder (``instances_val2017``: validation); "" for none or several."""
    parts = {_PARTS[word] for word in re.findall("[a-z]+", name.lower()) if word in _PARTS}
    return parts.pop() if len(parts) == 1 else ""


def is_below(name: str) -> bool:
    """True if a relative path, with slashes of either kind, stays in the folder that it starts from."""
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(name.strip()) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def boxes_source(
    path: Path,
    class_names: tuple[str, ...],
    images: Sequence[LabelledImage],
    options: ImageOptions,
    faults: Faults,
    on_progress: OnProgress,
) -> Source:
    """The labelled examples of images with boxes.

    Raises:
        DataError: there are faults, unless they are of images to be skipped; or the data would take too much memory.
    """
    size = options.image_size or DEFAULT_SIZE
    image_by_file = _read_all(path, [image.file for image in images], options, faults, on_progress)
    rows: dict[Path, NDArray[np.float32]] = {}
    for image in images:
        if image.file in image_by_file:
            rows[image.file] = _rows(image, image_by_file[image.file], size, faults)
    usable = [image for image in images if image.file not in faults.files]
    _stop(faults, images, usable, options)
    max_boxes = max([1, *(len(rows[image.file]) for image in usable)])
    if (gib := len(usable) * max_boxes * COLUMNS * 4 / 2**30) > MAX_GIB:
        boxes = f"{len(usable)} images with up to {max_boxes} boxes take {gib:.1f} GiB of memory"
        raise too_large(f"{path}: {boxes}; expected at most {MAX_GIB} GiB; remove the images with so many boxes")

    def labels_of(files: Sequence[Path]) -> NDArray[np.float32]:
        labels = np.zeros((len(files), max_boxes, COLUMNS), dtype=np.float32)
        labels[:, :, 0] = _NO_BOX
        for i, file in enumerate(files):
            labels[i, :, -1] = image_by_file[file].scale(size)
            labels[i, : len(rows[file])] = rows[file]
        return labels

    return _source(path, class_names, images, usable, image_by_file, BOXES, labels_of)


def masks_source(
    path: Path,
    class_names: tuple[str, ...],
    images: Sequence[LabelledImage],
    read_mask: Callable[[Path], NDArray[np.uint8] | None],
    options: ImageOptions,
    faults: Faults,
    on_progress: OnProgress,
) -> Source:
    """The labelled examples of images with masks.

    Args:
        read_mask: The classes of an image file's pixels, (height, width), 255 for ignored ones; None where its mask has faults.

    Raises:
        DataError: as `boxes_source`.
    """
    size = options.image_size or DEFAULT_SIZE
    image_by_file = _read_all(path, [image.file for image in images], options, faults, on_progress)
    masks: dict[Path, NDArray[np.uint8]] = {}
    for image in images:
        mask = read_mask(image.file)
        if mask is None or image.file not in image_by_file:
            continue
        turned = _turned_mask(mask, image_by_file[image.file])
        if turned is None:
            width, height = image_by_file[image.file].stored
            text = f"its mask has {mask.shape[1]}x{mask.shape[0]} pixels, and the image {width}x{height}; expected the same"
            faults.add(image.where, text, image=image.file)
        else:
            masks[image.file] = letterboxed_mask(turned, size)
    usable = [image for image in images if image.file not in faults.files]
    _stop(faults, images, usable, options)

    def labels_of(files: Sequence[Path]) -> NDArray[np.uint8]:
        return np.stack([masks[file] for file in files])

    return _source(path, class_names, images, usable, image_by_file, MASKS, labels_of)


def letterboxed_mask(mask: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A mask (height, width) of an upright image at the place of the letterboxed image, (size, size): the pixels that hold the
    new pixels' centres, and `IGNORED` around them."""
    height, width = mask.shape
    left, top, new_width, new_height = letterbox_window(width, height, size)
    rows, columns = ((2 * np.arange(n) + 1) * side // (2 * n) for n, side in ((new_height, height), (new_width, width)))
    out = np.full((size, size), IGNORED, dtype=np.uint8)
    out[top : top + new_height, left : left + new_width] = mask[rows[:, None], columns]
    return out


def turned(corners: NDArray[np.float64], size: tuple[int, int], orientation: int) -> NDArray[np.float64]:
    """Boxes (n, 4) of a stored image of this width and height, as boxes of the image upright by its EXIF orientation."""
    mirror_x, mirror_y, exchange = _TURNS.get(orientation, (False, False, False))
    x, y = corners[:, 0::2], corners[:, 1::2]
    x = (size[0] - x)[:, ::-1] if mirror_x else x
    y = (size[1] - y)[:, ::-1] if mirror_y else y
    x, y = (y, x) if exchange else (x, y)
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)


def _turned_mask(mask: NDArray[np.uint8], image: _Read) -> NDArray[np.uint8] | None:
    """The mask upright: turned as the image if it has the stored image's size; None if it has neither size."""
    if mask.shape == image.stored[::-1]:
        mirror_x, mirror_y, exchange = _TURNS.get(image.orientation, (False, False, False))
        mask = mask[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]
        return mask.T if exchange else mask
    return mask if mask.shape == image.upright[::-1] else None


def _stop(
    faults: Faults, images: Sequence[LabelledImage], usable: Sequence[LabelledImage], options: ImageOptions
) -> None:
    """Raises for faults, unless their images are to be skipped and no part is lost by that."""
    keeps_parts = {image.part for image in usable} == {image.part for image in images}
    faults.stop(skip=options.skip_unreadable, usable=keeps_parts)


def _read_all(
    path: Path, files: Sequence[Path], options: ImageOptions, faults: Faults, on_progress: OnProgress
) -> dict[Path, _Read]:
    """The letterboxed images of files; adds those that cannot be read to the faults."""
    problems: Problems = {}
    # Files that are known to be missing have their fault already.
    files = [file for file in dict.fromkeys(files) if file not in faults.files or file.is_file()]
    shapes = read_each(read_shape, files, problems, partial(on_progress, "reading the sizes of images"))
    size = options.image_size or DEFAULT_SIZE
    channels = options.channels or (1 if all(shape.grey for shape in shapes.values()) else 3)
    check_memory(len(shapes), channels=channels, image_size=size, where=str(path))

    def read_image(file: Path) -> _Read:
        with opened_image(file) as image:
            stored, orientation = image.size, image.getexif().get(_ORIENTATION, 1)
            pixels = letterbox(decode(image, channels), size)
            return _Read(pixels, stored, orientation if orientation in _TURNS else 1)

    images = read_each(read_image, list(shapes), problems, partial(on_progress, "reading images"))
    for file, error in problems.items():
        text = str(error).removeprefix(f"{file}: ").partition("; ")[0]
        faults.add(file, text, image=file, code=error.code)
    return images


def _rows(image: LabelledImage, decoded: _Read, size: int, faults: Faults) -> NDArray[np.float32]:
    """The boxes of an image as labels, (boxes, `COLUMNS`); adds those that are wrong to the faults."""
    if image.size not in (None, decoded.stored, decoded.upright):
        (width, height), (real_width, real_height) = image.size or (0, 0), decoded.stored
        text = f"is of {width}x{height} pixels by its annotation, and {image.file.name} has {real_width}x{real_height}"
        faults.add(image.where, f"{text}; expected the image that was labelled", image=image.file)
        return np.zeros((0, COLUMNS), dtype=np.float32)
    is_upright = image.relative or (image.size is not None and image.size != decoded.stored)
    width, height = decoded.upright if is_upright else decoded.stored
    scale = np.array([width, height] * 2 if image.relative else [1] * 4, dtype=np.float64)
    corners = np.array([box.corners for box in image.boxes], dtype=np.float64).reshape(-1, 4) * scale
    clipped: NDArray[np.float64] = corners.clip(0, [width, height] * 2)
    sides: NDArray[np.float64] = clipped[:, 2:] - clipped[:, :2]
    is_finite = np.all(np.isfinite(corners), axis=1)
    is_inside = np.all(np.abs(corners - clipped) <= _TOLERANCE, axis=1)
    has_area = np.all(corners[:, 2:] > corners[:, :2], axis=1)
    for i in np.flatnonzero(~(is_finite & is_inside & has_area & np.all(sides > 0, axis=1))).tolist():
        text = ", ".join(f"{number:.6g}" for number in corners[i])
        if not is_finite[i]:
            fault = f"its corners are ({text}); expected finite numbers"
        elif not has_area[i]:
            fault = f"has no area: its corners are ({text}); expected x0 < x1 and y0 < y1"
        else:
            fault = f"is outside of the image: its corners are ({text}); expected them within {width}x{height} pixels"
        faults.add(image.boxes[i].where, fault, image=image.file)
    areas = [
        float(side.prod()) if box.area is None else box.area * scale[0] * scale[1]
        for box, side in zip(image.boxes, sides, strict=True)
    ]
    for box, area in zip(image.boxes, areas, strict=True):
        if area > (width + _TOLERANCE) * (height + _TOLERANCE):
            fault = f"its area is {area:.6g}; expected at most that of the image, {width * height}"
            faults.add(box.where, fault, image=image.file)
    if image.file in faults.files:
        return np.zeros((0, COLUMNS), dtype=np.float32)
    if not is_upright:
        clipped = turned(clipped, (width, height), decoded.orientation)
    left, top, new_width, new_height = letterbox_window(*decoded.upright, size)
    ratios = new_width / decoded.upright[0], new_height / decoded.upright[1]
    rows = np.empty((len(image.boxes), COLUMNS), dtype=np.float32)
    rows[:, 0] = [box.label for box in image.boxes]
    rows[:, 1:5] = clipped * (ratios * 2) + (left, top) * 2
    rows[:, 5] = areas
    rows[:, 6] = [box.crowd for box in image.boxes]
    rows[:, 7] = decoded.scale(size)
    return rows


def _source(
    path: Path,
    class_names: tuple[str, ...],
    images: Sequence[LabelledImage],
    usable: Sequence[LabelledImage],
    image_by_file: dict[Path, _Read],
    kind: str,
    labels_of: Callable[[Sequence[Path]], NDArray[Any]],
) -> Source:
    """The examples of each part, by groups of the rarest class of each image."""
    base = path if path.is_dir() else path.parent

    def name(file: Path) -> str:
        return str(file.relative_to(base)) if file.is_relative_to(base) else str(file)

    examples: dict[str, Any] = {}
    for part in ("train", "validation", "test"):
        files = [image.file for image in usable if image.part == part]
        if not files:
            continue
        labels = labels_of(files)
        groups = set_groups(present_classes(labels, len(class_names)).astype(np.float32))
        pixels = np.stack([image_by_file[file].pixels for file in files])
        examples[part] = Examples(pixels, labels, tuple(map(name, files)), groups)
    usable_files = {image.file for image in usable}
    skipped = tuple(dict.fromkeys(name(image.file) for image in images if image.file not in usable_files))
    return Source(str(path), class_names, **examples, skipped=skipped, targets=kind)
