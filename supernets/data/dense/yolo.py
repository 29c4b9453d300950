"""Boxes in the format that Ultralytics reads: ``data.yaml``, images, and a file of labels for each image."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from supernets.data.dense.faults import Faults, malformed_labels
from supernets.data.dense.labelled_images import Box, LabelledImage, is_below
from supernets.data.image_folder import SUFFIXES
from supernets.data.labelled_examples import listed, misplaced, missing, too_large, unreadable
from supernets.errors import DataError

_PARTS = {"train": "train", "val": "validation", "test": "test"}
_MAX_BYTES = 2**24
"""Largest size of a file of labels or of ``data.yaml``: a hundred times the largest ones."""
_NUMBERS = "expected a class and x y width height of the box, or a class and x y of each corner of a polygon"
_SHARES = (-0.5, 1.5)
"""Numbers outside of these are no shares of a width or a height."""


class _PlainLoader(yaml.SafeLoader):
    """A safe loader without aliases, by which a small file describes values of any size."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Raises `YAMLError` for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*), which is not read")
        return super().compose_node(parent, index)


def read_yolo(path: Path, faults: Faults) -> tuple[tuple[str, ...], list[LabelledImage]]:
    """The names of the classes, and the images with their boxes.

    An image without a file of labels has no objects. Equal lines of a file count once, as for Ultralytics. Boxes are shares of
    the sides of the upright image.

    Args:
        path: The folder of ``data.yaml``, or such a file. Its `path` counts from this folder, and all images are below it.
        faults: Receives what is wrong.

    Raises:
        DataError: there are no such files, or they cannot be read at all.
    """
    description = _description(path)
    content = _yaml(description)
    names = _names(content, description)
    images: list[LabelledImage] = []
    for key, part in _PARTS.items():
        if content.get(key) is not None:
            files = _image_files(description, content, key, faults)
            images += _images(files, part, names, description.parent, faults)
        elif key == "train":
            raise malformed_labels(f"{description}: has no train; expected the folder of the images to train on")
    return names, images


def _description(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise missing(f"{path}: does not exist; expected a folder with data.yaml")
    files = [file for form in ("data.yaml", "*.yaml", "*.yml") for file in sorted(path.glob(form))]
    if not files or (files[0].name != "data.yaml" and len(files) > 1):
        names = listed([file.name for file in files]) or "no data.yaml"
        raise misplaced(f"{path}: holds {names}; expected data.yaml with train, val and names")
    return files[0]


def _text(file: Path) -> str:
    """The text of a small file; raises `DataError` for others."""
    try:
        if not file.is_file():
            raise unreadable(f"{file}: is no file; expected text")
        if file.stat().st_size > _MAX_BYTES:
            raise too_large(f"{file}: has more than {_MAX_BYTES >> 20} MiB; expected a line for each object")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(f"{file}: cannot be read as text ({error}); replace it") from None


def _yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.load(_text(file), _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise unreadable(f"{file}: is no YAML ({reason:.200}); expected train, val and names") from None
    if not isinstance(content, dict):
        raise malformed_labels(f"{file}: holds no keys; expected train, val and names")
    return content


def _names(content: dict[str, Any], file: Path) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    are_texts = isinstance(names, dict) and all(isinstance(name, str | int | float) for name in names.values())
    if (
        not isinstance(names, dict)
        or not names
        or not are_texts
        or sorted(map(str, names)) != sorted(map(str, range(len(names))))
    ):
        raise malformed_labels(f"{file}: names is {names!r:.100}; expected a name for each class 0, 1, 2 and so on")
    by_class = {int(key): str(name) for key, name in names.items()}
    texts = tuple(by_class[label] for label in range(len(by_class)))
    if len(set(texts)) != len(texts) or not all(text.strip() and text.isprintable() for text in texts):
        raise malformed_labels(f"{file}: names is {names!r:.100}; expected different printable names")
    if content.get("nc", len(texts)) != len(texts):
        raise malformed_labels(f"{file}: nc is {content['nc']!r:.40}, and names has {len(texts)}; correct one of them")
    return texts


def _image_files(description: Path, content: dict[str, Any], key: str, faults: Faults) -> list[Path]:
    """The image files of a part, sorted; of a list of files, in its order."""
    folder, entries = description.parent, content[key]
    bases = [folder]
    if isinstance(content.get("path"), str) and is_below(content["path"]):
        bases.insert(0, folder / content["path"])
    files: list[Path] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        # Exports of Roboflow name ../train/images for a folder beside data.yaml, which Ultralytics finds, too.
        name = entry.removeprefix("../") if isinstance(entry, str) else ""
        place = next((base / name for base in bases if is_below(name) and (base / name).exists()), None)
        if place is None:
            expected = "expected a folder of images, or a .txt file of their paths, below this folder"
            raise missing(f"{description}: {key} is {entry!r:.100}, which is not in {folder}; {expected}")
        files += _listed_files(place, bases, faults) if place.is_file() else _files_in(place, SUFFIXES)
    if not files:
        raise misplaced(f"{description}: {key} has no images; expected {', '.join(SUFFIXES)} files in {entries!r:.100}")
    return list(dict.fromkeys(files))


def _listed_files(file: Path, bases: Sequence[Path], faults: Faults) -> list[Path]:
    files = []
    for line, text in enumerate(_text(file).splitlines(), 1):
        name = text.strip()
        if not name:
            continue
        if not is_below(name):
            faults.add(f"{file}:{line}", f"names {name!r:.100}; expected a path below the data set's folder")
            continue
        bases_of_line = [file.parent, *bases] if name.startswith("./") else [*bases, file.parent]
        image = next((base / name for base in bases_of_line if (base / name).is_file()), bases_of_line[0] / name)
        if not image.is_file():
            faults.add(f"{file}:{line}", f"names {name!r:.100}, which is missing", image=image, code="data.missing")
        files.append(image)
    return files


def _files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files below a folder with these suffixes, sorted, without hidden ones."""
    files: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(root, name) for name in names if name.lower().endswith(suffixes) and not name.startswith(".")]
    return sorted(files)


def _label_file(image: Path) -> Path:
    """The file of labels of an image: that of the same name in ``labels`` in place of the last ``images``."""
    before, _, after = str(image).rpartition(f"{os.sep}images{os.sep}")
    return Path(before, "labels", after).with_suffix(".txt") if before else image.with_suffix(".txt")


def _images(
    files: Iterable[Path], part: str, names: Sequence[str], folder: Path, faults: Faults
) -> list[LabelledImage]:
    label_files = {file: _label_file(file) for file in files}
    by_label_file: dict[Path, Path] = {}
    for file, label_file in label_files.items():
        if label_file in by_label_file:
            first = by_label_file[label_file].name
            faults.add(file, f"has the labels of {first}, too ({label_file.name}); rename one of them", image=file)
        by_label_file[label_file] = file
    if not any(label_file.exists() for label_file in label_files.values()):
        example = next(iter(label_files.values()))
        raise misplaced(f"{folder}: none of {len(label_files)} {part} images has labels; expected e.g. {example}")
    for images, labels in dict.fromkeys((file.parent, label_file.parent) for file, label_file in label_files.items()):
        _check_labels(images, labels, faults)
    return [
        LabelledImage(file, part, str(file), _boxes(file, label_file, names, faults), relative=True)
        for file, label_file in label_files.items()
    ]


def _check_labels(images: Path, labels: Path, faults: Faults) -> None:
    """Adds the files of labels without an image to the faults; beside images there may be other texts."""
    if images == labels or not labels.is_dir():
        return
    stems = {file.stem for file in images.iterdir() if file.suffix.lower() in SUFFIXES}
    for file in sorted(labels.glob("*.txt")):
        if file.stem not in stems and file.name != "classes.txt":
            faults.add(file, f"is of no image in {images}; expected {file.stem} with {', '.join(SUFFIXES)}")


def _boxes(image: Path, file: Path, names: Sequence[str], faults: Faults) -> list[Box]:
    if not file.exists():
        return []
    try:
        lines = _text(file).splitlines()
    except DataError as error:
        faults.add(file, str(error).removeprefix(f"{file}: ").partition("; ")[0], image=image, code=error.code)
        return []
    boxes: dict[str, Box] = {}
    for number, line in enumerate(lines, 1):
        text = " ".join(line.split())
        if not text or text in boxes:
            continue
        try:
            boxes[text] = _box(f"{file}:{number}", text.split(), names)
        except ValueError as error:
            faults.add(f"{file}:{number}", str(error), image=image)
    return list(boxes.values())


def _box(where: str, cells: Sequence[str], names: Sequence[str]) -> Box:
    """The box of a line; raises `ValueError` with what is wrong and what was expected."""
    if len(cells) != 5 and (len(cells) < 7 or len(cells) % 2 == 0):
        raise ValueError(f"has {len(cells)} numbers; {_NUMBERS}")
    try:
        label, *numbers = map(float, cells)
    except ValueError:
        raise ValueError(f"is {' '.join(cells):.60}, not numbers alone; {_NUMBERS}") from None
    if label not in range(len(names)):
        raise ValueError(f"is of the class {cells[0]:.20}; expected 0 to {len(names) - 1}, as in names")
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"is {' '.join(cells):.60}; expected finite numbers")
    if not _SHARES[0] <= min(numbers) <= max(numbers) <= _SHARES[1]:
        raise ValueError(f"is {' '.join(cells):.60}; expected shares of the image's width and height, from 0 to 1")
    if len(numbers) == 4:
        x, y, width, height = numbers
        return Box(where, int(label), (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    xs, ys = numbers[::2], numbers[1::2]
    area = abs(0.5 * sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs))))
    return Box(where, int(label), (min(xs), min(ys), max(xs), max(ys)), area or None)
