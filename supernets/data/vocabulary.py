"""Cuts a tokenizer of byte pairs down to the tokens that texts use, so that it still encodes every text."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from supernets.data.kept_tokens import CutVocabulary, KeptTokens
from supernets.data.labelled_examples import invalid_option, malformed
from supernets.data.tokenizing import DocumentTokenizer, byte_characters, unusable

_AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")
_SPACE = "\u2581"
"""The character that stands for a space in tokenizers with ``byte_fallback``: its bytes would not be read as one."""


def choose_tokens(
    tokenizer: DocumentTokenizer, texts: Sequence[str], vocabularies: Sequence[float], where: str
) -> KeptTokens:
    """The tokens that texts use most, for vocabularies of these sizes.

    All bytes, special and added tokens are kept. Of the others, tokens that no kept token is merged from are removed one by
    one, always the one that the texts use least, whose uses then count for the two tokens that it is merged from: leaf-based
    pruning (Purason et al. 2025, arXiv 2512.03989; departures: counts of removed tokens are passed on, and among tokens of
    the same count the last one goes first, which the tokenizer's own training found to be the rarest).

    Args:
        tokenizer: Whole tokenizer.
        texts: Texts whose tokens are counted.
        vocabularies: Shares of the whole vocabulary (at most 1) or numbers of tokens (above 1).
        where: Name of the texts in errors.

    Raises:
        DataError: the tokenizer is not of byte pairs, has no such vocabulary, or the texts have too few tokens to choose by.
    """
    description = _Description(tokenizer.json, tokenizer.where)
    counts: Counter[int] = Counter()
    for number, text in enumerate(texts):
        counts.update(tokenizer.encode(text, f"{where}: document {number}")[0])
    sizes = tuple(sorted({description.size(vocabulary) for vocabulary in vocabularies}))
    if counts.total() < (chosen := sizes[-1] - len(description.always)) and sizes[-1] < len(description.token_by_id):
        raise malformed(
            f"{where}: the training part has {counts.total():,} tokens, too few to choose {chosen:,} for a vocabulary of "
            f"{sizes[-1]:,}; add text, or give a smaller supernet.space.vocabulary"
        )
    return KeptTokens(description.order(counts)[: sizes[-1]], sizes)


def cut_tokenizer(whole: DocumentTokenizer, tokens: Sequence[int]) -> DocumentTokenizer:
    """The tokenizer that has some of the tokens of another: a text without lost tokens is encoded in the same ones.

    Args:
        whole: Tokenizer that is cut.
        tokens: Ids of the kept tokens, as `choose_tokens` gives them, or the first ones of these.

    Raises:
        DataError: it has no such tokens.
    """
    return whole.described_by(cut_description(whole.json, tokens, where=whole.where))


def cut_description(text: str, tokens: Sequence[int], *, where: str) -> str:
    """The ``tokenizer.json`` of `cut_tokenizer`.

    Args:
        text: The ``tokenizer.json`` of the whole tokenizer.
        tokens: Ids of the kept tokens.
        where: Name of the whole one in errors.

    Raises:
        DataError: it has no such tokens.
    """
    return _Description(text, where).cut(tokens)


def cut_vocabulary(
    whole: DocumentTokenizer,
    kept: KeptTokens,
    tokenizers: Sequence[DocumentTokenizer],
    texts: Sequence[str],
    where: str,
) -> CutVocabulary:
    """The effect of vocabularies on texts.

    Args:
        whole: Whole tokenizer.
        kept: Tokens that are kept of it.
        tokenizers: Tokenizers that are cut from it, one for each size of `kept`.
        texts: Texts of the validation part.
        where: Name of the texts in errors.
    """
    n_before, after, lost = 0, [0] * len(tokenizers), [0] * len(tokenizers)
    for number, text in enumerate(texts):
        name = f"{where}: document {number}"
        before = whole.spans(text, name)
        n_before += before.total()
        for i, tokenizer in enumerate(tokenizers):
            spans = Counter(
                {(start, end, kept.tokens[id]): n for (start, end, id), n in tokenizer.spans(text, name).items()}
            )
            after[i] += spans.total()
            lost[i] += (spans - before).total()
    return CutVocabulary(kept, whole.n_tokens, len(texts), n_before, tuple(after), tuple(lost))


class _Description:
    """A ``tokenizer.json`` of byte pairs, read.

    Args:
        text: Content of the file.
        where: Its name in errors.

    Raises:
        DataError: its tokens are of another kind, or it has none for single bytes.
    """

    def __init__(self, text: str, where: str) -> None:
        self.where, self._data = where, json.loads(text)
        model = self._model = self._data["model"]
        if (kind := model.get("type", "BPE")) != "BPE" or any(model.get(key) for key in _AFFIXES):
            marked = "" if kind != "BPE" else " with marks at the ends of words"
            raise unusable(
                f"{where}: is a tokenizer of the kind {kind}{marked}, whose vocabulary cannot be cut; expected BPE without "
                "such marks; remove supernet.space.vocabulary"
            )
        self._id_by_token: dict[str, int] = model["vocab"]
        added = {entry["content"]: entry["id"] for entry in self._data.get("added_tokens") or ()}
        self.token_by_id = {number: token for token, number in {**self._id_by_token, **added}.items()}
        self._byte_tokens = self._tokens_of_bytes()
        named = [*_named_ids(self._data.get("post_processor")), *_ids_of_padding(self._data.get("padding"))]
        if missing := [number for number in named if number not in self.token_by_id]:
            raise unusable(
                f"{where}: its padding or post-processor names the token {missing[0]}, which it lacks; correct the file, or "
                "remove supernet.space.vocabulary"
            )
        always = {
            *named,
            *added.values(),
            *(self._id_by_token[token] for token in self._byte_tokens if token in self._id_by_token),
        }
        if (unknown := self._id_by_token.get(model.get("unk_token") or "")) is not None:
            always.add(unknown)
        self.always = dict.fromkeys(sorted(always))
        self._merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]

    def _tokens_of_bytes(self) -> list[str]:
        """The tokens of all bytes; raises `DataError` for a tokenizer without."""
        if self._model.get("byte_fallback"):
            return [_SPACE, *(f"<0x{byte:02X}>" for byte in range(256))]
        steps = _steps(self._data.get("pre_tokenizer"), "pretokenizers")
        if any(step.get("type") == "ByteLevel" for step in steps):
            return byte_characters()
        raise unusable(
            f"{self.where}: has no tokens for single bytes, so that a smaller vocabulary would lose text; expected a tokenizer "
            "of bytes, or with byte_fallback; remove supernet.space.vocabulary"
        )

    def size(self, vocabulary: float) -> int:
        """The number of tokens of a vocabulary, which is a share of the whole one or the number itself."""
        n_whole, n_always = len(self.token_by_id), len(self.always)
        size = round(vocabulary * n_whole) if vocabulary <= 1 else int(vocabulary)
        if not n_always <= size <= n_whole:
            raise invalid_option(
                f"supernet.space.vocabulary: {vocabulary:g}{f' is {size:,} tokens' if vocabulary <= 1 else ''}; expected "
                f"{n_always:,} (all bytes and special tokens) to {n_whole:,}, the tokens of {self.where}, or a share of them"
            )
        return size

    def order(self, counts: Mapping[int, int]) -> tuple[int, ...]:
        """All tokens, so that the first ones of any number, at least those of `always`, are the vocabulary of that size."""
        parts_by_id = self._parts()
        uses = Counter(counts)
        n_wholes = Counter(part for parts in parts_by_id.values() for part in set(parts))
        leaves, removed = [(uses[i], -i) for i in parts_by_id if not n_wholes[i]], list[int]()
        heapq.heapify(leaves)
        while leaves:
            n_uses, negative = heapq.heappop(leaves)
            removed.append(-negative)
            parts = parts_by_id[-negative]
            for part in parts:
                uses[part] += n_uses
            for part in set(parts):
                n_wholes[part] -= 1
                if not n_wholes[part] and part in parts_by_id:
                    heapq.heappush(leaves, (uses[part], -part))
        return (*self.always, *reversed(removed))

    def _parts(self) -> dict[int, tuple[int, ...]]:
        """The tokens that each token is merged from last, when its own text is encoded; several where it is not reached."""
        rank_by_pair = {pair: rank for rank, pair in enumerate(self._merges)}
        n_pairs = Counter("".join(pair) for pair in self._merges)
        pair_by_token = {"".join(pair): pair for pair in self._merges}
        parts_by_id = {}
        for number, token in self.token_by_id.items():
            if number in self.always:
                continue
            if n_pairs[token] == 1:
                parts: Iterable[str] = pair_by_token[token]
            elif len(token) > 1:
                parts = _last_parts(token, rank_by_pair)
            else:
                parts = [f"<0x{byte:02X}>" for byte in token.encode()] if self._model.get("byte_fallback") else ()
            parts_by_id[number] = tuple(self._id_by_token[part] for part in parts if part in self._id_by_token)
        return parts_by_id

    def cut(self, tokens: Sequence[int]) -> str:
        """The ``tokenizer.json`` of some of the tokens, by their new ids; see `cut_tokenizer`."""
        if missing := [number for number in tokens if number not in self.token_by_id]:
            raise unusable(
                f"{self.where}: has no token {missing[0]}, which is to be kept; give the tokenizer of the network"
            )
        new_id = {number: i for i, number in enumerate(tokens)}
        # Added tokens, too: the library numbers those that the model lacks itself, after all others.
        kept = {self.token_by_id[number]: i for i, number in enumerate(tokens)}
        merges = [
            written
            for written, pair in zip(self._model["merges"], self._merges, strict=True)
            if {*pair, "".join(pair)} <= kept.keys()
        ]
        padding = self._data.get("padding")
        description = {
            **self._data,
            "padding": padding and {**padding, "pad_id": new_id[padding["pad_id"]]},
            "added_tokens": [
                {**entry, "id": new_id[entry["id"]]}
                for entry in sorted(self._data.get("added_tokens") or (), key=lambda entry: new_id[entry["id"]])
            ],
            "post_processor": _renumbered(self._data.get("post_processor"), new_id),
            "model": {**self._model, "vocab": kept, "merges": merges},
        }
        return json.dumps(description, ensure_ascii=False)


def _steps(step: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    """A step of a tokenizer, or those of a sequence."""
    if step is None:
        return []
    return [inner for part in step[key] for inner in _steps(part, key)] if step.get("type") == "Sequence" else [step]


def _last_parts(token: str, rank_by_pair: Mapping[tuple[str, ...], int]) -> list[str]:
    """The last two symbols before a token's characters are one, merged by rank; all that are left where they stay several."""
    symbols, parts = list(token), list[str]()
    while len(symbols) > 1:
        ranks = [(rank_by_pair[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in rank_by_pair]
        if not ranks:
            return symbols
        _, i = min(ranks)
        parts = symbols[i : i + 2]
        symbols[i : i + 2] = ["".join(parts)]
    return parts


def _ids_of_padding(padding: Mapping[str, Any] | None) -> list[int]:
    return [] if padding is None else [padding["pad_id"]]


def _named_ids(processor: Any) -> list[int]:
    """The ids of the special tokens that a post-processor adds."""
    if processor is None:
        return []
    ids = [processor[key][1] for key in ("sep", "cls") if key in processor]
    if processor.get("type") == "TemplateProcessing":
        ids += [number for entry in processor["special_tokens"].values() for number in entry["ids"]]
    return ids + [number for step in processor.get("processors") or () for number in _named_ids(step)]


def _renumbered(processor: Any, new_id: Mapping[int, int]) -> Any:
    """The step that adds special tokens, with their new ids."""
    if processor is None:
        return None
    changed = dict(processor)
    for key in ("sep", "cls"):  # of BertProcessing and RobertaProcessing: the token and its id
        if key in changed:
            changed[key] = [changed[key][0], new_id[changed[key][1]]]
    if changed.get("type") == "TemplateProcessing":
        changed["special_tokens"] = {
            token: {**entry, "ids": [new_id[number] for number in entry["ids"]]}
            for token, entry in changed["special_tokens"].items()
        }
    if changed.get("type") == "Sequence":
        changed["processors"] = [_renumbered(step, new_id) for step in changed["processors"]]
    return changed
