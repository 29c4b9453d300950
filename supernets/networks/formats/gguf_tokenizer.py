"""The tokenizer of a GGUF file, described as a ``tokenizer.json`` has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


_INSTEAD = "name another tokenizer, data.tokenizer in a job: the tokenizer.json of the network"


def _added(number: int, word: str, *, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": word, **flags, "special": special}
