"""The user's own documents to model: plain text files, or tables with one document a row; and their blocks of tokens."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from supernets.data.in_memory import DataSet, Part
from supernets.data.labelled_examples import PARTS, Examples, Source, check_characters, listed, malformed, misplaced
from supernets.data.multiple_choice import choice_part, read_questions
from supernets.data.options import DocumentOptions
from supernets.data.preprocessing import BlockFormat
from supernets.data.splitting import Split
from supernets.data.table_rows import SUFFIXES, TEXTS, Table, rows_of
from supernets.data.targets import TEXT
from supernets.data.text_files import TextFile, read_texts
from supernets.data.tokenizing import DocumentTokenizer, tokenizer_for

_PARAGRAPHS = re.compile(r"\n[ \t]*\n\s*")
SHARE = 0.1
"""Default share of the documents for validation, and for test."""
NOTHING = -1
"""The number of the document of positions that fill the last block."""


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


def block_data_set(name: str, source: Source, split: Split, options: DocumentOptions) -> DataSet:
    """The data set of split documents; a tokenizer that is trained here sees the training part only.

    A part's documents, in their order, are one sequence of tokens: the separator, a document, the separator, and so on. Its
    blocks overlap by one token, so that each token but the first separator is predicted once. Inputs are (n, block). Labels are
    (n, block - 1, 3): the next token, the number of its document and the bytes of text that it has; `NOTHING` is the document
    where a block is filled up. Questions on which networks are scored belong to the validation and the test part.

    Raises:
        DataError: the tokenizer or the questions cannot be used, or the training part is shorter than a block.
    """
    tokenizer = tokenizer_for(split.train.inputs.tolist(), options)
    questions = {} if options.choices is None else read_questions(options.choices, encoding=options.encoding)
    choices = {part: choice_part(members, tokenizer, block=options.block) for part, members in questions.items()}
    train, validation, test = (
        _packed(examples, tokenizer, options.block, source.where, questions=choices.get(part))
        for part, examples in split._asdict().items()
    )
    if len(train) < 2:
        n = int((train.labels[..., 1] != NOTHING).sum())
        expected = f"expected at least two blocks of {options.block}; add text, or lower max_tokens"
        raise malformed(f"{source.where}: the training part has {n} tokens; {expected}")
    format = BlockFormat(
        vocabulary=tokenizer.vocabulary,
        separator=tokenizer.separator,
        separator_token=tokenizer.separator_token,
        block=options.block,
        tokenizer=tokenizer.json,
    )
    return DataSet(name, train, validation, test, (), format, targets=source.targets)


def _packed(
    examples: Examples, tokenizer: DocumentTokenizer, block: int, where: str, *, questions: Part | None
) -> Part:
    ids, documents, sizes = array("q", [tokenizer.separator]), array("q"), array("q")
    for number, text in enumerate(examples.inputs.tolist()):
        tokens, bytes_each = tokenizer.encode(text, f"{where}: {examples.name(number)}")
        ids.extend([*tokens, tokenizer.separator])
        sizes.extend([*bytes_each, len(text.encode()) - sum(bytes_each)])
        documents.extend([number] * (len(tokens) + 1))
    n = -(-len(documents) // (block - 1))
    spare = n * (block - 1) - len(documents)
    sequence = np.concatenate([np.frombuffer(ids, np.int64), np.full(spare, tokenizer.separator)])
    starts = np.arange(n)[:, None] * (block - 1)
    inputs = sequence[starts + np.arange(block)]
    labels = np.stack(
        [
            inputs[:, 1:],
            np.concatenate([np.frombuffer(documents, np.int64), np.full(spare, NOTHING)]).reshape(n, block - 1),
            np.concatenate([np.frombuffer(sizes, np.int64), np.zeros(spare, np.int64)]).reshape(n, block - 1),
        ],
        axis=2,
    )
    return Part.of(torch.from_numpy(inputs), torch.from_numpy(labels), questions=questions)
