"""Pairs of texts: read, divided, tokenized and labelled."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from supernets.data import DataSet, DocumentOptions, PairFormat, Part, load_data
from supernets.data.document_blocks import NOTHING
from tests.errors import raises

OPTIONS = DocumentOptions(block=40, vocabulary=300)
FORMATS = ("%A, %d %B %Y", "%d %b %Y")


def rows(n: int = 60) -> list[tuple[str, str]]:
    """Dates in words, two of each, and in ISO 8601."""
    days = [date(1970, 1, 1) + timedelta(days=97 * i) for i in range(n // 2)]
    return [(day.strftime(format), day.isoformat()) for day in days for format in FORMATS]


def table(folder: Path, pairs: list[tuple[str, str]], name: str = "pairs.tsv", head: str = "source\ttarget") -> Path:
    file = folder / name
    file.write_text("\n".join([head, *map("\t".join, pairs)]) + "\n", encoding="utf-8")
    return file


def pairs_of(data: DataSet, part: Part) -> list[tuple[str, str]]:
    """The texts of a part, from its tokens, and checks of their labels."""
    format = data.format
    assert isinstance(format, PairFormat)
    tokenizer, found = Tokenizer.from_str(format.tokenizer), []
    for number, (ids, labels) in enumerate(zip(part.inputs.tolist(), part.labels.tolist(), strict=True)):
        source, target = ids[: format.source], ids[format.source :]
        assert target[0] == format.separator
        assert [label[0] for label in labels] == target[1:]
        predicted = [label for label in labels if label[1] != NOTHING]
        assert labels[: len(predicted)] == predicted  # the padding follows
        assert {label[1] for label in predicted} == {number}
        assert predicted[-1][0] == format.separator
        text = tokenizer.decode([label[0] for label in predicted[:-1]])
        assert sum(label[2] for label in predicted) == len(text.encode())
        found.append((tokenizer.decode([own for own in source if own != format.separator]), text))
    return found


def test_parts_hold_every_pair_once_and_share_no_source(tmp_path: Path) -> None:
    own = [*rows(), ("first of May", "2001-05-01"), ("first of May", "2002-05-01")]
    data = load_data("text-pairs", path=table(tmp_path, own), options=OPTIONS)
    parts = [pairs_of(data, part) for part in (data.train, data.validation, data.test)]
    assert sorted(pair for part in parts for pair in part) == sorted(own)
    sources = [{source for source, _ in part} for part in parts]
    assert not sources[0] & sources[1] | sources[0] & sources[2] | sources[1] & sources[2]
    assert data.train.inputs.shape[1] == data.validation.inputs.shape[1]


def test_files_of_parts_and_other_names_of_columns(tmp_path: Path) -> None:
    for name, own in (("train", rows()), ("validation", [("1 May 2001", "x")]), ("test", [("2 May 2001", "y")])):
        table(tmp_path, own, f"{name}.tsv", "words\tiso")
    options = DocumentOptions(block=40, vocabulary=300, source_column="words", target_column="iso")
    data = load_data("text-pairs", path=tmp_path, options=options)
    assert pairs_of(data, data.test) == [("2 May 2001", "y")]
    assert sorted(pairs_of(data, data.train)) == sorted(rows())


def test_too_few_pairs_for_three_parts(tmp_path: Path) -> None:
    with raises("data.unsplittable", "2 different source(s)", "at least 3"):
        load_data("text-pairs", path=table(tmp_path, rows(2)), options=OPTIONS)


def test_a_separator_that_is_in_a_text_is_rejected(tmp_path: Path) -> None:
    data = load_data("text-pairs", path=table(tmp_path, rows()), options=OPTIONS)
    assert isinstance(data.format, PairFormat)
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(data.format.tokenizer, encoding="utf-8")
    path = table(tmp_path, [*rows(), ("a ~ b", "c")])
    options = DocumentOptions(block=40, tokenizer=tokenizer, separator="~")
    with raises("data.tokenizer-unusable", "pairs.tsv:62", "source", "'~'", "data.separator"):
        load_data("text-pairs", path=path, options=options)


@pytest.mark.parametrize(
    ("name", "head", "pair", "mentions"),
    [
        ("pairs.tsv", "source\tiso", ("a", "b"), ("no target column", "target_column")),
        ("pairs.tsv", "source\ttarget", ("a", " "), ("1 row(s) lack 'target'", "pairs.tsv:62")),
        ("pairs.txt", "source\ttarget", ("a", "b"), ("pairs.txt is no table", ".tsv")),
        (
            "pairs.tsv",
            "source\ttarget",
            ("a", "".join(map(chr, range(0x4E00, 0x4E32)))),
            ("1 pair(s) have more than 40 tokens", "pairs.tsv:62", "max_tokens"),
        ),
    ],
)
def test_tables_that_are_no_pairs_are_rejected(
    tmp_path: Path, name: str, head: str, pair: tuple[str, str], mentions: tuple[str, ...]
) -> None:
    path = table(tmp_path, [*rows(), pair], name, head)
    with raises("data.layout" if name.endswith("txt") else "data.malformed-table", *mentions):
        load_data("text-pairs", path=path, options=OPTIONS)
