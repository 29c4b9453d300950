"""Documents for language models: read, divided, tokenized and packed into blocks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from supernets.data import DataSet, DocumentOptions, ImageOptions, Part, load_data
from supernets.data.document_blocks import NOTHING
from supernets.data.tokenizing import SEPARATOR, DocumentTokenizer, train_byte_pairs
from tests.errors import raises

BLOCK = 16
OPTIONS = DocumentOptions(block=BLOCK, vocabulary=300)
WORDS = ("über", "the", "quick", "brown", "fox", "jumps", "日本語", "again", "and", "<|endoftext|>", "🙂")


def document(seed: int) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(WORDS, size=int(rng.integers(1, 25)))) + f" {seed}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(map(document, range(60))), encoding="utf-8")
    return file


def documents_of(data: DataSet, part: Part) -> list[str]:
    """The texts of a part, in order, from its blocks."""
    tokenizer = Tokenizer.from_str(data.blocks.tokenizer)
    found: list[list[int]] = []
    for row in part.labels.reshape(-1, 3).tolist():
        if row[1] != NOTHING:
            found += [[] for _ in range(row[1] + 1 - len(found))]
            found[row[1]].append(row[0])
    assert all(ids[-1] == data.blocks.separator and data.blocks.separator not in ids[:-1] for ids in found)
    return [tokenizer.decode(ids[:-1], skip_special_tokens=False) for ids in found]


def test_blocks_hold_every_document_of_one_part_once(path: Path) -> None:
    data = load_data("text", path=path, options=OPTIONS)
    parts = [documents_of(data, part) for part in (data.train, data.validation, data.test)]
    assert sorted(text for part in parts for text in part) == sorted(map(document, range(60)))
    assert list(map(len, parts)) == [48, 6, 6]
    for part, texts in zip((data.train, data.validation, data.test), parts, strict=True):
        assert part.inputs.shape[1] == BLOCK
        assert torch.equal(part.inputs[:, 1:], part.labels[..., 0])
        assert torch.equal(part.inputs[1:, 0], part.inputs[:-1, -1])  # so that each token is predicted once
        assert part.inputs[0, 0] == data.blocks.separator
        for number, text in enumerate(texts):
            assert part.labels[..., 2][part.labels[..., 1] == number].sum() == len(text.encode())
        assert (part.labels[..., 2] >= 0).all()


def test_the_tokenizer_sees_the_training_part_alone_and_is_the_same_in_every_process(path: Path) -> None:
    data = load_data("text", path=path, options=OPTIONS)
    own = DocumentTokenizer.train(documents_of(data, data.train), vocabulary=300)
    assert own.json == data.blocks.tokenizer
    code = (
        "import sys; from pathlib import Path; from supernets.data import *; "
        f"print(load_data('text', path=Path({str(path)!r}), options=DocumentOptions(block=16, vocabulary=300)).train.digest); "
        "print('sklearn' in sys.modules)"  # reading users' files does not wait for what reads the digits
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [data.train.digest, "False"]


def test_a_tokenizer_of_a_folder_is_used(path: Path, tmp_path: Path) -> None:
    first = load_data("text", path=path, options=OPTIONS)
    (tmp_path / "tokenizer.json").write_text(first.blocks.tokenizer, encoding="utf-8")
    again = load_data("text", path=path, options=DocumentOptions(tokenizer=tmp_path, block=BLOCK))
    assert again.train.digest == first.train.digest
    assert again.format == first.format
    assert first.blocks.separator_token == SEPARATOR


def test_a_tokenizer_without_a_separator_is_rejected(path: Path, tmp_path: Path) -> None:
    described = json.loads(load_data("text", path=path, options=OPTIONS).blocks.tokenizer)
    described["added_tokens"] = []
    described["model"]["vocab"]["other"] = described["model"]["vocab"].pop(SEPARATOR)
    (tmp_path / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    with raises("data.tokenizer-unusable", "separate documents", "</s>", "separator"):
        load_data("text", path=path, options=DocumentOptions(tokenizer=tmp_path, block=BLOCK))
    named = DocumentOptions(tokenizer=tmp_path, block=BLOCK, separator="other")
    assert load_data("text", path=path, options=named).blocks.separator == described["model"]["vocab"]["other"]


class TestSeparators:
    """That of a folder's files, where each names another; all three are special tokens."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        tokenizer = train_byte_pairs([document(i) for i in range(60)], vocabulary=300, special=SEPARATOR)
        tokenizer.add_special_tokens(["</s>", "<|im_end|>"])
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        return tmp_path

    @pytest.mark.parametrize(
        ("files", "separator"),
        [
            ({}, SEPARATOR),
            ({"config.json": {"eos_token_id": None}}, SEPARATOR),
            ({"config.json": {"eos_token_id": 301}}, "<|im_end|>"),
            ({"config.json": {"eos_token_id": [300, 301]}}, "</s>"),
            ({"config.json": {"eos_token_id": 301}, "tokenizer_config.json": {"eos_token": "</s>"}}, "</s>"),
            ({"tokenizer_config.json": {"eos_token": {"content": "<|im_end|>", "lstrip": False}}}, "<|im_end|>"),
            # As Gemma has it: several that end an answer, of which the first ends a text, and a beginning that is not read.
            (
                {
                    "config.json": {"eos_token_id": [300, 301], "bos_token_id": 301},
                    "tokenizer_config.json": {"bos_token": "<|im_end|>", "add_bos_token": True, "eos_token": "</s>"},
                },
                "</s>",
            ),
        ],
    )
    def test_the_files_say_what_ends_a_text(self, folder: Path, files: dict[str, Any], separator: str) -> None:
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content))
        for path in (folder, folder / "tokenizer.json"):
            assert DocumentTokenizer.load(path).separator_token == separator
        (folder / "tokenizer.json").rename(folder / "other.json")
        assert DocumentTokenizer.load(folder / "other.json").separator_token == SEPARATOR

    @pytest.mark.parametrize("named", [5, 4000, "</end>", [], True])
    def test_what_is_no_special_token_is_rejected(self, folder: Path, named: object) -> None:
        (folder / "config.json").write_text(json.dumps({"eos_token_id": named}))
        with raises("data.tokenizer-unusable", repr(named), "no special token", "separator"):
            DocumentTokenizer.load(folder)
        assert DocumentTokenizer.load(folder, separator="</s>").separator == 300

    def test_a_trained_tokenizer_has_the_one_that_is_asked_for(self, path: Path) -> None:
        data = load_data("text", path=path, options=DocumentOptions(block=BLOCK, vocabulary=300, separator="<end>"))
        assert (data.blocks.separator_token, data.blocks.separator) == ("<end>", 0)


def test_files_of_parts_tables_and_files_as_documents(tmp_path: Path) -> None:
    for part, seeds in (("train", range(30)), ("valid", ()), ("validation", range(30, 34)), ("test", range(34, 40))):
        if seeds:
            rows = [json.dumps({"text": document(i), "source": i}) for i in seeds]
            (tmp_path / f"{part}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    data = load_data("text", path=tmp_path, options=OPTIONS)
    assert sorted(documents_of(data, data.validation)) == sorted(map(document, range(30, 34)))
    assert len(documents_of(data, data.test)) == 6
    other = tmp_path / "files"
    other.mkdir()
    for i in range(20):
        (other / f"{i}.txt").write_text(document(i) + "\n\nand more", encoding="utf-8")
    assert documents_of(whole := load_data("text", path=other, options=OPTIONS), whole.test)[0].endswith("\n\nand more")
    paragraphs = load_data(
        "text", path=other, options=DocumentOptions(block=BLOCK, vocabulary=300, documents="paragraphs")
    )
    assert (
        sum(len(documents_of(paragraphs, part)) for part in (paragraphs.train, paragraphs.validation, paragraphs.test))
        == 40
    )


def test_text_that_cannot_be_used(tmp_path: Path, path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("\n\n".join("abcdefgh"))
    with raises("data.malformed-table", "two blocks of 64", "max_tokens"):
        load_data("text", path=short, options=DocumentOptions(block=64, vocabulary=300))
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n\n ")
    with raises("data.layout", str(empty), "no text"):
        load_data("text", path=empty, options=OPTIONS)
    table = tmp_path / "table.jsonl"
    table.write_text('{"text": "a"}\n{"text": 3}\n')
    with raises("data.malformed-table", "table.jsonl:2", "'text'"):
        load_data("text", path=table, options=OPTIONS)
    with raises("data.wrong-kind", "documents"):
        load_data("text", path=path, options=ImageOptions())
    with raises("data.wrong-kind", "text to model"):
        load_data("digits", options=OPTIONS)
    with raises("data.invalid-option", "vocabulary=256", "257"):
        DocumentOptions(vocabulary=256)
