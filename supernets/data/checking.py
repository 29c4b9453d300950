"""Checks the files of a data set as a job reads and divides them, without keeping its images in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from supernets.data.dense.dense_data import dense_source
from supernets.data.documents import text_documents
from supernets.data.fashion_mnist import fashion_mnist
from supernets.data.image_folder import Problems, Shape, image_folder, read_each, read_image, read_shape, spread
from supernets.data.image_table import image_table
from supernets.data.labelled_examples import OnProgress, Source, invalid_option
from supernets.data.number_table import number_table
from supernets.data.options import DocumentOptions, ImageOptions, RowOptions, TextOptions
from supernets.data.splitting import split
from supernets.data.targets import CLASSES
from supernets.data.text_classification import text_classification
from supernets.data.text_pairs import text_pairs

MAX_PIXELS = 2 * 10**9
"""Pixels that are decoded: half a minute of photographs."""
_DIGEST_BYTES = 16
_CHECKED_SIDE = 64
"""Side in pixels of images with boxes or masks: thousands fit in little memory, and stay different."""


@dataclass(frozen=True, slots=True)
class CheckedData:
    """The contents of a data set that can be trained on.

    Attributes:
        n_examples: Number of examples in all parts.
        noun: The word for an example.
        class_names: Names of the classes or labels; empty where there are none.
        n_decoded: Number of images that were decoded; None for other data.
        short_side: The median of the images' short sides in pixels; None for other data.
    """

    n_examples: int
    noun: str
    class_names: tuple[str, ...]
    n_decoded: int | None = None
    short_side: float | None = None


def check_data(
    name: str,
    path: Path,
    *,
    options: ImageOptions | TextOptions | RowOptions | DocumentOptions,
    targets: str = CLASSES,
    max_pixels: int = MAX_PIXELS,
) -> CheckedData:
    """The contents of a data set, which is read and divided by default shares, as `supernets.data.load_data` does it.

    Of images with boxes or masks, all are decoded. Of others, the header of each is read, and each is decoded in full, JPEG at
    an eighth of its size; where that would be more than `max_pixels`, so many of them, spread over the set. Copies of a file
    count as one image; equal pixels in different files are found when a job reads them.

    Args:
        name: The data set, one of those of files.
        path: File or folder of the data.
        options: Options of the data set's kind.
        targets: Kind of the labels that a table has, see `supernets.data.targets`.
        max_pixels: Number of pixels that are decoded at most, at least one image.

    Raises:
        DataError: files are missing, damaged or unfit to train on, or cannot be divided into parts with all classes.
    """
    decoder = _Decoder(max_pixels)
    match name, options:
        case "image-folder", ImageOptions():
            source = image_folder(path, options, read=decoder)
        case "image-table", ImageOptions():
            source = image_table(path, options, targets, read=decoder)
        case "coco" | "yolo" | "voc" | "segmentation-folder", ImageOptions():
            source = dense_source(name, path, replace(options, image_size=_CHECKED_SIDE))
            decoder.n_decoded = _n_examples(source)
        case "fashion-mnist", ImageOptions():
            source = fashion_mnist(path)
        case "number-table", RowOptions():
            source, _ = number_table(path, options, targets)
        case "text-classification", TextOptions():
            source = text_classification(path, options)
        case "text", DocumentOptions():
            source = text_documents(path, options)
        case "text-pairs", DocumentOptions():
            source = text_pairs(path, options)
        case _:
            raise invalid_option(f"{name} is no data set of files with {type(options).__name__}")
    split(source, validation=None, test=None, seed=0)
    side = median(decoder.short_sides) if decoder.short_sides else None
    n_decoded = decoder.n_decoded or None
    return CheckedData(_n_examples(source), source.noun, source.class_names, n_decoded, side)


class _Decoder:
    """Decodes image files, and returns a digest of each file in place of its pixels.

    Attributes:
        n_decoded: Number of files that were decoded.
        short_sides: Short sides of the images in pixels.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self.n_decoded = 0
        self.short_sides: list[int] = []

    def __call__(
        self, files: Sequence[Path], path: Path, options: ImageOptions, problems: Problems, on_progress: OnProgress
    ) -> dict[Path, NDArray[np.uint8]]:
        """The digest of each file; adds files that cannot be read to the problems. For arguments see `read_images`."""
        shapes = read_each(read_shape, files, problems)
        self.short_sides = [shape.short_side for shape in shapes.values()]
        chosen = _within(shapes, self._max_pixels)
        read_each(lambda file: read_image(file, channels=3, reduced=True), chosen, problems)
        self.n_decoded = len(chosen)
        return {file: _digest(file) for file in shapes if file not in problems}


def _within(shapes: dict[Path, Shape], max_pixels: int) -> list[Path]:
    """The largest selection of files with at most this number of pixels, at least one file, spread over all."""
    files = list(shapes)
    pixels = [shape.long_side * shape.short_side for shape in shapes.values()]
    share = max_pixels / max(1, sum(pixels))
    if share >= 1:
        return files
    chosen = [files[i] for i in spread(len(files), max(1, int(len(files) * share)))]
    totals = accumulate(shapes[file].long_side * shapes[file].short_side for file in chosen)
    return [file for i, (file, total) in enumerate(zip(chosen, totals, strict=True)) if total <= max_pixels or i == 0]


def _digest(file: Path) -> NDArray[np.uint8]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)).digest()
    return np.frombuffer(digest, dtype=np.uint8)


def _n_examples(source: Source) -> int:
    return sum(len(part) for part in (source.train, source.validation, source.test) if part is not None)
