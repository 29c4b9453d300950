"""`supernets.data.tokenizing` and `sentences`: token ids of sentences, beside a tokenizer written by hand."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from supernets.data import DataSet, Part, TextOptions, load_data
from supernets.data.tokenizing import SentenceTokenizer
from tests.errors import raises

SHARED = Path(os.environ.get("NAS_TEXT_DATA", Path(__file__).parents[4] / "shared" / "data" / "text"))
"""Where `subjectivity.zip` and `sentence_polarity.zip` are."""
WORDS = (
    "the", "a", "film", "movie", "plot", "actor", "is", "was", "very", "not", "so", "good", "bad", "great", "dull", "loved",
    "hated", "watching", "watched",
)  # fmt: skip


def sentences(n: int, *, seed: int = 0) -> list[str]:
    """Different sentences of 2 to 14 words."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        length = int(torch.randint(2, 15, (1,), generator=generator))
        found[" ".join(WORDS[i] for i in torch.randint(len(WORDS), (length,), generator=generator).tolist()) + " ."] = (
            None
        )
    return list(found)


def write(file: Path, rows: list[tuple[str, object]]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([("text", "label"), *rows])
    return file


def word_level(**tokens: int) -> Tokenizer:
    """A tokenizer of whole words."""
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="unk"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def crowded() -> SentenceTokenizer:
    """A tokenizer trained on more characters than it has room for, each of the rare ones as rare as the next."""
    rare = ["q" + chr(i) for i in range(945, 1100)]
    return SentenceTokenizer.train([*sentences(300), *rare], vocabulary=300, max_tokens=9)


def by_hand(sentence: str, vocabulary: dict[str, int]) -> list[int]:
    """BERT's ids of an ASCII sentence: words and punctuation, each by the longest pieces from its left."""
    ids = [vocabulary["[CLS]"]]
    for word in re.findall(r"[^\W_]+|[^\w\s]|_", sentence.lower()):
        pieces, start = [], 0
        while start < len(word):
            ends = (e for e in range(len(word), start, -1) if ("##" if start else "") + word[start:e] in vocabulary)
            end = next(ends, None)
            if end is None:
                pieces = [vocabulary["[UNK]"]]
                break
            pieces.append(vocabulary[("##" if start else "") + word[start:end]])
            start = end
        ids += pieces
    return [*ids, vocabulary["[SEP]"]]


class TestTrained:
    def test_ids_are_those_of_the_longest_pieces(self) -> None:
        tokenizer = SentenceTokenizer.train(sentences(200), vocabulary=120, max_tokens=100)
        vocabulary = json.loads(tokenizer.json)["model"]["vocab"]
        assert [vocabulary[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")] == [0, 1, 2, 3]
        assert sorted(vocabulary.values()) == list(range(tokenizer.vocabulary))
        assert tokenizer.vocabulary <= 120
        texts = [*sentences(20, seed=1), "Watchings, filmed: THE zebra's plot_", "[CLS] the film [PAD] [SEP]", "?"]
        found, cut = tokenizer.encode(texts, texts)
        expected = [by_hand(text, vocabulary) for text in texts]
        longest = max(map(len, expected))
        assert found.tolist() == [ids + [0] * (longest - len(ids)) for ids in expected]
        assert found.dtype == torch.int64
        assert not cut.any()
        assert any("##" in token and len(token) > 3 for token in vocabulary)  # some pieces were merged

    def test_every_process_trains_the_same(self) -> None:
        code = (
            "import hashlib\nfrom tests.supernets.data.test_tokenizing import crowded\n"
            "print(hashlib.sha256(crowded().json.encode()).hexdigest())"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        here = crowded()
        assert other == hashlib.sha256(here.json.encode()).hexdigest()
        assert here.vocabulary <= 300

    def test_few_words_make_few_tokens(self) -> None:
        tokenizer = SentenceTokenizer.train(["good film", "bad film"], vocabulary=8000, max_tokens=9)
        assert tokenizer.vocabulary < 40


class TestLoaded:
    def test_longer_sentences_are_cut_with_their_end_kept(self) -> None:
        trained = SentenceTokenizer.train(sentences(100), vocabulary=200, max_tokens=100)
        short = SentenceTokenizer.train(sentences(100), vocabulary=200, max_tokens=6)
        texts = sentences(30, seed=2)
        whole, found = (one.encode(texts, texts)[0].tolist() for one in (trained, short))
        lengths = [row.index(3) + 1 for row in whole]
        assert [row[: min(n, 6)] for row, n in zip(found, lengths, strict=True)] == [
            row[:n] if n <= 6 else [*row[:5], 3] for row, n in zip(whole, lengths, strict=True)
        ]
        assert short.encode(texts, texts)[1].tolist() == [n > 6 for n in lengths]
        assert 0 < sum(n > 6 for n in lengths) < 30

    @pytest.mark.parametrize("folder", [True, False])
    def test_a_file_or_its_folder_with_its_own_padding_and_limits_replaced(self, tmp_path: Path, folder: bool) -> None:
        tokenizer = word_level(unk=5, good=1, bad=2, void=9, begin=4)
        tokenizer.add_special_tokens(["begin", "void"])
        tokenizer.post_processor = processors.TemplateProcessing(single="begin $A", special_tokens=[("begin", 4)])
        tokenizer.enable_truncation(2)
        tokenizer.enable_padding(direction="left", pad_id=9, pad_token="void", length=50)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        path = tmp_path if folder else tmp_path / "tokenizer.json"
        loaded = SentenceTokenizer.load(path, max_tokens=4)
        found, cut = loaded.encode(["good bad", "bad new good bad", "good"], ["a", "b", "c"])
        assert found.tolist() == [[4, 1, 2, 9], [4, 2, 5, 1], [4, 1, 9, 9]]
        assert cut.tolist() == [False, True, False]
        assert loaded.json == (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
        assert (loaded.padding, loaded.vocabulary) == (9, 10)  # ids have gaps, and embeddings a row for each

    @pytest.mark.parametrize("token", ["[PAD]", "<pad>"])
    def test_a_token_of_a_usual_name_pads(self, tmp_path: Path, token: str) -> None:
        word_level(unk=0, good=1, **{token: 2}).save(str(tmp_path / "tokenizer.json"))
        loaded = SentenceTokenizer.load(tmp_path, max_tokens=4)
        assert loaded.encode(["good good", "good"], ["a", "b"])[0].tolist() == [[1, 1], [1, 2]]

    def test_an_unusable_tokenizer_is_rejected(self, tmp_path: Path) -> None:
        file = tmp_path / "tokenizer.json"
        with raises("data.tokenizer-unusable", "tokenizer.json"):
            SentenceTokenizer.load(tmp_path, max_tokens=4)
        for content in (b"", b"[]", b'{"model": {"type": "Other"}}', b'{"version": "1.0"}'):
            file.write_bytes(content)
            with raises("data.tokenizer-unusable", "tokenizer.json"):
                SentenceTokenizer.load(tmp_path, max_tokens=4)
        file.write_bytes(b"\xff\xfe")
        with raises("data.tokenizer-unusable", "tokenizer.json", "utf-8"):
            SentenceTokenizer.load(file, max_tokens=4)
        word_level(unk=0, good=1).save(str(file))
        with raises("data.tokenizer-unusable", "tokenizer.json", "[PAD]"):
            SentenceTokenizer.load(file, max_tokens=4)
        SentenceTokenizer.train(["a b"], vocabulary=100, max_tokens=9)._tokenizer.save(str(file))
        with raises("data.tokenizer-unusable", "max_tokens=2", "2", "3"):
            SentenceTokenizer.load(file, max_tokens=2)

    def test_sentences_that_cannot_be_tokenized_are_rejected(self, tmp_path: Path) -> None:
        file = tmp_path / "tokenizer.json"
        word_level(unk=0, good=1, **{"<pad>": 2}).save(str(file))
        loaded = SentenceTokenizer.load(file, max_tokens=4)
        with raises("data.tokenizer-unusable", "second", "tokenizer.json"):
            loaded.encode(["good", " "], ["first", "second"])
        padded = word_level(unk=0, good=1, end=2)
        padded.post_processor = processors.TemplateProcessing(single="$A end", special_tokens=[("end", 2)])
        padded.enable_padding(pad_id=2, pad_token="end")
        padded.save(str(file))
        with raises("data.tokenizer-unusable", "first", "'end'"):
            SentenceTokenizer.load(file, max_tokens=4).encode(["good"], ["first"])
        word_level(good=1, **{"<pad>": 2}).save(str(file))  # and no token for other words
        with raises("data.tokenizer-unusable", "second"):
            SentenceTokenizer.load(file, max_tokens=4).encode(["good", "bad"], ["first", "second"])


class TestDataSets:
    @pytest.fixture
    def table(self, tmp_path: Path) -> Path:
        rows: list[tuple[str, object]] = [(text, i % 3) for i, text in enumerate(sentences(300))]
        return write(tmp_path / "r.csv", rows)

    def test_hold_every_sentence_once_as_the_tokenizer_has_it(self, table: Path) -> None:
        data = load_data("text-classification", path=table, options=TextOptions(vocabulary=150, max_tokens=12))
        assert [len(p) for p in (data.train, data.validation, data.test)] == [180, 60, 60]
        assert (data.name, data.class_names) == ("text-classification", ("0", "1", "2"))
        format = data.sentences
        deployed = Tokenizer.from_str(format.tokenizer)  # cuts and pads by itself
        texts = sentences(300)
        expected = sorted(
            (tuple(one.ids), i % 3) for i, one in enumerate(deployed.encode_batch(texts, add_special_tokens=True))
        )
        found = sorted(
            (tuple(ids + [format.padding] * (12 - len(ids))), label)
            for part in (data.train, data.validation, data.test)
            for ids, label in zip(part.inputs.tolist(), part.labels.tolist(), strict=True)
        )
        assert found == expected
        deployed.no_truncation()
        deployed.no_padding()
        lengths = [len(one.ids) for one in deployed.encode_batch(texts)]
        assert format.n_cut == sum(n > 12 for n in lengths) > 0
        assert (format.padding, format.max_tokens) == (0, 12)
        assert format.vocabulary > max(int(p.inputs.max()) for p in (data.train, data.validation, data.test))
        mean = sum(map(len, map(trimmed, data.validation.inputs.tolist()))) / 60
        assert mean <= format.typical_tokens < mean + 1

    def test_parts_keep_their_padding_and_are_the_same_again(self, table: Path) -> None:
        first, again, other = (
            load_data("text-classification", path=table, options=TextOptions(vocabulary=150), seed=seed)
            for seed in (0, 0, 1)
        )
        for part in ("train", "validation", "test"):
            assert getattr(first, part).padding == 0
            assert getattr(first, part).digest == getattr(again, part).digest != getattr(other, part).digest

    def test_a_tokenizer_is_trained_on_the_training_part_alone(self, tmp_path: Path) -> None:
        for part, word in (("train", "good"), ("validation", "zebra"), ("test", "quiz")):
            write(tmp_path / f"{part}.csv", [(f"{word} {word} {'b' * i}", y) for i in range(1, 9, 2) for y in (i % 4,)])
        data = load_data("text-classification", path=tmp_path, options=TextOptions(vocabulary=100))
        vocabulary = Tokenizer.from_str(data.sentences.tokenizer).get_vocab()
        assert "good" in vocabulary
        assert not any(character in token for token in vocabulary for character in "zqu")
        assert (data.test.inputs[:, 1:3] == vocabulary["[UNK]"]).all()

    def test_copies_but_for_white_space_stay_in_one_part(self, tmp_path: Path) -> None:
        rows: list[tuple[str, object]] = [
            (f"{' ' * k}{text}{' ' * k}", i % 2) for k in range(3) for i, text in enumerate(sentences(40))
        ]
        data = load_data(
            "text-classification", path=write(tmp_path / "r.csv", rows), options=TextOptions(vocabulary=200)
        )
        parts = [set(map(tuple, map(trimmed, p.inputs.tolist()))) for p in (data.train, data.validation, data.test)]
        assert list(map(len, parts)) == [24, 8, 8]
        assert len(set.union(*parts)) == 40

    @pytest.mark.parametrize(
        ("rows", "error"),
        [
            ([("a", 1), ("b", 1), ("c", 1)], "data.unsplittable | 1 | 1: 3 sentence"),
            ([("a", 1), ("b", 1), ("c", 1), ("d", 2)], "data.unsplittable | '2' | 1 | train"),
            (
                [(f"s{i // 2}", i) for i in range(6)],
                "data.duplicate | r.csv:2 | r.csv:3 | (0, 1)",
            ),
        ],
    )
    def test_data_that_cannot_be_split_are_rejected(
        self, tmp_path: Path, rows: list[tuple[str, object]], error: str
    ) -> None:
        with raises(*error.split(" | ")):
            load_data("text-classification", path=write(tmp_path / "r.csv", rows))

    def test_a_sentence_in_two_parts_is_rejected(self, tmp_path: Path) -> None:
        write(tmp_path / "train.csv", [(f"s{i}", i % 2) for i in range(9)])
        write(tmp_path / "test.csv", [("t", 0), (" s3 ", 1)])
        with raises("data.duplicate", "train.csv:5", "(train)", "test.csv:3", "(test)"):
            load_data("text-classification", path=tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs subjectivity.zip and sentence_polarity.zip (NAS_TEXT_DATA)")
@pytest.mark.parametrize(
    ("name", "classes", "n"),
    [("subjectivity", ("plot", "quote"), 10_000), ("sentence_polarity", ("neg", "pos"), 10_662)],
)
def test_reads_published_sentences(name: str, classes: tuple[str, str], n: int) -> None:
    data: DataSet = load_data("text-classification", path=SHARED / f"{name}.zip")
    parts: list[Part] = [data.train, data.validation, data.test]
    assert data.class_names == classes
    assert sum(map(len, parts)) == n
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert len(part) == pytest.approx(share * n, rel=0.001)
        assert abs(int(part.labels.bincount().diff())) <= 1
    assert data.sentences.vocabulary == 8000
    assert data.sentences.n_cut < 10


def trimmed(ids: list[int]) -> list[int]:
    """Ids without the padding at their end."""
    return ids[: len(ids) - next((i for i, token in enumerate(reversed(ids)) if token != 0), 0)]
