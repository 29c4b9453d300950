"""Multiple-choice questions for language models: read from files, tokenized, and one example for each option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from supernets.data.in_memory import Part
from supernets.data.labelled_examples import PARTS, listed, malformed, misplaced
from supernets.data.table_rows import rows_of
from supernets.data.text_files import read_texts
from supernets.data.tokenizing import DocumentTokenizer

_MAX_OPTIONS = 100
NO_QUESTION = -1
"""The number of the question of positions that belong to no option."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question.

    Attributes:
        options: at least two, all different; with `context` before each.
        answer: the number of the right one, from 0.
        where: Name of the question in errors.
    """

    context: str
    options: tuple[str, ...]
    answer: int
    where: str

    def text(self, option: int) -> tuple[str, str]:
        """The context and an option, with a space between them where neither has one."""
        context, option_text = self.context, self.options[option]
        apart = not context or context[-1].isspace() or option_text[0].isspace()
        return (context, option_text) if apart else (f"{context} ", option_text)


def read_questions(path: Path, *, encoding: str) -> Mapping[str, list[Question]]:
    """The questions of the parts ``validation`` and ``test``.

    A JSONL file has an object with ``context``, ``options`` and ``answer`` (a number from 0) in each line; by turns the
    questions are for validation and for the test. A folder has a file for each part, ``validation.jsonl`` and ``test.jsonl``.

    Raises:
        DataError: the path does not exist or cannot be read; a part is missing or empty; a line is no question, or one again.
    """
    files = read_texts(path, encoding=encoding)
    expected = "validation.jsonl and test.jsonl" if path.is_dir() else "a JSONL file of context, options and answer"
    parts: dict[str, list[Question]] = {"validation": [], "test": []}
    where_by_question: dict[tuple[str, tuple[str, ...]], str] = {}
    for file in files:
        name = PurePosixPath(file.name)
        part = PARTS.get(name.stem.lower()) if path.is_dir() else None
        if file.suffix != ".jsonl" or (path.is_dir() and part not in parts):
            raise misplaced(f"{file.where}: holds no questions; expected {expected}")
        for number, question in enumerate([_question(row, f"{file.where}:{line}") for line, row in rows_of(file)]):
            if (
                twice := where_by_question.setdefault((question.context, question.options), question.where)
            ) != question.where:
                raise malformed(f"{question.where}: is the question of {twice}; remove one of the two")
            parts[part or ("test" if number % 2 else "validation")].append(question)
    if empty := [part for part, questions in parts.items() if not questions]:
        raise misplaced(
            f"{path}: has no questions for {listed(empty)}; expected {expected}, at least one for each part"
        )
    return parts


def _question(row: Mapping[str, object], where: str) -> Question:
    context, options, answer = (row.get(key) for key in ("context", "options", "answer"))
    if not isinstance(context, str):
        raise malformed(f"{where}: context is {context!r:.40}; expected the text before the options, or an empty one")
    if not isinstance(options, list) or not all(isinstance(option, str) and option.strip() for option in options):
        raise malformed(f"{where}: options is {options!r:.40}; expected a list of texts, none of them empty")
    if not 2 <= len(options) <= _MAX_OPTIONS or len(set(options)) < len(options):
        raise malformed(f"{where}: has {len(set(options))} different options; expected 2 to {_MAX_OPTIONS}, none twice")
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(options):
        expected = f"expected the number of an option, from 0 to {len(options) - 1}"
        raise malformed(f"{where}: answer is {answer!r:.40}; {expected}")
    return Question(context, tuple(options), answer, where)


def choice_part(questions: Sequence[Question], tokenizer: DocumentTokenizer, *, block: int) -> Part:
    """The questions as examples, one for each option, in their order.

    Inputs are (n, tokens): the separator, the context, an option, and separators up to the longest example, at most `block`; of
    longer contexts the beginning is left out. Labels are (n, tokens - 1, 4): the next token; then, where that is a token of the
    option, the number of its question, its bytes of text (those of the whole option at its first token), and the number of the
    question's options, negative for wrong ones; elsewhere `NO_QUESTION`, 0 and 0.

    Raises:
        DataError: an option has more tokens than a block, or cannot be tokenized.
    """
    rows: list[tuple[list[int], int, int, int, int]] = []
    for number, question in enumerate(questions):
        for i, option in enumerate(question.options):
            ids, n_own = _tokens(question, i, tokenizer, max_tokens=block - 1)
            n = len(question.options)
            rows.append((ids, n_own, number, len(option.encode()), n if i == question.answer else -n))
    longest = max(len(ids) for ids, *_ in rows)
    inputs = np.full((len(rows), longest + 1), tokenizer.separator, dtype=np.int64)
    labels = np.zeros((len(rows), longest, 4), dtype=np.int64)
    labels[..., 1] = NO_QUESTION
    for row, (ids, n_own, number, size, options) in enumerate(rows):
        end = len(ids)
        inputs[row, 1 : end + 1] = ids
        labels[row, end - n_own : end, 1] = number
        labels[row, end - n_own, 2] = size
        labels[row, end - n_own : end, 3] = options
    labels[..., 0] = inputs[:, 1:]
    return Part.of(torch.from_numpy(inputs), torch.from_numpy(labels))


def _tokens(question: Question, option: int, tokenizer: DocumentTokenizer, *, max_tokens: int) -> tuple[list[int], int]:
    """The last tokens of context and option, at most some, and how many of them hold text of the option."""
    context, option_text = question.text(option)
    ids, sizes = tokenizer.encode(context + option_text, question.where)
    n = max(1, int((np.cumsum(sizes) > len(context.encode())).sum()))
    if n > max_tokens:
        expected = f"expected at most {max_tokens}, one less than max_tokens; raise max_tokens, or remove the question"
        raise malformed(f"{question.where}: the option {option_text!r:.40} has {n} tokens; {expected}")
    return ids[-max_tokens:], n
