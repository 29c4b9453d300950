"""The user's own images, in one folder for each class, divided into parts or not."""

from __future__ import annotations

import struct
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from supernets.data.image_memory import check_memory
from supernets.data.labelled_examples import (
    CLUTTER,
    PARTS,
    Examples,
    OnProgress,
    Source,
    invalid_option,
    listed,
    misplaced,
    missing,
    no_progress,
    unreadable,
)
from supernets.data.options import ImageOptions
from supernets.data.preprocessing import PLAIN, centre, decode, square, square_in_one_call
from supernets.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_GREY_MODES = ("1", "L", "LA")
_DEEP_MODE = "I"
"""Prefix of the modes of grey with 16 bits."""
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""Exceptions that PIL raises for damaged files, by format."""
MAX_LISTED = 200
"""Maximum number of files in an error."""
_REPORT_S = 1.0
_T = TypeVar("_T")
_LAYOUT = "path/CLASS/IMAGE files, or path/{train,validation,test}/CLASS/IMAGE files"


class Shape(NamedTuple):
    """Size and kind of an image, from its header."""

    long_side: int
    short_side: int
    grey: bool


class _Entry(NamedTuple):
    """A file of a class folder."""

    file: Path
    part: str
    label: int


_Resize = Callable[[Image.Image, int], NDArray[np.uint8]]
Problems = dict[Path, DataError]
"""Files that are no usable images, each with its error."""
ImageReader = Callable[
    [Sequence[Path], Path, ImageOptions, Problems, OnProgress],
    dict[Path, NDArray[np.uint8]],
]
"""Reads image files as `read_images` does."""


def image_folder(
    path: Path, options: ImageOptions, *, on_progress: OnProgress = no_progress, read: ImageReader | None = None
) -> Source:
    """The images of ``path/CLASS/*`` or of ``path/{train,val|validation,test}/CLASS/*``, classes sorted by name.

    Validation and test are optional in the second layout.

    Without an `image_size` they keep the short side that all of them have; without `channels` they have 1 if all are grey,
    else 3.

    Args:
        read: Reads the files in place of `read_images`.

    Raises:
        DataError: the folder is missing, empty or laid out in another way; files cannot be used (all are listed), unless
            they are to be skipped; the sizes differ and there is no `image_size`; or the images would take too much memory.
    """
    problems: Problems = {}
    all_entries, class_names = _find(path, problems)
    files = [entry.file for entry in all_entries if entry.file not in problems]
    pixels = (read or read_images)(files, path, options, problems, on_progress)
    entries = [entry for entry in all_entries if entry.file in pixels]
    is_part_lost = {entry.part for entry in entries} != {entry.part for entry in all_entries}
    if problems and (is_part_lost or not options.skip_unreadable):
        raise unusable(path, problems)
    examples: dict[str, Any] = {}
    for part in ("train", "validation", "test"):
        if part_entries := [entry for entry in entries if entry.part == part]:
            examples[part] = Examples(
                np.stack([pixels.pop(entry.file) for entry in part_entries]),
                np.array([entry.label for entry in part_entries], dtype=np.int64),
                tuple(str(entry.file.relative_to(path)) for entry in part_entries),
            )
    return Source(
        str(path),
        class_names,
        **examples,
        skipped=tuple(str(file.relative_to(path)) for file in problems),
    )


def class_files(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The image files of a folder and its classes, without reading the files; raises as `image_folder` for another layout."""
    problems: Problems = {}
    entries, class_names = _find(path, problems)
    return [entry.file for entry in entries if entry.file not in problems], class_names


def images_of_folder(path: Path, *, channels: int, n: int) -> list[Image.Image]:
    """At most `n` images of a folder, decoded but not resized, spread over its training part, without those that cannot be
    read; raises as `image_folder`."""
    problems: Problems = {}
    files = [entry.file for entry in _find(path, problems)[0] if entry.part == "train" and entry.file not in problems]
    return some_of([files[i] for i in spread(len(files), n)], channels=channels)


def some_of(files: Sequence[Path], *, channels: int) -> list[Image.Image]:
    """Images, decoded but not resized, without those that cannot be read."""
    return list(read_each(partial(read_image, channels=channels), files, {}).values())


def spread(length: int, n: int) -> range:
    """At most `n` positions spread evenly over a sequence."""
    return range(0, length, -(-length // n))


def unusable(path: Path, problems: Problems) -> DataError:
    """The error of one file, or of several files in a line each."""
    remedy = "or set skip_unreadable: true to leave out such files"
    errors = list(problems.values())
    if len(errors) == 1:
        return DataError(f"{errors[0]}, {remedy}", code=errors[0].code)
    lines = [
        f"  {file.relative_to(path)}: {str(error).removeprefix(f'{file}: ').partition('; ')[0]}"
        for file, error in problems.items()
    ]
    if len(lines) > MAX_LISTED:
        lines[MAX_LISTED:] = [f"  and {len(lines) - MAX_LISTED} more"]
    codes = {error.code for error in errors}
    message = f"{path}: {len(errors)} files cannot be used; replace or remove them, {remedy}:"
    return DataError("\n".join([message, *lines]), code=codes.pop() if len(codes) == 1 else unreadable("").code)


def _find(path: Path, problems: Problems) -> tuple[list[_Entry], tuple[str, ...]]:
    """The files of all parts, and the names of the classes; adds files of other kinds to the problems."""
    folders = _folders(path)
    # A folder named `train` that holds images itself is a class of trains.
    divided = [folder for folder in folders if folder.name in PARTS and any(f.is_dir() for f in _entries(folder))]
    if not divided:
        class_names = tuple(folder.name for folder in folders)
        return _collect("train", folders, class_names, problems), class_names
    names = [folder.name for folder in folders]
    if "train" not in names or len({PARTS.get(name, "") for name in names} - {""}) != len(names):
        raise misplaced(f"{path}: holds {listed(names)}; expected train, and at most one val (or validation) and test")
    train = next(folder for folder in folders if folder.name == "train")
    class_names = tuple(folder.name for folder in _folders(train))
    entries: list[_Entry] = []
    for folder in sorted(folders, key=lambda f: f != train):
        classes = _folders(folder)
        unknown = [c.name for c in classes if c.name not in class_names]
        if unknown:
            raise misplaced(f"{folder}: has classes that {train} lacks: {listed(unknown)}; give it the same")
        entries += _collect(PARTS[folder.name], classes, class_names, problems)
    return entries, class_names


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder, sorted by name, without hidden files and clutter."""
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise missing(f"{folder}: {state}; expected a folder with one folder of images for each class")
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(f"{folder}: cannot be listed ({error.strerror}); make it readable") from None
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in CLUTTER]


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


def _collect(part: str, folders: list[Path], class_names: tuple[str, ...], problems: Problems) -> list[_Entry]:
    """The files in these class folders; adds those of other kinds to the problems."""
    files: list[_Entry] = []
    for folder in folders:
        entries = _entries(folder)
        for entry in entries:
            if entry.is_dir():
                raise misplaced(f"{entry}: is a folder inside a class folder; expected {_LAYOUT}; move its images up")
            files.append(_Entry(entry, part, class_names.index(folder.name)))
            if entry.suffix.lower() not in SUFFIXES:
                expected = f"{', '.join(SUFFIXES)} file"
                problems[entry] = misplaced(f"{entry}: is no {expected}; convert it to one of these, remove it")
        if not entries:
            raise misplaced(f"{folder}: holds no {', '.join(SUFFIXES)} images; add some or remove the folder")
    return files


def read_images(
    files: Sequence[Path], path: Path, options: ImageOptions, problems: Problems, on_progress: OnProgress
) -> dict[Path, NDArray[np.uint8]]:
    """The bytes of each file, (channels, size, size); adds those that cannot be read to the problems.

    Without an `image_size` they keep the short side that all of them have; without `channels` they have 1 if all are grey,
    else 3.

    Args:
        files: The image files.
        path: The folder that they are in, for errors.
        problems: Receives the errors of files that cannot be read.
        on_progress: Called about once a second.
    """
    shapes = read_each(read_shape, files, problems, partial(on_progress, "reading the sizes of images"))
    if not shapes:
        return {}
    size = options.image_size or _common_size(path, list(shapes.values()))
    channels = options.channels or (1 if all(shape.grey for shape in shapes.values()) else 3)
    check_memory(len(shapes), channels=channels, image_size=size, where=str(path))
    resize: _Resize = square_in_one_call if options.as_in_0_1 else square
    if (crop_settings := resizing_of(options)) and not options.as_in_0_1:
        resize = partial(centre, **crop_settings)
    read_file = partial(_read_pixels, image_size=size, channels=channels, resize=resize)
    return read_each(read_file, list(shapes), problems, partial(on_progress, "reading images"))


def resizing_of(options: ImageOptions) -> dict[str, Any]:
    """The crop and the interpolation of image files; empty where they are resized whole by bilinear interpolation."""
    crop, interpolation = options.crop or 1.0, options.interpolation or PLAIN
    return {} if crop == 1 and interpolation == PLAIN else {"crop": crop, "interpolation": interpolation}


def read_each(
    read_file: Callable[[Path], _T],
    files: Sequence[Path],
    problems: Problems,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Path, _T]:
    """The result of `read_file` for each file; adds files that cannot be used to the problems.

    Reports once a second, and then the last.
    """
    value_by_file: dict[Path, _T] = {}
    reported, long = time.monotonic(), False
    for i, file in enumerate(files):
        try:
            value_by_file[file] = read_file(file)
        except DataError as error:
            problems[file] = error
        if (now := time.monotonic()) >= reported + _REPORT_S or (long and i + 1 == len(files)):
            reported, long = now, True
            report(i + 1, len(files))
    return value_by_file


def _common_size(path: Path, shapes: list[Shape]) -> int:
    sizes = sorted({(shape.long_side, shape.short_side) for shape in shapes})
    if len(sizes) > 1:
        smallest, largest = (f"{sizes[i][0]}x{sizes[i][1]}" for i in (0, -1))
        raise invalid_option(
            f"{path}: its images have {len(sizes)} sizes, from {smallest} to {largest}; give image_size"
        )
    return sizes[0][1]


def read_shape(file: Path) -> Shape:
    """The size and kind of an image."""
    with opened_image(file) as image:
        grey = image.mode in _GREY_MODES or image.mode.startswith(_DEEP_MODE)
        return Shape(max(image.size), min(image.size), grey)


def _read_pixels(file: Path, *, image_size: int, channels: int, resize: _Resize) -> NDArray[np.uint8]:
    """The image's bytes, (channels, image_size, image_size)."""
    return resize(read_image(file, channels=channels), image_size)


def read_image(file: Path, *, channels: int, reduced: bool = False) -> Image.Image:
    """An image in grey or in colour; raises `DataError` where it cannot be read.

    Args:
        reduced: Reads a JPEG at an eighth of its size, which is several times faster, and reads all of its data.
    """
    with opened_image(file) as image:
        if reduced:
            image.draft(None, (1, 1))
        return decode(image, channels)


@contextmanager
def opened_image(file: Path) -> Iterator[Image.Image]:
    """An image file whose header was read; raises `DataError` where it, or what is read of it, is no usable image."""
    if file.exists() and not file.is_file():  # opening a pipe would wait for its writer
        kind = "a folder" if file.is_dir() else "a pipe, a socket or a device"
        raise unreadable(f"{file}: is {kind}; expected an image file; remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                yield image
    except _UNREADABLE as error:
        reason = "no image of a known format" if isinstance(error, UnidentifiedImageError) else error
        expected = f"a whole {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} file"
        raise unreadable(f"{file}: cannot be read ({reason}); expected {expected}; replace it, remove it") from None
