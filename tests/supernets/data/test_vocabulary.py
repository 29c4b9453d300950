"""Vocabularies cut from tokenizers, against the whole tokenizer and counts by hand."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from supernets.data import DocumentOptions, load_data
from supernets.data.kept_tokens import KeptTokens
from supernets.data.tokenizing import SEPARATOR, DocumentTokenizer
from supernets.data.vocabulary import choose_tokens, cut_tokenizer, cut_vocabulary
from supernets.errors import CheckpointError, DataError

TEXTS = (Path(__file__).parents[3] / "CHANGELOG.md").read_text(encoding="utf-8")[:12_000].split("\n")
OTHER = "Съешь же ещё этих мягких французских булок, да выпей чаю. 素早い茶色の狐は怠け者の犬を飛び越える。"


def of(tokenizer: Tokenizer) -> DocumentTokenizer:
    return DocumentTokenizer(tokenizer, where="here", text=str(tokenizer.to_str()), separator=SEPARATOR)


def byte_level() -> DocumentTokenizer:
    """Pairs of bytes, with a special token that is added after the others and a step that adds it to texts."""
    whole = DocumentTokenizer.train([*TEXTS, OTHER * 3], vocabulary=700)
    tokenizer = Tokenizer.from_str(whole.json)
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.add_tokens([AddedToken("zebra crossing")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<end> $A", special_tokens=[("<end>", tokenizer.token_to_id("<end>"))]
    )
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("<end>"), pad_token="<end>")
    return of(tokenizer)


def with_byte_fallback() -> DocumentTokenizer:
    """Pairs of characters as of Llama 2 and Gemma, where bytes are tokens of their own."""
    bytes_and_special = [SEPARATOR, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=bytes_and_special, show_progress=False)
    trainer_division = pre_tokenizers.Split("\u2581", "merged_with_next")
    tokenizer.pre_tokenizer = trainer_division
    tokenizer.train_from_iterator([*TEXTS, OTHER], trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [entry for entry in data["added_tokens"] if entry["id"] < 2]
    data["pre_tokenizer"] = None
    return of(Tokenizer.from_str(json.dumps(data)))


def with_many_merges() -> DocumentTokenizer:
    """Pairs of bytes as converted from tiktoken: every division of a token into two is a merge, by the token's rank, and words
    that are tokens are not divided."""
    data = json.loads(DocumentTokenizer.train(TEXTS, vocabulary=500).json)
    vocabulary = data["model"]["vocab"]
    data["model"]["merges"] = [
        [token[:i], token[i:]]
        for token in sorted(vocabulary, key=vocabulary.__getitem__)
        for i in range(1, len(token))
        if token != SEPARATOR and token[:i] in vocabulary and token[i:] in vocabulary
    ]
    data["model"]["ignore_merges"] = True
    return of(Tokenizer.from_str(json.dumps(data)))


KINDS = {"byte-level": byte_level(), "byte-fallback": with_byte_fallback(), "many-merges": with_many_merges()}
KEPT = {name: choose_tokens(whole, TEXTS, (0.6, 0.8, 1.0), "here") for name, whole in KINDS.items()}
CUT = {
    (name, size): cut_tokenizer(KINDS[name], kept.tokens[:size]) for name, kept in KEPT.items() for size in kept.sizes
}


@cache
def read(text: str) -> Tokenizer:
    return Tokenizer.from_str(text)


def decoded(tokenizer: DocumentTokenizer, ids: list[int]) -> str:
    return str(read(tokenizer.json).decode(ids, skip_special_tokens=False))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(text=st.one_of(st.text(max_size=40), st.text(sorted(set(TEXTS[0] + OTHER)), max_size=60)))
def test_every_text_is_restored_and_encoded_as_before_without_lost_tokens(kind: str, text: str) -> None:
    """The whole tokenizer is the oracle."""
    whole, kept = KINDS[kind], KEPT[kind]
    before, _ = whole.encode(text, "text")
    for size in kept.sizes:
        ids, _ = CUT[kind, size].encode(text, "text")
        assert max(ids, default=0) < size
        assert decoded(CUT[kind, size], ids) == decoded(whole, before)
        if set(before) <= set(kept.tokens[:size]):
            assert [kept.tokens[i] for i in ids] == before


@pytest.mark.parametrize("kind", KINDS)
def test_kept_tokens_are_reached_by_merges_of_kept_ones(kind: str) -> None:
    """Each kept token is what its own characters are merged to, unless the whole tokenizer merges them to others."""
    whole, kept = KINDS[kind], KEPT[kind]
    for size in kept.sizes:
        cut = CUT[kind, size]
        for number, token in enumerate(kept.tokens[:size]):
            text = decoded(whole, [token])
            if whole.encode(text, "token")[0] == [token]:
                assert cut.encode(text, "token")[0] == [number]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_smaller_vocabularies_are_the_first_ones(kind: str) -> None:
    kept = KEPT[kind]
    small, large = (json.loads(CUT[kind, size].json)["model"]["vocab"] for size in (kept.sizes[0], kept.sizes[-1]))
    assert small == {token: number for token, number in large.items() if number < kept.sizes[0]}
    assert sorted(kept.tokens) == list(range(KINDS[kind].n_tokens))


def test_special_and_added_tokens_and_bytes_stay() -> None:
    """Also where they are named: in the step that adds them to texts, and as padding."""
    cut = Tokenizer.from_str(CUT["byte-level", KEPT["byte-level"].sizes[0]].json)
    assert cut.get_added_tokens_decoder().keys() == {0, *(cut.token_to_id(t) for t in ("<end>", "zebra crossing"))}
    assert {cut.id_to_token(i) for i in range(259)} >= set(pre_tokenizers.ByteLevel.alphabet())
    assert "zebra crossing" in cut.encode("a zebra crossing").tokens
    assert cut.padding is not None
    assert cut.encode("a").ids[0] == cut.token_to_id("<end>") == cut.padding["pad_id"]


def test_ordinary_tokens_that_padding_names_stay() -> None:
    data = json.loads(KINDS["byte-level"].json)
    rarest = KEPT["byte-level"].tokens[-1]
    whole = of(Tokenizer.from_str(json.dumps({**data, "padding": {**data["padding"], "pad_id": rarest}})))
    kept = choose_tokens(whole, TEXTS, (KEPT["byte-level"].sizes[0],), "here")
    cut = json.loads(cut_tokenizer(whole, kept.tokens[: kept.sizes[0]]).json)
    assert kept.tokens[cut["padding"]["pad_id"]] == rarest
    data["padding"]["pad_id"] = 10**6
    with pytest.raises(DataError, match="names the token 1000000, which it lacks"):
        choose_tokens(of(Tokenizer.from_str(json.dumps(data))), TEXTS, (0.9,), "here")


def tiny() -> DocumentTokenizer:
    """All bytes, and the tokens ab, abc, cd and bc, in this order of merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("ab", "c"), ("c", "d"), ("b", "c")]
    words = [SEPARATOR, *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([SEPARATOR])
    return of(tokenizer)


def test_tokens_are_chosen_by_counts() -> None:
    """By hand. Of the text, ab is used once, abc 3 times, cd twice, bc never. bc goes first; cd, with 2 uses, before abc, of
    which ab is a part; then abc, whose uses make those of ab 4."""
    whole = tiny()
    text = "ab abc abc abc cd cd" + " " * 300
    ab, abc, cd, bc = range(257, 261)
    kept = choose_tokens(whole, [text], (259, 260), "here")
    assert kept.tokens[257:] == (ab, abc, cd)
    assert choose_tokens(whole, [text], (1.0,), "here").tokens[257:] == (ab, abc, cd, bc)
    # With cd gone, "abcd" is abc and d as before, and "cd" is c and d, both in place of it.
    tokenizers = [cut_tokenizer(whole, kept.tokens[:size]) for size in kept.sizes]
    effect = cut_vocabulary(whole, kept, tokenizers, ["abcd", "cd", "xcd"], "here")
    assert (effect.tokens_whole, effect.tokens, effect.fallbacks) == (2 + 1 + 2, (2 + 2 + 3, 5), (4, 0))
    assert "vocabulary: 259 of 261 tokens; 2.3 tokens a text, 1.7 with all (+40.0%), 57.1% of" in effect.lines()[0]


def test_data_are_in_the_tokens_of_each_vocabulary(tmp_path: Path) -> None:
    """Their documents and bytes are those of the whole tokenizer; bytes and separators alone where no pair is kept."""
    (tmp_path / "text.txt").write_text("\n\n".join(dict.fromkeys(filter(str.strip, TEXTS))), encoding="utf-8")
    whole = DocumentTokenizer.train(TEXTS, vocabulary=400)
    (tmp_path / "tokenizer.json").write_text(whole.json, encoding="utf-8")
    base: dict[str, Any] = {"tokenizer": tmp_path / "tokenizer.json", "block": 32}
    before = load_data("text", path=tmp_path / "text.txt", options=DocumentOptions(**base))
    data = load_data("text", path=tmp_path / "text.txt", options=DocumentOptions(**base, kept=(257, 0.8)))
    assert data.vocabulary is not None
    assert data.vocabulary.kept.sizes == (257, 320)
    smallest = load_data("text", path=tmp_path / "text.txt", options=DocumentOptions(**base, kept=(257,)))
    assert (data.blocks.vocabulary, smallest.blocks.vocabulary) == (320, 257)
    for part in ("train", "validation", "test"):
        sums = [sizes_of(getattr(each, part).labels) for each in (before, data, smallest)]
        assert sums[0] == sums[1] == sums[2]
    n_tokens = int((smallest.validation.labels[..., 1] >= 0).sum())
    assert n_tokens == sum(sizes_of(before.validation.labels).values()) + len(sizes_of(before.validation.labels))
    again = load_data("text", path=tmp_path / "text.txt", options=DocumentOptions(**base, kept=data.vocabulary.kept))
    assert again.train.digest == data.train.digest
    assert again.vocabulary == data.vocabulary


def sizes_of(labels: Any) -> dict[int, int]:
    """The bytes of each document of a part, counted over its blocks."""
    sizes: Counter[int] = Counter()
    for document_number, size in labels[..., 1:3].reshape(-1, 2).tolist():
        if document_number >= 0:
            sizes[document_number] += size
    return dict(sizes)


def test_bad_vocabularies_are_rejected() -> None:
    whole = tiny()
    for vocabulary, expected in ((262, r"262; expected 257 .* to 261"), (0.01, r"0.01 is 3 tokens; expected 257")):
        with pytest.raises(DataError, match=expected):
            choose_tokens(whole, ["ab" * 200], (vocabulary,), "here")
    with pytest.raises(
        DataError, match=r"here: the training part has 2 tokens, too few to choose 3 for a vocabulary of 260"
    ):
        choose_tokens(whole, ["abab"], (260,), "here")
    data = json.loads(whole.json)
    word_piece = Tokenizer(models.WordPiece({SEPARATOR: 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(DataError, match="of the kind WordPiece, whose vocabulary cannot be cut; expected BPE"):
        choose_tokens(of(word_piece), ["ab"], (0.5,), "here")
    data["pre_tokenizer"] = {"type": "Whitespace"}
    with pytest.raises(DataError, match="no tokens for single bytes"):
        choose_tokens(of(Tokenizer.from_str(json.dumps(data))), ["ab"], (0.5,), "here")
    with pytest.raises(DataError, match="has no token 300"):
        cut_tokenizer(whole, [*range(257), 300])


def test_kept_tokens_are_read_as_written() -> None:
    kept = KEPT["byte-level"]
    assert KeptTokens.from_json(json.loads(json.dumps(kept.to_json()))) == kept
    damaged_values: list[Any] = [{"tokens": [1, 2], "sizes": [1]}, {"tokens": [1], "sizes": ["x"]}, {"sizes": [1]}, []]
    for damaged in damaged_values:
        with pytest.raises(CheckpointError, match="vocabulary is malformed"):
            KeptTokens.from_json(damaged)
