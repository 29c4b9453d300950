"""The tokens that are kept of a tokenizer, and the effect of that on texts, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supernets.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class KeptTokens:
    """The tokens that are kept of a tokenizer, for one vocabulary or several.

    Attributes:
        tokens: Their ids in the whole tokenizer, in the order of their ids in the one that is cut from it.
        sizes: Numbers of tokens of the vocabularies, in ascending order: each has the first ones; the last has all of `tokens`.
    """

    tokens: tuple[int, ...]
    sizes: tuple[int, ...]

    def to_json(self) -> dict[str, list[int]]:
        """Plain data that `from_json` reads."""
        return {"tokens": list(self.tokens), "sizes": list(self.sizes)}

    @classmethod
    def from_json(cls, data: Any) -> KeptTokens:
        """The value that `to_json` wrote; raises `CheckpointError` for other data."""
        try:
            tokens = cls(tuple(map(int, data["tokens"])), tuple(map(int, data["sizes"])))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the description of a vocabulary is malformed: {error!r}") from None
        if list(tokens.sizes) != sorted({*tokens.sizes, len(tokens.tokens)}) or min(tokens.tokens, default=-1) < 0:
            raise CheckpointError("the description of a vocabulary is malformed: its sizes are not those of its tokens")
        return tokens


@dataclass(frozen=True, slots=True)
class CutVocabulary:
    """The effect of a smaller vocabulary on the texts that a tokenizer encodes.

    Attributes:
        kept: Tokens that are kept.
        n_whole: Number of tokens of the whole tokenizer.
        n_texts: Number of texts of the validation part.
        tokens_whole: Number of tokens of these texts by the whole tokenizer.
        tokens: The same by each vocabulary of `kept`.
        fallbacks: How many of these stand where the whole tokenizer has a token that is lost, by vocabulary.
    """

    kept: KeptTokens
    n_whole: int
    n_texts: int
    tokens_whole: int
    tokens: tuple[int, ...]
    fallbacks: tuple[int, ...]

    def lines(self) -> list[str]:
        """One sentence for each vocabulary."""
        before = self.tokens_whole / max(1, self.n_texts)
        return [
            f"vocabulary: {size:,} of {self.n_whole:,} tokens; {after / max(1, self.n_texts):,.1f} tokens a text, "
            f"{before:,.1f} with all ({after / max(1, self.tokens_whole) - 1:+.1%}), {lost / max(1, after):.1%} of them in "
            "place of lost ones (validation)"
            for size, after, lost in zip(self.kept.sizes, self.tokens, self.fallbacks, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """The same as numbers."""
        return {
            "whole": self.n_whole,
            "texts": self.n_texts,
            "tokens_whole": self.tokens_whole,
            "options": [
                {"vocabulary": size, "tokens": after, "fallbacks": lost}
                for size, after, lost in zip(self.kept.sizes, self.tokens, self.fallbacks, strict=True)
            ],
        }
