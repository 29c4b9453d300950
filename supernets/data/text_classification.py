"""The user's own sentences: tables, or one text file for each class, divided into parts or not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from supernets.data.labelled_examples import PARTS, Examples, Source, check_characters, listed, malformed, misplaced
from supernets.data.options import TextOptions
from supernets.data.table_rows import SUFFIXES, Row, labelled_texts
from supernets.data.text_files import TextFile, read_texts

MAX_CHARACTERS = 100_000
"""Maximum length of a sentence: a longer one is a file that was not divided, or a quote that was not closed."""
_MAX_CLASS_NAME = 200
_MAX_CLASSES = 10_000
"""More than these are not classes but numbers or texts."""
_LAYOUT = (
    "a .csv, .tsv or .jsonl table; a .zip or a folder of one text file a class, one sentence a line; or one of train, "
    "validation and test, each a table or a folder of such files"
)


def text_classification(path: Path, options: TextOptions) -> Source:
    """The sentences of a table, or of a folder or a zip archive with the layout of `_LAYOUT`.

    Sentences are stripped of white space at both ends. Classes are sorted by name, or as numbers if all of them are numbers.
    A text file's class is its name without the parts that all names share: ``rt.neg`` and ``rt.pos`` are ``neg`` and ``pos``.

    Raises:
        DataError: the path does not exist, or is laid out in another way, damaged, in another encoding or too large; a
            sentence is empty or too long; a class has none, or is in no training part.
    """
    parts = {part: _labelled(files, options) for part, files in _divided(path, options).items()}
    for row in itertools.chain.from_iterable(parts.values()):
        _check(row, where=str(path))
    class_names = _class_names([row.label for row in parts["train"]], where=str(path))
    examples: dict[str, Any] = {
        part: _examples(rows, class_names, part=part, where=str(path)) for part, rows in parts.items()
    }
    return Source(str(path), class_names, **examples, noun="sentence")


class _File(NamedTuple):
    """A text file, its part of the source (None: no part) and its class (None: a table)."""

    file: TextFile
    part: str | None
    label: str | None


def _divided(path: Path, options: TextOptions) -> dict[str, list[_File]]:
    """The files of each part; those of an undivided source are all for training."""
    files = _find_files(path, options)
    loose = [file.file.name for file in files if file.part is None]
    if loose and len(loose) != len(files):
        raise misplaced(f"{path}: remove {listed(loose)}, or train, validation and test; expected {_LAYOUT}")
    parts: dict[str, list[_File]] = {}
    for file in files:
        parts.setdefault(file.part or "train", []).append(file)
    for part, members in parts.items():
        if len(members) > 1 and any(member.label is None for member in members):
            names = listed([member.file.name for member in members])
            raise misplaced(f"{path}: holds {names} for the {part} part; expected one table; put them together")
    if "train" not in parts:
        names = listed([file.file.name for file in files])
        raise misplaced(f"{path}: holds {names} and no train part; expected one; add it, or rename a file to it")
    return parts


def _find_files(path: Path, options: TextOptions) -> list[_File]:
    """The files, each with the part and the class that follow from its name."""
    if path.is_file() and path.suffix.lower() not in (*SUFFIXES, ".zip"):
        raise misplaced(f"{path}: is no {', '.join(SUFFIXES)} or .zip file; expected {_LAYOUT}")
    files = _without_top(read_texts(path, encoding=options.encoding))
    if path.is_file() and path.suffix.lower() != ".zip":  # a single table, with any name
        return [_File(files[0], None, None)]
    if not files:
        raise misplaced(f"{path}: holds no text files; expected {_LAYOUT}")
    labels = _stems({_name(file).name for file in files if file.suffix not in SUFFIXES})
    entries = []
    for file in files:
        name = _name(file)
        divided = len(name.parts) == 2 and name.parts[0].lower() in PARTS
        if len(name.parts) > 1 and not divided:
            raise misplaced(f"{file.where}: lies in a folder of its own; expected {_LAYOUT}")
        part = name.parts[0] if divided else name.stem if file.suffix in SUFFIXES else ""  # test.txt is a class
        entries.append(_File(file, PARTS.get(part.lower()), labels.get(name.name)))
    return entries


def _without_top(files: list[TextFile]) -> list[TextFile]:
    """The files without a folder around all of them, which most packers add."""
    tops = {file.name.partition("/")[0].lower() for file in files}
    if len(tops) != 1 or tops <= PARTS.keys() or not all("/" in file.name for file in files):
        return files
    return [file._replace(name=file.name.partition("/")[2]) for file in files]


def _name(file: TextFile) -> PurePosixPath:
    return PurePosixPath(file.name)


def _stems(names: set[str]) -> dict[str, str]:
    """Each name without the dot-separated parts that all names begin or end with; a single name without its suffix."""
    if len(names) < 2:
        return {name: PurePosixPath(name).stem for name in names}
    split = {name: name.split(".") for name in names}
    shortest = min(map(len, split.values()))
    begin = next((i for i in range(shortest) if len({s[i] for s in split.values()}) > 1), shortest)
    end = next((i for i in range(shortest) if len({s[-1 - i] for s in split.values()}) > 1), shortest)
    stems = {name: ".".join(parts[begin : len(parts) - end]) for name, parts in split.items()}
    return stems if all(stems.values()) else {name: name for name in names}


def _labelled(files: Sequence[_File], options: TextOptions) -> list[Row]:
    """The sentences of a part."""
    rows = []
    for file, _, label in files:
        if label is None:
            rows += labelled_texts(file, text_column=options.text_column, label_column=options.label_column)
        else:
            rows += _of_class(file, label)
    return rows


def _of_class(file: TextFile, label: str) -> list[Row]:
    """The sentences of a text file, one a line, without empty lines."""
    lines = ((i, line.strip()) for i, line in enumerate(file.lines(), 1))
    rows = [Row(line, label, f"{file.name}:{i}") for i, line in lines if line]
    if not rows:
        raise misplaced(f"{file.where}: holds no sentences of the class {label!r}; add some, or remove the file")
    return rows


def _check(row: Row, *, where: str) -> None:
    if len(row.text) > MAX_CHARACTERS:
        expected = f"at most {MAX_CHARACTERS}; divide it, or close the quote before it"
        raise malformed(f"{where}: {row.name} has {len(row.text)} characters; expected {expected}")
    if len(row.label) > _MAX_CLASS_NAME or not row.label.isprintable():
        expected = f"at most {_MAX_CLASS_NAME} printable characters"
        raise malformed(f"{where}: {row.name} has the class {row.label[:40]!r}; expected {expected}")
    for text in (row.text, row.label):
        check_characters(text, f"{where}: {row.name}")


def _class_names(labels: Sequence[str], *, where: str) -> tuple[str, ...]:
    names = sorted(set(labels))
    if len(names) > _MAX_CLASSES:
        has = f"{len(names)} classes, such as {listed(names)}"
        raise malformed(f"{where}: has {has}; expected at most {_MAX_CLASSES}; is label_column right?")
    if all(name.isascii() and name.isdecimal() for name in names):
        names.sort(key=int)
    return tuple(names)


def _examples(rows: Sequence[Row], class_names: Sequence[str], *, part: str, where: str) -> Examples:
    numbers = {name: i for i, name in enumerate(class_names)}
    unknown = sorted({row.label for row in rows} - numbers.keys())
    if unknown:
        raise misplaced(f"{where}: the {part} part has classes that train lacks: {listed(unknown)}; give it the same")
    inputs = np.empty(len(rows), dtype=np.object_)
    inputs[:] = [row.text for row in rows]
    labels = np.array([numbers[row.label] for row in rows], dtype=np.int64)
    return Examples(inputs, labels, tuple(row.name for row in rows))
