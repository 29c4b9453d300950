"""The user's own documents to model: plain text files, or tables with one document a row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from supernets.data.labelled_examples import PARTS, Examples, Source, check_characters, listed, malformed, misplaced
from supernets.data.options import DocumentOptions
from supernets.data.table_rows import SUFFIXES, TEXTS, Table, rows_of
from supernets.data.targets import TEXT
from supernets.data.text_files import TextFile, read_texts

_PARAGRAPHS = re.compile(r"\n[ \t]*\n\s*")
SHARE = 0.1
"""Default share of the documents for validation, and for test."""


def text_documents(path: Path, options: DocumentOptions) -> Source:
    """The documents of a file, of a folder or of a zip archive.

    A table (.csv, .tsv, .jsonl) has a document in each row. Other files are documents or hold several, see `DocumentOptions`.
    Files whose names without suffixes, or folders, are train, validation and test are these parts; else all are for training.

    Raises:
        DataError: the path does not exist, cannot be read or exceeds the bounds; a part is missing or empty.
    """
    parts = files_by_part(path, options.encoding, expected="plain text, or tables with a document a row")
    examples: dict[str, Any] = {part: _examples(path, part, files, options) for part, files in parts.items()}
    return Source(
        str(path),
        (),
        **examples,
        default_validation=SHARE,
        default_test=SHARE,
        noun="document",
        targets=TEXT,
    )


def files_by_part(path: Path, encoding: str, *, expected: str) -> dict[str, list[TextFile]]:
    """The files of each part, always with some for training; raises the errors of `text_documents`."""
    files = read_texts(path, encoding=encoding)
    if not files:
        raise misplaced(f"{path}: holds no text files; expected {expected}")
    part_by_file = {file.name: PARTS.get(_first(file)) for file in files}
    divided = len(files) > 1 and any(part_by_file.values())
    if divided and (loose := [name for name, part in part_by_file.items() if part is None]):
        raise misplaced(
            f"{path}: {listed(loose)} is of no part; expected files named train, validation and test, or none of these"
        )
    parts: dict[str, list[TextFile]] = {}
    for file in files:
        parts.setdefault((part_by_file[file.name] if divided else None) or "train", []).append(file)
    if "train" not in parts:
        raise misplaced(f"{path}: holds no train part; expected one; add it, or rename a file to it")
    return parts


def _first(file: TextFile) -> str:
    return PurePosixPath(file.name.partition("/")[0]).stem.lower()


def _examples(path: Path, part: str, files: Sequence[TextFile], options: DocumentOptions) -> Examples:
    documents = [document for file in files for document in _documents(file, options, alone=len(files) == 1)]
    if not documents:
        raise misplaced(f"{path}: the {part} part has no text; expected documents; add some")
    texts = np.empty(len(documents), dtype=np.object_)
    texts[:] = [text for _, text in documents]
    nothing = np.zeros(len(documents), dtype=np.int64)
    return Examples(texts, nothing, tuple(name for name, _ in documents), strata=nothing)


def _documents(file: TextFile, options: DocumentOptions, *, alone: bool) -> list[tuple[str, str]]:
    """The documents of a file that are not empty, each with its name."""
    if file.suffix in SUFFIXES:
        documents = _of_table(file, options)
    elif options.documents == "paragraphs" or (options.documents is None and alone):
        texts = _PARAGRAPHS.split(file.text.replace("\r\n", "\n").replace("\r", "\n"))
        documents = [(f"{file.name}, paragraph {i}", text) for i, text in enumerate(texts, 1)]
    else:
        documents = [(file.name, file.text)]
    return [(name, text) for name, text in documents if text.strip()]


def _of_table(file: TextFile, options: DocumentOptions) -> list[tuple[str, str]]:
    if not (rows := rows_of(file)):
        return []
    column = Table(file, rows).column("text", options.text_column, TEXTS)
    return [(f"{file.name}:{line}", text_in(row, column, f"{file.where}:{line}")) for line, row in rows]


def text_in(row: dict[str, object], column: str, where: str) -> str:
    """The text in a column of a row; raises `DataError` for anything else."""
    text = row.get(column)
    if not isinstance(text, str):
        raise malformed(f"{where}: has no text in {column!r}; expected one in each row; correct or remove it")
    check_characters(text, f"{where}:")
    return text
