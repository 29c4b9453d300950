"""The user's own images, named in a table with their labels: a class, a number or a set of labels each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from supernets.data import targets
from supernets.data.image_folder import ImageReader, Problems, read_images, some_of, spread, unusable
from supernets.data.labelled_examples import Examples, OnProgress, Source, malformed, no_progress
from supernets.data.options import ImageOptions
from supernets.data.table_rows import Table, read_single_table
from supernets.data.targets import Targets

IMAGES = ("image", "file", "filename", "path", "image_path")
LABELS = ("label", "labels", "target", "value", "class", "age", "score", "number")
"""Names of columns that are read if the options name none."""


def image_table(
    path: Path,
    options: ImageOptions,
    kind: str,
    *,
    on_progress: OnProgress = no_progress,
    read: ImageReader = read_images,
) -> Source:
    """The images that a table names, with their labels.

    A row has the path of an image, relative to the table's folder, and its label. A set of labels is one cell, with spaces,
    commas, semicolons or bars between them; or, if no column of labels is named and none has a usual name, a cell of 0 or 1
    in each of the other columns. Images are read as those of an image folder.

    Args:
        kind: Kind of the labels, one of `supernets.data.targets`.
        read: Reads the image files.

    Raises:
        DataError: the table or an image is missing or damaged; a path leaves the table's folder; a label is of another kind.
    """
    table, where = _read(path), str(path)
    columns, image = table.columns, table.column("image", options.image_column, IMAGES)
    lines = [f"line {line}" for line, _ in table.rows]
    cells = [{name: _text(row.get(name)) for name in columns} for _, row in table.rows]
    files = [_path(path, by_column[image], line) for by_column, line in zip(cells, lines, strict=True)]
    other_columns = [column for column in columns if column != image]
    usual = [column for column in other_columns if column.lower() in LABELS]
    labels: Targets
    if kind == targets.SETS and options.label_column is None and not usual:
        flags = [[by_column[column] for column in other_columns] for by_column in cells]
        labels = targets.sets_in_columns(flags, other_columns, lines, where)
    else:
        label = table.column("label", options.label_column, LABELS, other_columns)
        labels = targets.of_cells(kind, [by_column[label] for by_column in cells], lines, where)
    problems: Problems = {}
    pixels = read(list(dict.fromkeys(files)), path.parent, options, problems, on_progress)
    if problems and (not options.skip_unreadable or not pixels):
        raise unusable(path.parent, problems)
    return _source(path, files, labels, kind, pixels, problems)


def images_of_table(path: Path, *, channels: int, n: int, column: str | None = None) -> list[Image.Image]:
    """At most `n` images of a table, decoded but not resized, spread over it; raises as `image_table`.

    Args:
        column: Column of the images' paths; None takes the one with a usual name.
    """
    table = _read(path)
    image = table.column("image", column, IMAGES)
    files = list(dict.fromkeys(_path(path, _text(row.get(image)), f"line {line}") for line, row in table.rows))
    return some_of([files[i] for i in spread(len(files), n)], channels=channels)


def _read(path: Path) -> Table:
    expected = "that names images and their labels"
    return read_single_table(path, expected=expected, expected_rows="an image and a label in each")


def _source(
    path: Path,
    files: Sequence[Path],
    labels: Targets,
    kind: str,
    pixels: Mapping[Path, NDArray[np.uint8]],
    problems: Problems,
) -> Source:
    indices = np.array([i for i, file in enumerate(files) if file in pixels], dtype=np.int64)
    examples = Examples(
        np.stack([pixels[files[i]] for i in indices.tolist()]),
        labels.values[indices],
        tuple(str(files[i].relative_to(path.parent)) for i in indices.tolist()),
        labels.groups[indices],
    )
    skipped = tuple(str(file.relative_to(path.parent)) for file in problems)
    return Source(str(path), labels.names, examples, skipped=skipped, targets=kind)


def _path(table: Path, cell: str, line: str) -> Path:
    name = PurePosixPath(cell)
    if not cell or name.is_absolute() or ".." in name.parts:
        raise malformed(f"{table}: {line} names the image {cell!r}; expected a path below the table's folder")
    return table.parent / name


def _text(value: object) -> str:
    """A cell as text; JSON's numbers and lists of labels too."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value).strip()
