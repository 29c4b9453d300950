"""Recognises the kind of a data set, and of its labels, by its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from supernets.data.dense.kinds import dense_kind
from supernets.data.fashion_mnist import FILES, files_of
from supernets.data.image_folder import SUFFIXES as IMAGE_SUFFIXES
from supernets.data.image_table import IMAGES
from supernets.data.image_table import LABELS as IMAGE_LABELS
from supernets.data.labelled_examples import CLUTTER, PARTS, invalid_option, listed, misplaced
from supernets.data.number_table import LABELS as NUMBER_LABELS
from supernets.data.options import ENCODINGS
from supernets.data.table_rows import LABELS, SUFFIXES, TEXTS, rows_of
from supernets.data.targets import CLASSES, NUMBERS, SETS
from supernets.data.text_files import read_texts
from supernets.data.text_pairs import SOURCES, TARGETS

_OF_BOXES_OR_MASKS = ("coco", "yolo", "voc", "segmentation-folder")
KINDS = (
    "image-folder",
    "image-table",
    "text-classification",
    "number-table",
    "text",
    "text-pairs",
    "fashion-mnist",
    *_OF_BOXES_OR_MASKS,
)
"""Data sets of files."""
_OF_ONE_TABLE = ("image-table", "number-table")
_OF_FOLDERS = ("image-folder", "fashion-mnist", *_OF_BOXES_OR_MASKS)
_MAX_CLASSES = 20
"""Different whole numbers that are classes; more are numbers."""
_N_ROWS = 10_000
"""Rows that the kind of labels is recognised by."""
_SEPARATORS = " ,;|"


def recognise(folder: Path, *, name: str | None = None, columns: Mapping[str, str], encoding: str) -> tuple[str, Path]:
    """The kind of the data set in a folder, and the file or folder that a job names as its path.

    Args:
        folder: The files of the data set alone.
        name: Its kind, one of `KINDS`; None to recognise it.
        columns: Columns of a table by their option, e.g. ``{"text_column": "review"}``; those with usual names need none.
        encoding: Encoding of text files.

    Raises:
        DataError: the kind is unknown, or cannot be recognised.
    """
    if name not in (None, *KINDS):
        raise invalid_option(f"unknown kind of data {name!r}; expected one of {', '.join(KINDS)}")
    if encoding not in ENCODINGS:
        raise invalid_option(f"encoding={encoding!r}: expected one of {', '.join(ENCODINGS)}")
    files = _files(folder)
    tables = [file for file in files if file.suffix.lower() in SUFFIXES]
    kind = name or _kind_of_files(folder, files, tables, columns, encoding)
    if kind in _OF_ONE_TABLE:
        outer = [file for file in tables if file.parent == folder]
        if len(outer) != 1:
            raise misplaced(f"{folder}: holds {len(outer)} tables ({', '.join(SUFFIXES)}); expected one for {kind}")
        if kind == "image-table" and len(files) == 1:
            raise misplaced(
                f"{outer[0]}: names images, which are not beside it; send the folder or archive that holds both"
            )
        return kind, outer[0]
    return kind, files[0] if len(files) == 1 and kind not in _OF_FOLDERS else folder


def recognise_targets(table: Path, name: str, *, label_column: str | None) -> str:
    """The kind of the labels of an image table or a table of numbers, one of `supernets.data.targets`.

    Words with a separator between them are sets of labels, and so are the other columns of an image table without a column of
    labels; numbers with a fraction, or more than 20 different ones, are numbers; all others are classes.

    Args:
        table: The table.
        name: ``image-table`` or ``number-table``.
        label_column: Column of the labels; None takes the one with a usual name.

    Raises:
        DataError: the table cannot be read.
    """
    rows = [row for _, row in rows_of(read_texts(table, encoding="utf-8")[0])][:_N_ROWS]
    usual = IMAGE_LABELS if name == "image-table" else NUMBER_LABELS
    column = label_column or next((key for key in (rows or [{}])[0] if key.lower() in usual), None)
    if column is None:
        return SETS if name == "image-table" else CLASSES
    cells = [row.get(column) for row in rows]
    numbers = [_number(cell) for cell in cells]
    if None not in numbers:
        has_fraction = any(number is not None and number % 1 for number in numbers)
        return NUMBERS if has_fraction or len(set(numbers)) > _MAX_CLASSES else CLASSES
    of_several = any(isinstance(cell, list) or any(mark in str(cell).strip() for mark in _SEPARATORS) for cell in cells)
    return SETS if of_several else CLASSES


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name.lower() not in CLUTTER
    )


def _kind_of_files(
    folder: Path, files: Sequence[Path], tables: Sequence[Path], columns: Mapping[str, str], encoding: str
) -> str:
    if len(files_of(folder)) == len(FILES):
        return "fashion-mnist"
    has_images = any(file.suffix.lower() in IMAGE_SUFFIXES for file in files)
    if has_images and (kind := dense_kind(folder)) is not None:
        return kind
    if has_images:
        return "image-table" if any(table.parent == folder for table in tables) else "image-folder"
    if tables:
        train = next((table for table in tables if PARTS.get(_part(folder, table)) == "train"), tables[0])
        return _kind_of_table(train, columns, encoding)
    if len(files) == 1 or (files and all(_part(folder, file) in PARTS and file.parent == folder for file in files)):
        return "text"
    names = listed([file.relative_to(folder).as_posix() for file in files]) or "nothing"
    raise misplaced(
        f"{folder}: holds {names}; name the kind of data: text for documents, text-classification for one file of sentences "
        "a class"
    )


def _part(folder: Path, file: Path) -> str:
    return file.relative_to(folder).parts[0].partition(".")[0].lower()


def _kind_of_table(table: Path, columns: Mapping[str, str], encoding: str) -> str:
    rows = rows_of(read_texts(table, encoding=encoding)[0])
    if not rows:
        raise misplaced(f"{table}: holds no rows; expected a table with its columns' names in the first line")
    first = rows[0][1]

    def column(role: str, usual: Sequence[str]) -> str | None:
        requested = columns.get(f"{role}_column")
        return requested if requested in first else next((key for key in first if key.lower() in usual), None)

    image, text = column("image", IMAGES), column("text", TEXTS)
    if image is not None and Path(str(first[image])).suffix.lower() in IMAGE_SUFFIXES:
        return "image-table"
    source, target = column("source", SOURCES), column("target", TARGETS)
    if source is not None and target is not None and _number(first[source]) is None:
        return "text-pairs"
    if text is not None and _number(first[text]) is None:
        if column("label", LABELS) is not None:
            return "text-classification"
        if len(first) == 1:
            return "text"
    label = column("label", NUMBER_LABELS)
    if label is not None and all(_number(cell) is not None for key, cell in first.items() if key != label):
        return "number-table"
    expected = "image and label, text and label, source and target, or numbers and a label"
    raise misplaced(
        f"{table}: has the columns {listed(list(map(repr, first)))}; expected {expected}; name the kind of data and its "
        "columns, or rename the columns"
    )


def _number(cell: object) -> float | None:
    try:
        return float(str(cell))
    except ValueError:
        return None
