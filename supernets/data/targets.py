"""Labels from the cells of a table: classes, numbers or sets of labels, and the groups that their split keeps in proportion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernets.data.labelled_examples import malformed
from supernets.errors import DataError

CLASSES, NUMBERS, SETS = "classes", "numbers", "sets"
"""Kinds of labels."""
NO_LABELS = "none"
"""The kind of labels of examples without any: their labels are zeros."""
BOXES, MASKS = "boxes", "masks"
"""Kinds of labels of images: boxes of objects, (n, boxes, 8) float32, see `supernets.tasks.detection.boxes`; and a class for
each pixel, (n, h, w) uint8, with `IGNORED` for pixels that count for nobody."""
COLUMNS = 8
"""Numbers of a labelled box."""
IGNORED = 255
TEXT = "text"
"""The kind of labels of blocks of text: the tokens themselves, see `supernets.data.document_blocks`."""
_SEPARATORS = re.compile(r"[\s,;|]+")
_TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
_MOST_GROUPS, _LEAST_MEMBERS = 10, 30
_LARGEST = 1e18
"""Largest size of a number as a label: the squares of larger ones exceed single precision."""
_LEAST_OF_LABEL = 3
"""Examples with a label and without it: one for each part."""


@dataclass(frozen=True, eq=False, slots=True)
class Targets:
    """The labels of examples.

    Attributes:
        values: (n,) int64 for classes, (n,) float32 for numbers, (n, labels) float32 of 0 and 1 for sets.
        groups: (n,) int64, what parts of a data set hold in equal shares: the classes, tenths of the numbers by size, or each
            example's rarest label.
        names: Names of the classes or labels; empty for numbers.
    """

    values: NDArray[Any]
    groups: NDArray[np.int64]
    names: tuple[str, ...] = ()


def classes(cells: Sequence[str], names: Sequence[str], where: str) -> Targets:
    """The classes of cells, sorted by name; `names` are those of the rows, in errors."""
    for cell, name in zip(cells, names, strict=True):
        if not cell:
            raise malformed(f"{where}: {name} has no class; fill it or remove the row")
    class_names = tuple(sorted(set(cells)))
    places = {label: place for place, label in enumerate(class_names)}
    labels = np.array([places[cell] for cell in cells], dtype=np.int64)
    return Targets(labels, labels, class_names)


def numbers(cells: Sequence[str], names: Sequence[str], where: str) -> Targets:
    """The numbers of cells.

    Raises:
        DataError: a cell is no finite number, or all are equal.
    """
    values = np.empty(len(cells), dtype=np.float32)
    for i, (cell, name) in enumerate(zip(cells, names, strict=True)):
        try:
            value = float(cell)
        except ValueError:
            expected = "expected a number (classes of texts need task: classification)"
            raise malformed(
                f"{where}: {name} has the label {cell!r}; {expected}; correct it or remove the row"
            ) from None
        if not abs(value) <= _LARGEST:
            expected = f"a finite number, at most {_LARGEST:.1e} in size"
            raise malformed(
                f"{where}: {name} has the label {cell!r}; expected {expected}; remove the row, or scale the labels"
            )
        values[i] = value
    if len(set(values.tolist())) < 2:
        label = f"{float(values[0]):g}" if len(values) else "none"
        raise DataError(
            f"{where}: every label is {label}; expected different numbers; choose another label column",
            code="data.unsplittable",
        )
    return Targets(values, number_groups(values))


def of_cells(kind: str, cells: Sequence[str], names: Sequence[str], where: str) -> Targets:
    """The labels of a kind in cells; see `classes`, `numbers` and `sets_in_cells`."""
    return {CLASSES: classes, NUMBERS: numbers, SETS: sets_in_cells}[kind](cells, names, where)


def number_groups(values: NDArray[Any]) -> NDArray[np.int64]:
    """Up to ten groups of equal size by the numbers' order, each of at least 30, (n,)."""
    n = len(values)
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return np.asarray(ranks * max(1, min(_MOST_GROUPS, n // _LEAST_MEMBERS)) // max(1, n), dtype=np.int64)


def sets_in_cells(cells: Sequence[str], names: Sequence[str], where: str) -> Targets:
    """The sets of labels in cells, separated by spaces, commas, semicolons or bars; an empty cell has none."""
    sets = [set(filter(None, _SEPARATORS.split(cell))) for cell in cells]
    labels = tuple(sorted(set().union(*sets)))
    values = np.array([[label in members for label in labels] for members in sets], dtype=np.float32)
    return _checked(values.reshape(len(cells), len(labels)), labels, where)


def sets_in_columns(rows: Sequence[Sequence[str]], labels: Sequence[str], names: Sequence[str], where: str) -> Targets:
    """The sets of labels of rows with one cell of 0 or 1 (or yes and no, true and false) for each label."""
    values = np.empty((len(rows), len(labels)), dtype=np.float32)
    for i, (row, name) in enumerate(zip(rows, names, strict=True)):
        for j, cell in enumerate(row):
            if cell.lower() not in _TRUTHS:
                remedy = "or name one column of labels as label_column"
                raise malformed(
                    f"{where}: {name} has {cell!r} in {labels[j]!r}; expected 1 or 0 for each label, {remedy}"
                )
            values[i, j] = _TRUTHS[cell.lower()]
    return _checked(values, tuple(labels), where)


def present_classes(labels: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    """A mask of the classes that are in each image, (n, classes), by boxes (n, boxes, numbers) or masks (n, h, w)."""
    if labels.dtype == np.uint8:
        counts = [np.bincount(mask.reshape(-1), minlength=IGNORED + 1)[:n_classes] for mask in labels]
        return np.stack(counts) > 0
    return np.stack([(labels[:, :, 0] == label).any(axis=1) for label in range(n_classes)], axis=1)


def _checked(values: NDArray[np.float32], names: tuple[str, ...], where: str) -> Targets:
    if not names:
        raise malformed(f"{where}: no example has a label; expected sets of labels, e.g. `shirt bag`")
    n_held = values.sum(axis=0)
    for place, name in enumerate(names):
        n_members = int(n_held[place])
        if n_members < _LEAST_OF_LABEL or len(values) - n_members < _LEAST_OF_LABEL:
            state = f"{n_members} of {len(values)} examples have the label {name!r}"
            raise DataError(
                f"{where}: {state}; expected at least {_LEAST_OF_LABEL} with it and as many without; add examples, or "
                "remove the label",
                code="data.unsplittable",
            )
    return Targets(values, set_groups(values), names)


def set_groups(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rarest label of each example, (n,); those without any, and groups of fewer than 30, together are one group."""
    n_held = values.sum(axis=0)
    rarity = np.where(values > 0, n_held, np.inf)
    rarest = np.where(values.any(axis=1), rarity.argmin(axis=1), values.shape[1])
    frequent = [label for label, n in enumerate(np.bincount(rarest)) if n >= _LEAST_MEMBERS and label < values.shape[1]]
    places = {label: place for place, label in enumerate(frequent)}
    groups = np.array([places.get(int(label), len(frequent)) for label in rarest], dtype=np.int64)
    _, dense = np.unique(groups, return_inverse=True)
    return np.asarray(dense.reshape(-1), dtype=np.int64)
