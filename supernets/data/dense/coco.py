"""Boxes in the JSON format of COCO (Lin et al. 2014, arXiv 1405.0312)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from supernets.data.dense.faults import Faults
from supernets.data.dense.labelled_images import Box, LabelledImage, is_below, part_of
from supernets.data.labelled_examples import listed, misplaced, missing, too_large, unreadable

_MAX_BYTES = 2**30
"""Twice the size of the largest file of COCO itself."""
_LISTS = ("images", "annotations", "categories")
_MAX_DIGITS = 7
"""Digits of 5 bits of a number in a compressed run-length code."""


def read_coco(path: Path, images: Path | None, faults: Faults) -> tuple[tuple[str, ...], list[LabelledImage]]:
    """The names of the classes, by their ids, and the images with their boxes.

    Args:
        path: A file of annotations; or a folder with one for each part, whose name, or whose folder's name, has the part's
            name in it (``instances_val2017.json``, ``valid/_annotations.coco.json``).
        images: Folder of the image files, or of one folder of them for each part; None for the folder of the annotations,
            the folder ``images`` in it or beside it, or a folder with the part's name beside it.
        faults: Receives what is wrong.

    Raises:
        DataError: there are no such files, or they cannot be read at all.
    """
    if images is not None and not images.is_dir():
        raise missing(f"images: {images} is no folder; expected the folder of the images that the annotations name")
    names: dict[Any, str] = {}
    labelled: list[LabelledImage] = []
    for part, file in _files(path).items():
        content = _read(file, faults)
        if content is None:
            continue
        part_names = _categories(file, content["categories"], faults)
        if names and part_names != names:
            faults.add(file, "its categories are not those of the other files; expected the same ids and names in all")
            continue
        names = part_names
        labelled += _images(file, content, part, sorted(names), _roots(file, images, part), faults)
    return tuple(names[key] for key in sorted(names)), labelled


def _files(path: Path) -> dict[str, Path]:
    """The file of annotations of each part, that of the training part first."""
    if path.is_file():
        return {"train": path}
    if not path.is_dir():
        raise missing(f"{path}: does not exist; expected a file of annotations, or a folder with one for each part")
    files = next(filter(None, (sorted(path.glob(form)) for form in ("*.json", "annotations/*.json", "*/*.json"))), [])
    files = [file for file in files if file.stem.startswith("instances")] or files
    if len(files) == 1:
        return {"train": files[0]}
    parts = [part_of(file.stem) or part_of(file.parent.name) for file in files]
    if "train" not in parts or "" in parts or len(set(parts)) != len(parts):
        names = listed([str(file.relative_to(path)) for file in files]) or "no .json file"
        expected = "train.json, and at most one val.json and test.json (or such words in their names)"
        raise misplaced(f"{path}: holds {names}; expected {expected}; rename them, or give one file as path")
    file_by_part = dict(zip(parts, files, strict=True))
    return {part: file_by_part[part] for part in ("train", "validation", "test") if part in file_by_part}


def _roots(file: Path, images: Path | None, part: str) -> list[Path]:
    """The folders in which images of a file are looked for, in order."""
    bases = [file.parent, file.parent / "images", file.parent.parent / "images"] if images is None else [images]
    outer = [file.parent.parent, *bases[1:]] if images is None else [images]
    of_part = [
        folder
        for base in outer
        if base.is_dir()
        for folder in sorted(base.iterdir())
        if folder.is_dir() and part_of(folder.name) == part
    ]
    return [folder for folder in (*bases, *of_part) if folder.is_dir()]


def _read(file: Path, faults: Faults) -> dict[str, list[Any]] | None:
    """The lists of a file; None if it is damaged."""
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise too_large(f"{file}: has more than {_MAX_BYTES >> 20} MiB; divide it")
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise unreadable(f"{file}: cannot be read ({error.strerror}); make it readable") from None
    except (ValueError, RecursionError) as error:
        faults.add(file, f"is no JSON ({error}); expected COCO's annotations", code=unreadable("").code)
        return None
    if not isinstance(content, dict):
        faults.add(file, f"holds a {type(content).__name__}; expected an object with {', '.join(_LISTS)}")
        return None
    lacking = [key for key in _LISTS if not isinstance(content.get(key), list)]
    if lacking:
        faults.add(file, f"has no list of {' and of '.join(lacking)}; expected {', '.join(_LISTS)}")
        return None
    if not content["images"]:
        faults.add(file, "its list of images is empty; expected at least one")
        return None
    return content


def _categories(file: Path, entries: Sequence[Any], faults: Faults) -> dict[int, str]:
    names: dict[int, str] = {}
    if not entries:
        faults.add(file, "its list of categories is empty; expected at least one")
    for i, entry in enumerate(entries):
        where = f"{file}: categories[{i}]"
        key, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if not _is_whole(key) or not isinstance(name, str) or not name.strip() or not name.isprintable():
            faults.add(where, f"is {_short(entry)}; expected an id (a whole number) and a printable name")
        elif key in names:
            faults.add(where, f"has the id {key} of {names[key]!r}, too; expected different ids")
        elif name in names.values():
            faults.add(where, f"has the name {name!r} of another category, too; expected different names")
        else:
            names[key] = name
    return names


def _images(
    file: Path, content: Mapping[str, list[Any]], part: str, keys: Sequence[int], roots: Sequence[Path], faults: Faults
) -> list[LabelledImage]:
    images: dict[int, LabelledImage] = {}
    file_names: set[str] = set()
    for i, entry in enumerate(content["images"]):
        where = f"{file}: images[{i}]"
        key, name = (entry.get("id"), entry.get("file_name")) if isinstance(entry, dict) else (None, None)
        if not _is_whole(key) or not isinstance(name, str):
            faults.add(where, f"is {_short(entry)}; expected an id (a whole number) and a file_name")
            continue
        if not is_below(name):
            faults.add(where, f"names the file {name!r:.100}; expected a path below the folder of images")
            continue
        if key in images:
            faults.add(where, f"has the id {key} of {images[key].file.name!r}, too; expected different ids")
            continue
        if name in file_names:
            faults.add(where, f"names the file {name!r} of another entry, too; expected different files")
            continue
        file_names.add(name)
        image = next((root / name for root in roots if (root / name).is_file()), roots[0] / name)
        size = entry.get("width"), entry.get("height")
        has_size = all(_is_whole(side) and side > 0 for side in size)
        images[key] = LabelledImage(image, part, f"{where} ({name})", size=size if has_size else None)
        if not image.is_file():
            faults.add(
                f"{where} ({name})",
                f"is not in {roots[0]}; expected it there, or its folder as images",
                image=image,
                code="data.missing",
            )
    _add_boxes(file, content["annotations"], images, keys, faults)
    return list(images.values())


def _add_boxes(
    file: Path, entries: Sequence[Any], images: Mapping[int, LabelledImage], keys: Sequence[int], faults: Faults
) -> None:
    places = {key: place for place, key in enumerate(keys)}
    ids: set[Any] = set()
    for i, entry in enumerate(entries):
        where = f"{file}: annotations[{i}]"
        if not isinstance(entry, dict):
            faults.add(where, f"is {_short(entry)}; expected an object")
            continue
        key = entry.get("id")
        where += "" if key is None else f" (id {_short(key)})"
        image = images.get(entry["image_id"]) if _is_whole(entry.get("image_id")) else None
        if image is None:
            faults.add(where, f"is of the image {_short(entry.get('image_id'))}; expected the id of one in images")
            continue
        if _is_whole(key) and key in ids:
            faults.add(where, "has the id of another annotation; expected different ids", image=image.file)
            continue
        ids.add(key if _is_whole(key) else None)
        category = entry.get("category_id")
        if not _is_whole(category) or category not in places:
            expected = "expected an id in categories"
            faults.add(where, f"is of the category {_short(category)}; {expected}", image=image.file)
            continue
        bbox = entry.get("bbox")
        if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
            expected = "expected four numbers: x, y, width, height"
            faults.add(where, f"its bbox is {_short(bbox)}; {expected}", image=image.file)
            continue
        try:
            area = _area(entry)
        except (ValueError, TypeError, ArithmeticError) as error:
            faults.add(where, f"its area cannot be read ({error}); expected a number", image=image.file)
            continue
        x, y, width, height = map(float, bbox)
        corners = (x, y, x + width, y + height)
        image.boxes.append(Box(where, places[category], corners, area, bool(entry.get("iscrowd", 0))))


def _area(entry: Mapping[str, Any]) -> float | None:
    """The area of an annotation, or else of its mask; None without both. Raises `ValueError` for a wrong one."""
    area, mask = entry.get("area"), entry.get("segmentation")
    if area is not None:
        if not _is_number(area) or not math.isfinite(area) or area < 0:
            raise ValueError(_short(area))
        return float(area) or None
    if isinstance(mask, dict):
        counts = mask.get("counts")
        runs = _runs(counts) if isinstance(counts, str) else [int(count) for count in counts or []]
        return float(sum(runs[1::2])) or None
    polygons = [polygon for polygon in mask or [] if isinstance(polygon, list) and len(polygon) >= 6]
    return math.fsum(abs(_signed_area(polygon)) for polygon in polygons) or None


def _signed_area(polygon: Sequence[float]) -> float:
    """The area of a polygon x, y, x, y and so on, by the shoelace formula."""
    x, y = [float(number) for number in polygon[::2]], [float(number) for number in polygon[1::2]]
    return 0.5 * sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(y)))


def _runs(code: str) -> list[int]:
    """The run lengths of COCO's compressed code (``rleFrString`` in its maskApi.c)."""
    runs: list[int] = []
    value = digits = 0
    for character in code:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or digits >= _MAX_DIGITS:
            raise ValueError("its segmentation is no run-length code")
        value |= (bits & 31) << 5 * digits
        digits += 1
        if not bits & 32:
            value -= (1 << 5 * digits) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = digits = 0
    return runs


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (_is_whole(value) and abs(value) < 2**53)


def _short(value: object) -> str:
    """A value of a file for a message, at most 60 characters."""
    return "missing" if value is None else f"{value!r:.60}"
