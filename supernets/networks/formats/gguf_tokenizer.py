"""The tokenizer of a GGUF file, described as a ``tokenizer.json`` has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supernets.errors import ExportError
from supernets.networks.formats.gguf_file import open_gguf
from supernets.networks.formats.model_folder import unusable

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
"""Types of tokens, as llama.cpp numbers them."""
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _byte_level(*, words: bool) -> dict[str, Any]:
    """The step that writes bytes as characters; it also divides texts into `words`, as GPT-2's does."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": words}


def _divided(digits: str) -> list[dict[str, Any]]:
    """The steps of Llama 3 and Qwen2, which differ in the digits that are taken together."""
    pattern = {"Regex": f"{_CONTRACTIONS}|{_WORDS}|{digits}|{_OTHERS}"}
    return [
        {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False},
        _byte_level(words=False),
    ]


_GPT2, _LLAMA3, _QWEN2 = [_byte_level(words=True)], _divided(r"\p{N}{1,3}"), _divided(r"\p{N}")
_SINGLE_DIGITS = [{"type": "Digits", "individual_digits": True}, *_GPT2]
_STEPS: Mapping[str, list[dict[str, Any]]] = {
    **dict.fromkeys(("gpt-2", "olmo", "mpt", "phi-2", "jais"), _GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell", "command-r"), _SINGLE_DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _QWEN2),
}
"""How texts are divided before pairs are merged, by the names in ``tokenizer.ggml.pre``."""


def gguf_tokenizer(path: Path) -> str:
    """The tokenizer of a GGUF file as the text of a ``tokenizer.json``: of pairs of bytes (the kind ``gpt2``), divided as
    GPT-2, SmolLM, Llama 3 or Qwen2 do.

    Raises:
        CheckpointError: the file cannot be read, or its tokenizer is missing, damaged or of another kind.
    """
    fields = open_gguf(path).fields

    def own(key: str) -> Any:
        field = fields.get(f"tokenizer.ggml.{key}")
        return None if field is None else field.contents()

    kind, words, types = own("model"), own("tokens"), own("token_type")
    if kind != "gpt2":
        has = "has no tokenizer" if kind is None else f"its tokenizer is of the kind {kind!r}"
        raise unusable(f"{path}: {has}; expected 'gpt2' (pairs of bytes); {_INSTEAD}")
    if (division := own("pre")) not in _STEPS:
        how = "names no way to divide texts" if division is None else f"divides texts in the way {division!r}"
        raise unusable(f"{path}: its tokenizer {how}; expected one of {', '.join(_STEPS)}; {_INSTEAD}")
    merges = [pair.split(" ") for pair in own("merges") or ()]
    types = [_NORMAL] * len(words or ()) if types is None else types
    if not words or len(types) != len(words) or len(set(words)) != len(words) or any(len(pair) != 2 for pair in merges):
        raise unusable(f"{path}: its tokenizer is damaged; replace it with a whole copy")
    numbered = list(zip(range(len(words)), words, types, strict=True))
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                _added(i, word, special=type == _CONTROL)
                for i, word, type in numbered
                if type in (_CONTROL, _USER_DEFINED)
            ],
            "normalizer": {"type": "NFC"} if _STEPS[division] is _QWEN2 else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": _STEPS[division]},
            "post_processor": None,
            "decoder": _byte_level(words=True),
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": _STEPS[division] is _LLAMA3,
                "vocab": {word: i for i, word, type in numbered if type != _UNUSED},
                "merges": merges,
            },
        },
        ensure_ascii=False,
    )


@dataclass(frozen=True, slots=True)
class BytePairs:
    """A tokenizer of pairs of bytes as GGUF files have it.

    Attributes:
        division: The name of the way in which it divides texts.
        words: Its tokens by number.
        types: Their types.
        merges: Pairs of tokens that are merged, the first ones first.
    """

    division: str
    words: list[str]
    types: list[int]
    merges: list[str]


def byte_pairs_of(description: Mapping[str, Any], vocabulary: int) -> BytePairs:
    """The tokenizer that a ``tokenizer.json`` describes: the inverse of `gguf_tokenizer`.

    Args:
        description: Content of the file.
        vocabulary: Number of the network's tokens; those that the tokenizer lacks are unused.

    Raises:
        ExportError: it is not of pairs of bytes, or divides texts in a way that has no name here.
    """
    model, step = description["model"], description.get("pre_tokenizer") or {}
    steps = [_compared(part) for part in (step["pretokenizers"] if step.get("type") == "Sequence" else [step])]
    division = next((name for name, known in _STEPS.items() if [_compared(part) for part in known] == steps), None)
    if model["type"] != "BPE" or model.get("byte_fallback") or division is None:
        how = "divides texts in a way without a name" if model["type"] == "BPE" else f"is of the kind {model['type']}"
        expected = "expected one of pairs of bytes, as of GPT-2, SmolLM, Llama 3 or Qwen2"
        problem = f"the network's tokenizer {how} in GGUF files; {expected}"
        raise ExportError(f"{problem}; export the format transformers", code="export.no-such-architecture")
    words = {number: word for word, number in model["vocab"].items()}
    types = dict.fromkeys(words, _NORMAL)
    for token in description.get("added_tokens", ()):
        words[token["id"]] = token["content"]
        types[token["id"]] = _CONTROL if token["special"] else _USER_DEFINED
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    numbers = range(max(vocabulary, 1 + max(words)))
    return BytePairs(
        division,
        [words.get(number, f"[unused{number}]") for number in numbers],
        [types.get(number, _UNUSED) for number in numbers],
        merges,
    )


def _compared(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step of a tokenizer without what changes no token."""
    return {key: value for key, value in step.items() if key != "trim_offsets"}


_INSTEAD = "name another tokenizer, data.tokenizer in a job: the tokenizer.json of the network"


def _added(number: int, word: str, *, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": word, **flags, "special": special}
