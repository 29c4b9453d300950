"""Examples without labels: images at any depth of a folder, or sentences of text files and tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from supernets.data.image_folder import SUFFIXES, Problems, read_images, some_of, spread, unusable
from supernets.data.labelled_examples import (
    CLUTTER,
    Examples,
    OnProgress,
    Source,
    check_characters,
    malformed,
    misplaced,
    missing,
    no_progress,
    unreadable,
)
from supernets.data.options import ImageOptions, TextOptions
from supernets.data.table_rows import SUFFIXES as TABLES
from supernets.data.table_rows import TEXTS, table_of
from supernets.data.targets import NO_LABELS
from supernets.data.text_classification import MAX_CHARACTERS
from supernets.data.text_files import TextFile, read_texts

_source = partial(Source, class_names=(), targets=NO_LABELS)


def unlabelled_images(path: Path, options: ImageOptions, *, on_progress: OnProgress = no_progress) -> Source:
    """The images in a folder and the folders in it, sorted by path; at most `options.examples`, spread over them.

    Files of other kinds are left out.

    Raises:
        DataError: the folder is missing or holds no images; some cannot be read, unless they are to be skipped; the sizes
            differ and there is no `image_size`; or the images would take too much memory.
    """
    problems: Problems = {}
    pixels = read_images(_chosen(_image_files(path), options.examples), path, options, problems, on_progress)
    if problems and (not pixels or not options.skip_unreadable):
        raise unusable(path, problems)
    names = tuple(str(file.relative_to(path)) for file in pixels)
    skipped = tuple(str(file.relative_to(path)) for file in problems)
    return _source(str(path), train=_examples(np.stack([*pixels.values()]), names), skipped=skipped)


def unlabelled_images_of(path: Path, *, channels: int, n: int) -> list[Image.Image]:
    """At most `n` images of a folder, decoded but not resized, spread over it, without those that cannot be read."""
    files = _image_files(path)
    return some_of([files[i] for i in spread(len(files), n)], channels=channels)


def unlabelled_sentences(path: Path, options: TextOptions) -> Source:
    """The sentences of a file, of a folder or of a zip archive: a line each of text files, a row each of tables.

    Empty lines are left out; at most `options.examples` sentences are taken, spread over them.

    Raises:
        DataError: the path does not exist, cannot be read, exceeds the bounds, or holds no sentence; one is too long.
    """
    rows = [row for file in read_texts(path, encoding=options.encoding) for row in _sentences(file, options)]
    if not rows:
        raise misplaced(f"{path}: holds no sentences; expected text files with one a line, or tables; add some")
    rows = [rows[i] for i in _places(len(rows), options.examples)]
    for name, text in rows:
        if len(text) > MAX_CHARACTERS:
            expected = f"at most {MAX_CHARACTERS} in a sentence; divide it into lines"
            raise malformed(f"{path}: {name} has {len(text)} characters; expected {expected}")
        check_characters(text, f"{path}: {name}")
    texts = np.empty(len(rows), dtype=np.object_)
    texts[:] = [text for _, text in rows]
    return _source(str(path), train=_examples(texts, tuple(name for name, _ in rows)), noun="sentence")


def _image_files(path: Path) -> list[Path]:
    """The image files in a folder and the folders in it, without hidden ones, sorted."""
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise missing(f"{path}: {state}; expected a folder of images")

    def stop(error: OSError) -> None:
        raise unreadable(f"{error.filename}: cannot be listed ({error.strerror}); make it readable") from None

    files: list[Path] = []
    for root, folders, names in os.walk(path, onerror=stop):
        folders[:] = [name for name in folders if not _is_clutter(name)]
        files += [Path(root, name) for name in names if name.lower().endswith(SUFFIXES) and not _is_clutter(name)]
    if not files:
        raise misplaced(f"{path}: holds no images; expected {', '.join(SUFFIXES)} files; add some")
    return sorted(files)


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def _sentences(file: TextFile, options: TextOptions) -> list[tuple[str, str]]:
    """The sentences of a file that are not empty, each with its name."""
    if file.suffix not in TABLES:
        numbered: list[tuple[int, object]] = [*enumerate(file.lines(), 1)]
    else:
        table = table_of(file, "a text in each")
        column = table.column("text", options.text_column, TEXTS)
        numbered = [(line, row.get(column)) for line, row in table.rows]
    if faults := [line for line, text in numbered if not isinstance(text, str)]:
        raise malformed(f"{file.where}:{faults[0]}: has no text; expected one in each row; correct or remove it")
    return [(f"{file.name}:{line}", text) for line, cell in numbered if (text := str(cell).strip())]


def _chosen(files: Sequence[Path], n: int | None) -> list[Path]:
    return [files[i] for i in _places(len(files), n)]


def _places(length: int, n: int | None) -> list[int]:
    """At most `n` places of a sequence, evenly spread; all of them for None."""
    return [*range(length)] if n is None or n >= length else [i * length // n for i in range(n)]


def _examples(inputs: NDArray[np.generic], names: tuple[str, ...]) -> Examples:
    nothing = np.zeros(len(inputs), dtype=np.int64)
    return Examples(inputs, nothing, names, strata=nothing)
