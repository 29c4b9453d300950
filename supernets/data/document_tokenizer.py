"""Tokenizers of documents: those of a file, and ones that are trained on a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from supernets.data.options import DocumentOptions
from supernets.data.tokenizing import end_of_text, read_tokenizer, train_byte_pairs, unusable

if TYPE_CHECKING:  # an optional library, which is loaded where it is used
    from tokenizers import Tokenizer

SEPARATOR = "<|endoftext|>"
"""The separator of trained tokenizers."""
_USUAL_SEPARATORS = (SEPARATOR, "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[SEP]")
"""Separators of tokenizers of which no file names the token that ends a text."""


class DocumentTokenizer:
    """Turns documents into token ids; special tokens that are written in a document are tokenized like other words.

    Args:
        tokenizer: The tokenizer of Hugging Face's library; it is changed.
        where: Name of the tokenizer in errors.
        text: Its whole description, as a ``tokenizer.json`` has it.
        separator: the token that separates documents; None takes the one with a usual name.

    Raises:
        DataError: it has no such token.
    """

    def __init__(self, tokenizer: Tokenizer, *, where: str, text: str, separator: str | None) -> None:
        self._where, self.json = where, text
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        usual = _USUAL_SEPARATORS if separator is None else (separator,)
        number_by_token = {token: number for token in usual if (number := tokenizer.token_to_id(token)) is not None}
        if not number_by_token:
            raise unusable(
                f"{where}: has no token {' or '.join(usual)} to separate documents by; name one of its tokens in separator"
            )
        self.separator_token, self.separator = next(iter(number_by_token.items()))

    @classmethod
    def load(cls, path: Path, *, separator: str | None = None) -> DocumentTokenizer:
        """The tokenizer of a ``tokenizer.json``, of the folder that holds one, or of a GGUF file.

        Args:
            separator: None takes the token that ends a text by the files of the folder, or by the GGUF file; see `end_of_text`.

        Raises:
            DataError: it cannot be used.
        """
        tokenizer, file, text = read_tokenizer(path)
        return cls(tokenizer, where=str(file), text=text, separator=separator or end_of_text(file, tokenizer))

    @classmethod
    def train(cls, documents: Sequence[str], *, vocabulary: int, separator: str = SEPARATOR) -> DocumentTokenizer:
        """A tokenizer of pairs of bytes (BPE, as GPT-2's, arXiv 1508.07909) for these documents, which it can all restore.

        Args:
            vocabulary: Maximum number of tokens, at least 257: all bytes and the separator.
        """
        tokenizer = train_byte_pairs(documents, vocabulary=vocabulary, special=separator)
        return cls(tokenizer, where="the trained tokenizer", text=str(tokenizer.to_str()), separator=separator)

    @property
    def vocabulary(self) -> int:
        """One more than the largest id of a token, with added ones: the rows of a table of embeddings."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, document: str, name: str) -> tuple[list[int], list[int]]:
        """The ids of a document's tokens, and the bytes of text of each, whose sum may lack what no token has."""
        try:
            # One by one: the library's threads do not survive a fork, and would use cores that were not granted.
            encoding = self._tokenizer.encode(document, add_special_tokens=False)
        except Exception as error:  # the library raises no narrower one
            raise unusable(f"{name}: {self._where} cannot tokenize it ({error}); take another") from None
        ends = np.fromiter((end for _, end in encoding.offsets), dtype=np.int64, count=len(encoding.offsets))
        widths = np.array([len(character.encode()) for character in document], dtype=np.int64)
        up_to = np.concatenate([[0], np.cumsum(widths)])[np.maximum.accumulate(ends)] if len(ends) else ends
        return list(encoding.ids), np.diff(up_to, prepend=0).tolist()


def tokenizer_for(texts: Sequence[str], options: DocumentOptions) -> DocumentTokenizer:
    """The tokenizer of the options, or one that is trained on these texts; raises `DataError` if it cannot be used."""
    if options.tokenizer is not None:
        return DocumentTokenizer.load(options.tokenizer, separator=options.separator)
    separator = options.separator or SEPARATOR
    return DocumentTokenizer.train(texts, vocabulary=options.vocabulary, separator=separator)
