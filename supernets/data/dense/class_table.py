"""The table of the classes of masks, with a value or a colour for each."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from supernets.data.dense.faults import malformed_labels
from supernets.data.labelled_examples import listed, unreadable
from supernets.data.targets import IGNORED

FILES = ("classes.csv", "class_dict.csv")
UNKNOWN = -1
_IGNORED_NAMES = frozenset({"ignored", "ignore", "void", "unlabelled", "unlabeled"})
"""Names, in small letters, of pixels that count for nobody."""
_COLOURS = ("r", "g", "b")
_MAX_CLASSES = 255


@dataclass(frozen=True, eq=False, slots=True)
class ClassTable:
    """The classes of masks.

    Attributes:
        file: The table.
        names: Names of the classes.
        lookup: The class, `IGNORED` or `UNKNOWN` by the value, (256,); or by the colour ``65536 r + 256 g + b``, (2 ** 24,);
            int16.
    """

    file: Path
    names: tuple[str, ...]
    lookup: NDArray[np.int16]

    @property
    def of_colours(self) -> bool:
        """True for colours, False for values."""
        return len(self.lookup) > IGNORED + 1


def read_class_table(folder: Path) -> ClassTable | None:
    """The table of a data set's folder, ``classes.csv`` or ``class_dict.csv``; None without one.

    It has the columns name and value, or name, r, g and b. Its rows are the classes in order, without those called ignored,
    void or unlabelled; of values 255 is ignored unless it has a row.

    Raises:
        DataError: the table is malformed.
    """
    file = next((folder / name for name in FILES if (folder / name).exists()), None)
    if file is None:
        return None
    try:
        rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(f"{file}: cannot be read ({error}); expected a table of classes") from None
    columns = {str(column).strip().lower(): column for column in (rows[0] if rows else ())}
    keys = _COLOURS if all(colour in columns for colour in _COLOURS) else ("value",)
    if not {"name", *keys} <= set(columns):
        got = listed(list(columns)) or "no rows"
        raise malformed_labels(f"{file}: has the columns {got}; expected name and value, or name, r, g, b")
    lookup = np.full(1 << 8 * len(keys), UNKNOWN, dtype=np.int16)
    names: list[str] = []
    for line, row in enumerate(rows, 2):
        name = str(row[columns["name"]] or "").strip()
        cells = [str(row[columns[key]] or "").strip() for key in keys]
        text = ", ".join(cells)[:60]
        if not name or name in names or not name.isprintable():
            raise malformed_labels(f"{file}:{line}: has the name {name!r:.60}; expected different names")
        if not all(cell.isascii() and cell.isdigit() and len(cell) < 4 and int(cell) <= IGNORED for cell in cells):
            raise malformed_labels(f"{file}:{line}: has {text}; expected whole numbers from 0 to {IGNORED}")
        code = int.from_bytes(bytes(map(int, cells)))
        if lookup[code] != UNKNOWN:
            raise malformed_labels(f"{file}:{line}: has {text}, as an earlier row; expected a different one")
        is_ignored = name.lower() in _IGNORED_NAMES
        lookup[code] = IGNORED if is_ignored else len(names)
        names += [] if is_ignored else [name]
    if not 2 <= len(names) <= _MAX_CLASSES:
        raise malformed_labels(f"{file}: has {len(names)} classes; expected 2 to {_MAX_CLASSES}")
    if keys != _COLOURS and lookup[IGNORED] == UNKNOWN:
        lookup[IGNORED] = IGNORED
    return ClassTable(file, tuple(names), lookup)
