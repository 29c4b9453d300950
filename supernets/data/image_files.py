"""Reads image files with PIL; every error names its file."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from supernets.errors import DataError

_unreadable = partial(DataError, code="data.unreadable")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_GREY_MODES = ("1", "L", "LA")
_DEEP_MODES = ("I", "F")
"""Prefixes of the modes with more than 8 bits a channel, which a conversion would clip."""
_UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip
"""Exceptions that PIL raises for damaged files, by format."""


class Shape(NamedTuple):
    """Size and kind of an image, from its header."""

    long_side: int
    short_side: int
    grey: bool


def read_shape(file: Path) -> Shape:
    """The size and kind of an image.

    Raises:
        DataError: it cannot be read, or has more than 8 bits a channel.
    """
    with _opened(file) as image:
        if image.mode.startswith(_DEEP_MODES):
            raise _unreadable(f"{file}: has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
        return Shape(max(image.size), min(image.size), image.mode in _GREY_MODES)


def read_images(files: Sequence[Path], *, image_size: int, channels: int) -> NDArray[np.uint8]:
    """The images, upright, their short side resized (bilinear) to `image_size`, their middle cut out, alpha dropped.

    Returns:
        (n, channels, image_size, image_size).

    Raises:
        DataError: one cannot be read.
    """
    out = np.empty((len(files), channels, image_size, image_size), dtype=np.uint8)
    for i, file in enumerate(files):
        with _opened(file) as image:
            pixels = np.asarray(_square(image, image_size, channels))
        out[i] = pixels.reshape(image_size, image_size, channels).transpose(2, 0, 1)
    return out


def _square(image: Image.Image, image_size: int, channels: int) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if "transparency" in image.info:  # PIL warns when it is dropped from a palette in one step
        image = image.convert("RGBA")
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((image_size, image_size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                yield image
    except _UNREADABLE as error:
        reason = "no image of a known format" if isinstance(error, UnidentifiedImageError) else error
        raise _unreadable(
            f"{file}: cannot be read as an image ({reason}); expected a whole {', '.join(_FORMATS[:-1])} or "
            f"{_FORMATS[-1]} file; replace or remove it"
        ) from None
