"""Pairs of a source and a target text, rows of tables, for encoder-decoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from supernets.data.documents import SHARE, files_by_part, text_in
from supernets.data.labelled_examples import Examples, Source, listed, malformed, misplaced
from supernets.data.options import DocumentOptions
from supernets.data.table_rows import SUFFIXES, table_of
from supernets.data.targets import TEXT
from supernets.data.text_files import TextFile

SOURCES, TARGETS = ("source", "input", "src"), ("target", "output", "tgt")
"""Names of columns that are read if the options name none."""


def text_pairs(path: Path, options: DocumentOptions) -> Source:
    """The pairs of a table, of a folder or of a zip archive of tables: sources are inputs, and targets labels.

    Rows with equal sources are in one part. Files are of parts as in `supernets.data.documents.text_documents`.

    Raises:
        DataError: the path does not exist, cannot be read or exceeds the bounds; a part is missing or empty; a table has no
            such columns, or a row lacks a text.
    """
    expected = f"tables with a pair a row ({', '.join(SUFFIXES)})"
    parts = files_by_part(path, options.encoding, expected=expected)
    examples: dict[str, Any] = {}
    for part, files in parts.items():
        if loose := [file.name for file in files if file.suffix not in SUFFIXES]:
            raise misplaced(f"{path}: {listed(loose)} is no table; expected {expected}; remove it")
        examples[part] = _examples([pair for file in files for pair in _pairs(file, options)])
    return Source(
        str(path),
        (),
        **examples,
        default_validation=SHARE,
        default_test=SHARE,
        noun="source",
        targets=TEXT,
    )


def _pairs(file: TextFile, options: DocumentOptions) -> list[tuple[str, str, str]]:
    """The name of each row, its source and its target."""
    table = table_of(file, "a source and a target in each")
    source = table.column("source", options.source_column, SOURCES)
    target = table.column("target", options.target_column, TARGETS)
    table.check_different({"source": source, "target": target})
    pairs = []
    for line, row in table.rows:
        first, second = (text_in(row, column, f"{file.where}:{line}").strip() for column in (source, target))
        pairs.append((f"{file.name}:{line}", first, second))
    for i, column in enumerate((source, target), 1):
        if empty := [pair[0] for pair in pairs if not pair[i]]:
            raise malformed(f"{file.where}: {len(empty)} row(s) lack {column!r} ({listed(empty)}); fill or remove them")
    return pairs


def _examples(pairs: Sequence[tuple[str, str, str]]) -> Examples:
    texts = np.empty((len(pairs), 3), dtype=np.object_)
    for i, pair in enumerate(pairs):
        texts[i] = pair
    return Examples(texts[:, 1], texts[:, 2], tuple(texts[:, 0]), strata=np.zeros(len(pairs), dtype=np.int64))
