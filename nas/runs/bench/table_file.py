"""Reader of the two files of a table: its description (YAML) and its cells (CSV, which may be gzipped)."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

from nas.errors import UnknownNameError
from nas.jobs.schema.strict_yaml import parse_mapping, read_text
from nas.runs.bench.errors import TableError

_KEYS = ("table", "genes", "exhaustive", "numeric")


def description(path: Path) -> tuple[Path, list[str], bool, bool]:
    """The CSV file, the genes, whether the table is exhaustive, and whether its genes are numeric, of its YAML file.

    Raises:
        NasError: The file is missing or malformed.
    """
    kind = "description of a table"
    data = parse_mapping(read_text(path, noun=kind), source=str(path), noun=kind)
    for key in data:
        if key not in _KEYS:
            raise UnknownNameError("key", key, _KEYS, where=str(path))
    file, genes = data.get("table"), data.get("genes")
    if not isinstance(file, str) or not file:
        raise TableError(f"{path}: 'table' is {file!r}; expected the name of a CSV file beside it")
    if not isinstance(genes, list) or not genes or not all(isinstance(gene, str) for gene in genes):
        raise TableError(f"{path}: 'genes' is {genes!r}; expected a list of column names")
    if len(set(genes)) != len(genes):
        raise TableError(f"{path}: 'genes' names a column twice; name each once")
    for key in ("exhaustive", "numeric"):
        if not isinstance(data.get(key, False), bool):
            raise TableError(f"{path}: {key!r} is {data[key]!r}; expected true or false")
    return path.parent / file, genes, data.get("exhaustive", False), data.get("numeric", False)


def columns(file: Path) -> dict[str, tuple[str, ...]]:
    """Cells by column name, of a CSV file with a header.

    Raises:
        TableError: the file is missing, damaged or malformed.
    """
    if file.exists() and not file.is_file():
        raise TableError(f"{file}: is no regular file; check 'table' in its YAML", code="table.unreadable")
    try:
        with (
            gzip.open(file, "rt", encoding="utf-8-sig", newline="")
            if file.suffix == ".gz"
            else file.open(encoding="utf-8-sig", newline="") as stream
        ):
            header, *rows = (row for row in csv.reader(stream) if row)
    except OSError as error:  # gzip's own errors among them
        message = f"{file}: cannot be read: {error.strerror or error}; check 'table' in its YAML"
        raise TableError(message, code="table.unreadable") from None
    except (EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        message = f"{file}: is damaged or not a CSV file: {error}; restore it from a copy"
        raise TableError(message, code="table.unreadable") from None
    except ValueError:  # nothing to unpack
        raise TableError(f"{file}: is empty; expected a header and rows") from None
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise TableError(f"{file}: two columns share the name {twice!r}; rename one")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise TableError(f"{file}: row {line} has {len(row)} cells; expected {len(header)}, as in its header")
    if not rows:
        raise TableError(f"{file}: has no rows below its header")
    return dict(zip(header, zip(*rows, strict=True), strict=True))


def numbers(cells: Sequence[str], where: str) -> tuple[float, ...]:
    """The values of a column's cells; NaN for an empty one.

    Raises:
        TableError: a cell is not a finite number.
    """
    out = []
    for row, cell in enumerate(cells, start=2):
        try:
            number = float(cell) if cell else math.nan
        except ValueError:
            raise TableError(f"{where}, row {row}: {cell!r} is not a number; correct it or leave it empty") from None
        if math.isinf(number):
            raise TableError(f"{where}, row {row}: {cell!r} is not finite; correct it or leave it empty")
        out.append(number)
    return tuple(out)
