"""Boxes in the XML format of PASCAL VOC (Everingham et al. 2010)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from supernets.data.dense.faults import Faults, malformed_labels
from supernets.data.dense.labelled_images import Box, LabelledImage, is_below
from supernets.data.image_folder import SUFFIXES
from supernets.data.labelled_examples import misplaced, missing, unreadable

_ANNOTATIONS, _IMAGES, _SETS = "Annotations", "JPEGImages", "ImageSets/Main"
_CLASSES = "classes.txt"
_MAX_BYTES = 2**22
"""Largest size of a file: a thousand times a usual one."""
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path, faults: Faults) -> tuple[tuple[str, ...], list[LabelledImage]]:
    """The names of the classes and the images with their boxes.

    Classes are those of ``classes.txt``, a line each, or else all names of objects, sorted. Parts are those of
    ``ImageSets/Main/{train,val,test}.txt``, or of trainval without train; without such files the images are undivided.
    Corners count from 1 and belong to the box. Difficult objects count for nobody.

    Args:
        path: The folder of ``Annotations`` and ``JPEGImages``.
        faults: Receives what is wrong.

    Raises:
        DataError: there are no such folders, or they cannot be read at all.
    """
    for folder in (_ANNOTATIONS, _IMAGES):
        if not (path / folder).is_dir():
            state = f"has no folder {folder}" if path.is_dir() else "is no folder"
            error = misplaced if path.is_dir() else missing
            raise error(f"{path}: {state}; expected {_ANNOTATIONS} and {_IMAGES}, as PASCAL VOC has them")
    images: dict[str, Path] = {}
    for file in sorted((path / _IMAGES).iterdir()):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            if file.stem in images:
                text = f"has the name of {images[file.stem].name}, too; expected one image of a name"
                faults.add(file, text, image=file)
            images.setdefault(file.stem, file)
    objects: list[tuple[LabelledImage, list[tuple[str, Box]]]] = []
    for part, names in _parts(path, images, faults).items():
        for name, where in names.items():
            image = images.get(name, path / _IMAGES / f"{name}.jpg")
            if name not in images:
                faults.add(where, f"is of {name}, which is not in {_IMAGES}", image=image, code="data.missing")
            objects.append(_annotated(path, image, part, faults))
    class_names = _classes(path) or tuple(sorted({label for _, boxes in objects for label, _ in boxes}))
    places = {name: place for place, name in enumerate(class_names)}
    for labelled, boxes in objects:
        for label, box in boxes:
            if label in places:
                labelled.boxes.append(box._replace(label=places[label]))
            else:
                faults.add(box.where, f"is of the class {label!r:.60}; expected one of {_CLASSES}", image=labelled.file)
    return class_names, [labelled for labelled, _ in objects]


def _parts(path: Path, images: Mapping[str, Path], faults: Faults) -> dict[str, dict[str, str]]:
    """The names of the images of each part, with the line or file that names each."""
    sets = {name: path / _SETS / f"{name}.txt" for name in ("train", "val", "test")}
    if not sets["train"].is_file():
        sets["train"] = path / _SETS / "trainval.txt"
        sets.pop("val")
    if not sets["train"].is_file():
        annotated = {file.stem: str(file) for file in sorted((path / _ANNOTATIONS).glob("*.xml"))}
        file_by_name = annotated | {name: str(file) for name, file in images.items() if name not in annotated}
        if not file_by_name:
            raise misplaced(f"{path}: holds no annotations; expected an .xml file for each image in {_ANNOTATIONS}")
        return {"train": dict(sorted(file_by_name.items()))}
    parts: dict[str, dict[str, str]] = {}
    for name, file in sets.items():
        if not file.is_file():
            continue
        names: dict[str, str] = {}
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(f"{file}: cannot be read as text ({error}); replace it") from None
        for line, text in enumerate(lines, 1):
            image = text.strip()
            if image and not is_below(image):
                faults.add(f"{file}:{line}", f"is {image!r:.60}; expected the name of an image without its suffix")
            elif image in names:
                faults.add(f"{file}:{line}", f"names {image}, as an earlier line does; expected each image once")
            elif image:
                names[image] = f"{file}:{line}"
        if not names:
            raise misplaced(f"{file}: names no images; expected a line for each, without a suffix")
        parts[{"val": "validation"}.get(name, name)] = names
    return parts


def _classes(path: Path) -> tuple[str, ...]:
    """The names in `_CLASSES`; none without such a file."""
    file = path / _CLASSES
    if not file.exists():
        return ()
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(f"{file}: cannot be read as text ({error}); replace it") from None
    if not names or len(set(names)) != len(names):
        raise malformed_labels(f"{file}: holds {len(names)} names; expected at least one, and no name twice")
    return tuple(names)


def _annotated(path: Path, image: Path, part: str, faults: Faults) -> tuple[LabelledImage, list[tuple[str, Box]]]:
    """An image with the names and boxes of its objects."""
    file = path / _ANNOTATIONS / f"{image.stem}.xml"
    root = _xml(file, image, faults)
    boxes: list[tuple[str, Box]] = []
    for i, entry in enumerate([] if root is None else root.findall("object"), 1):
        where, name = f"{file}: object {i}", (entry.findtext("name") or "").strip()
        if not name or not name.isprintable():
            faults.add(where, f"has the name {name!r:.60}; expected that of a class", image=image)
            continue
        cells = [(entry.findtext(f"bndbox/{corner}") or "").strip() for corner in _CORNERS]
        try:
            x0, y0, x1, y1 = map(float, cells)
        except ValueError:
            text = ", ".join(f"{corner} {cell!r:.20}" for corner, cell in zip(_CORNERS, cells, strict=True))
            faults.add(where, f"has {text}; expected a bndbox of four numbers", image=image)
            continue
        difficult = (entry.findtext("difficult") or "").strip() == "1"
        boxes.append((name, Box(where, 0, (x0 - 1, y0 - 1, x1, y1), crowd=difficult)))
    return LabelledImage(image, part, str(file), size=_size(root)), boxes


def _size(root: ElementTree.Element | None) -> tuple[int, int] | None:
    cells: Sequence[str | None] = [
        None if root is None else root.findtext(f"size/{side}") for side in ("width", "height")
    ]
    try:
        width, height = (int(float(cell or 0)) for cell in cells)
    except (ValueError, OverflowError):
        return None
    return (width, height) if min(width, height) > 0 else None


def _xml(file: Path, image: Path, faults: Faults) -> ElementTree.Element | None:
    """The root of an annotation; None where it has a fault."""
    try:
        with file.open("rb") as content:
            text = content.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        faults.add(file, f"{reason}; expected the annotation of {image.name}", image=image, code="data.missing")
        return None
    # Entities, which can grow to gigabytes, need a document type, and annotations have none.
    if len(text) > _MAX_BYTES or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        fault = "has a document type" if len(text) <= _MAX_BYTES else f"has more than {_MAX_BYTES >> 20} MiB"
        faults.add(file, f"{fault}; expected an annotation alone", image=image)
        return None
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        faults.add(file, f"is no XML ({error}); expected an annotation", image=image, code=unreadable("").code)
        return None
    if root.tag != "annotation":
        faults.add(file, f"holds <{root.tag:.40}>; expected <annotation>", image=image)
        return None
    return root
