"""The user's own images, in one folder for each class, divided into parts or not."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from supernets.data.labelled_examples import (
    CLUTTER,
    PARTS,
    Examples,
    Source,
    invalid_option,
    listed,
    misplaced,
    missing,
    unreadable,
)
from supernets.data.options import ImageOptions
from supernets.data.pixels import check_memory
from supernets.data.preprocessing import decode, square, square_in_one_call

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
_LAYOUT = "path/CLASS/IMAGE files, or path/{train,validation,test}/CLASS/IMAGE files"


class _Shape(NamedTuple):
    """Size and kind of an image, from its header."""

    long_side: int
    short_side: int
    grey: bool


def image_folder(path: Path, options: ImageOptions) -> Source:
    """The images of ``path/CLASS/*`` or of ``path/{train,val|validation,test}/CLASS/*``, classes sorted by name.

    Validation and test are optional in the second layout.

    Without an `image_size` they keep the short side that all of them have; without `channels` they have 1 if all are grey,
    else 3.

    Raises:
        DataError: the folder is missing, empty or laid out in another way; an image cannot be read; the sizes differ and
            there is no `image_size`; or the images would take too much memory.
    """
    parts, class_names = _find(path)
    files = [file for part in parts.values() for file, _ in part]
    shapes = [_read_shape(file) for file in files]
    size = options.image_size or _common_size(path, shapes)
    n_channels = options.channels or (1 if all(shape.grey for shape in shapes) else 3)
    check_memory(len(files), channels=n_channels, image_size=size, where=str(path))
    resize = square_in_one_call if options.as_in_0_1 else square
    examples = {
        name: Examples(
            _read_images([file for file, _ in part], image_size=size, channels=n_channels, resize=resize),
            np.array([label for _, label in part], dtype=np.int64),
            tuple(str(file.relative_to(path)) for file, _ in part),
        )
        for name, part in parts.items()
    }
    return Source(str(path), class_names, examples["train"], examples.get("validation"), examples.get("test"))


def images_of_folder(path: Path, *, channels: int, n: int) -> list[Image.Image]:
    """At most `n` images of a folder, decoded but not resized, spread over its training part; raises as `image_folder`."""
    files = [file for file, _ in _find(path)[0]["train"]]
    found = []
    for i in spread(len(files), n):
        with _opened(files[i]) as image:
            found.append(decode(image, channels))
    return found


def spread(length: int, n: int) -> range:
    """At most `n` positions spread evenly over a sequence."""
    return range(0, length, -(-length // n))


def _find(path: Path) -> tuple[dict[str, list[tuple[Path, int]]], tuple[str, ...]]:
    """The files of each part with their labels, and the names of the classes."""
    folders = _folders(path)
    # A folder named `train` that holds images itself is a class of trains.
    divided = [folder for folder in folders if folder.name in PARTS and any(f.is_dir() for f in _entries(folder))]
    if not divided:
        class_names = tuple(folder.name for folder in folders)
        return {"train": _collect(folders, class_names)}, class_names
    names = [folder.name for folder in folders]
    if "train" not in names or len({PARTS.get(name, "") for name in names} - {""}) != len(names):
        raise misplaced(f"{path}: holds {listed(names)}; expected train, and at most one val (or validation) and test")
    train = next(folder for folder in folders if folder.name == "train")
    class_names = tuple(folder.name for folder in _folders(train))
    parts = {}
    for folder in sorted(folders, key=lambda f: f != train):
        classes = _folders(folder)
        unknown = [c.name for c in classes if c.name not in class_names]
        if unknown:
            raise misplaced(f"{folder}: has classes that {train} lacks: {listed(unknown)}; give it the same")
        parts[PARTS[folder.name]] = _collect(classes, class_names)
    return parts, class_names


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder, sorted by name, without hidden files and clutter."""
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise missing(f"{folder}: {state}; expected a folder with one folder of images for each class")
    try:
        found = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(f"{folder}: cannot be listed ({error.strerror}); make it readable") from None
    return [entry for entry in found if not entry.name.startswith(".") and entry.name.lower() not in CLUTTER]


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that should hold folders of images."""
    entries = _entries(folder)
    folders = [entry for entry in entries if entry.is_dir()]
    loose = [entry.name for entry in entries if not entry.is_dir() and entry.suffix.lower() in SUFFIXES]
    if loose:
        outside = f"{len(loose)} images outside of class folders ({listed(loose)})"
        raise misplaced(f"{folder}: holds {outside}; expected {_LAYOUT}; move each into its class")
    if not folders:
        raise misplaced(f"{folder}: holds no folders; expected {_LAYOUT}")
    return folders


def _collect(folders: list[Path], class_names: tuple[str, ...]) -> list[tuple[Path, int]]:
    """The images in these class folders, with their labels."""
    found: list[tuple[Path, int]] = []
    for folder in folders:
        entries = _entries(folder)
        for entry in entries:
            if entry.is_dir():
                raise misplaced(f"{entry}: is a folder inside a class folder; expected {_LAYOUT}; move its images up")
            if entry.suffix.lower() not in SUFFIXES:
                raise misplaced(f"{entry}: is no {', '.join(SUFFIXES)} file; convert it to one of these or remove it")
        if not entries:
            raise misplaced(f"{folder}: holds no {', '.join(SUFFIXES)} images; add some or remove the folder")
        found += [(entry, class_names.index(folder.name)) for entry in entries]
    return found


def _common_size(path: Path, shapes: list[_Shape]) -> int:
    sizes = sorted({(shape.long_side, shape.short_side) for shape in shapes})
    if len(sizes) > 1:
        least, most = (f"{sizes[i][0]}x{sizes[i][1]}" for i in (0, -1))
        raise invalid_option(f"{path}: its images have {len(sizes)} sizes, from {least} to {most}; give image_size")
    return sizes[0][1]


def _read_shape(file: Path) -> _Shape:
    """The size and kind of an image."""
    with _opened(file) as image:
        if image.mode.startswith(_DEEP_MODES):
            raise unreadable(f"{file}: has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
        return _Shape(max(image.size), min(image.size), image.mode in _GREY_MODES)


def _read_images(
    files: Sequence[Path], *, image_size: int, channels: int, resize: Callable[[Image.Image, int], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """The images' bytes, (n, channels, image_size, image_size)."""
    out = np.empty((len(files), channels, image_size, image_size), dtype=np.uint8)
    for i, file in enumerate(files):
        with _opened(file) as image:
            out[i] = resize(decode(image, channels), image_size)
    return out


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                yield image
    except _UNREADABLE as error:
        reason = "no image of a known format" if isinstance(error, UnidentifiedImageError) else error
        expected = f"a whole {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} file"
        raise unreadable(f"{file}: cannot be read ({reason}); expected {expected}; replace or remove it") from None
