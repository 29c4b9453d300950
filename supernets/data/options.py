"""Options of images, of sentences and of rows of numbers, beside the name, path and split of their data set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from supernets.data.kept_tokens import KeptTokens
from supernets.data.labelled_examples import invalid_option

ENCODINGS = (
    "utf-8",
    "utf-16",
    "latin-1",
    "cp1250",
    "cp1251",
    "cp1252",
    "iso-8859-2",
    "iso-8859-15",
    "koi8-r",
    "shift_jis",
    "euc-jp",
    "euc-kr",
    "big5",
    "gb18030",
)
"""Encodings of text files. Python knows more, some of which do not encode text."""
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
"""Interpolations of Pillow, by its names."""
MAX_VOCABULARY = 100_000
MIN_VOCABULARY = 100
_BYTES = 257
"""Number of tokens of all bytes and of the separator of documents."""


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """Preprocessing of images.

    Attributes:
        image_size: pixels to resize to; None keeps the size that all images have.
        channels: 1 (grey) or 3 (colour); None keeps theirs.
        mean, std: Mean and deviation of each channel on the scale from 0 to 1, used to normalise images; None takes the
            training part's.
        skip_unreadable: leave out the files of an image folder or table that cannot be used, instead of an error that lists
            them.
        crop: the share of the resized side that is cut out of the centre of image files; None or 1 for the whole square.
        interpolation: Interpolation of image files, one of `INTERPOLATIONS`; None for bilinear.
        image_column, label_column: Columns of a table; None takes the column with a usual name.
        as_in_0_1: True to resize as version 0.1 did, see `Resizing`.
        labelled: False for the images of a folder without labels.
        examples: Maximum number of images without labels, spread over the folder; None for all.
        images: Folder of the images that the annotations of ``coco`` name; None for the folder of the annotations, or the
            folder ``images`` in it or beside it.

    Raises:
        DataError: a value is out of its range.
    """

    image_size: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    skip_unreadable: bool = False
    as_in_0_1: bool = False
    image_column: str | None = None
    label_column: str | None = None
    crop: float | None = None
    interpolation: str | None = None
    labelled: bool = True
    examples: int | None = None
    images: Path | None = None

    def __post_init__(self) -> None:
        if self.crop is not None and not 0 < self.crop <= 1:
            raise invalid_option(f"crop={self.crop}: expected a share above 0 and at most 1")
        if self.interpolation not in (None, *INTERPOLATIONS):
            raise invalid_option(f"interpolation={self.interpolation}: expected one of {', '.join(INTERPOLATIONS)}")
        if self.image_size is not None and self.image_size < 1:
            raise invalid_option(f"image_size={self.image_size}: expected a number of pixels, at least 1")
        if self.channels not in (None, 1, 3):
            raise invalid_option(f"channels={self.channels}: expected 1 (grey) or 3 (colour)")
        if (self.mean is None) != (self.std is None):
            raise invalid_option(f"mean={self.mean} and std={self.std}: expected both or neither")
        if self.mean is not None and self.std is not None:
            if not len(self.mean) == len(self.std) > 0 or not all(math.isfinite(x) for x in (*self.mean, *self.std)):
                raise invalid_option(
                    f"mean={self.mean} and std={self.std}: expected a finite number each for every channel"
                )
            if min(self.std) <= 0:
                raise invalid_option(f"std={self.std}: expected numbers above 0")


@dataclass(frozen=True, slots=True)
class RowOptions:
    """Options of a table of numbers.

    Attributes:
        label_column: None takes the column with a usual name.
    """

    label_column: str | None = None


@dataclass(frozen=True, slots=True)
class TextOptions:
    """Options of sentences: how they are read and tokenized.

    Attributes:
        tokenizer: a ``tokenizer.json``, or the folder of a pretrained model with one; None trains a small WordPiece
            tokenizer on the training part.
        max_tokens: Maximum number of tokens of a sentence, with those that the tokenizer adds; longer ones are cut.
        vocabulary: Maximum number of tokens of a trained tokenizer.
        text_column, label_column: Columns of a table; None takes the column with a usual name.
        encoding: Encoding of the files, one of `ENCODINGS`; ``utf-8`` may begin with a byte order mark.
        labelled: False for sentences without labels.
        examples: Maximum number of sentences without labels, spread over the files; None for all.

    Raises:
        DataError: a number is out of its range, or the encoding is unknown.
    """

    tokenizer: Path | None = None
    max_tokens: int = 128
    vocabulary: int = 8000
    text_column: str | None = None
    label_column: str | None = None
    encoding: str = "utf-8"
    labelled: bool = True
    examples: int | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise invalid_option(f"max_tokens={self.max_tokens}: expected a number of tokens, at least 1")
        _check_reading(self.vocabulary, self.encoding, min_vocabulary=MIN_VOCABULARY)
        if self.text_column is not None and self.text_column == self.label_column:
            raise invalid_option(f"text_column and label_column are both {self.text_column!r}; expected two columns")


@dataclass(frozen=True, slots=True)
class DocumentOptions:
    """Options of documents: how they are read, tokenized and packed for language models.

    Attributes:
        tokenizer: A tokenizer as in `TextOptions`; None trains one of pairs of bytes on the training part.
        separator: the token before and after each document; None takes the one that ends a text by the files of the tokenizer.
        block: Number of tokens of a block.
        vocabulary: Maximum number of tokens of a trained tokenizer.
        choices: File or folder of multiple-choice questions, which networks are scored on;
            see `supernets.data.multiple_choice`.
        documents: Unit of a document in plain files: the file, or its paragraphs, between empty lines; None takes the
            paragraphs of a single file, and else files.
        text_column: Column of a table; None takes the column with a usual name.
        source_column, target_column: Columns of a table of pairs, as `text_column`; each side has at most `block` tokens.
        encoding: Encoding of the files, as in `TextOptions`.
        kept: Vocabularies that are cut from the tokenizer's, see `supernets.data.vocabulary`: shares of its tokens (at most 1)
            or numbers of them, chosen by the training part; or the tokens that were chosen before. None for all tokens.

    Raises:
        DataError: a number is out of its range, or the encoding is unknown.
    """

    tokenizer: Path | None = None
    separator: str | None = None
    block: int = 128
    vocabulary: int = 4000
    choices: Path | None = None
    documents: Literal["files", "paragraphs"] | None = None
    text_column: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    encoding: str = "utf-8"
    kept: tuple[float, ...] | KeptTokens | None = None

    def __post_init__(self) -> None:
        if self.block < 2:
            raise invalid_option(f"max_tokens={self.block}: expected a block of at least 2 tokens")
        if self.documents not in (None, "files", "paragraphs"):
            raise invalid_option(f"documents={self.documents!r}: expected files or paragraphs")
        _check_reading(self.vocabulary, self.encoding, min_vocabulary=_BYTES)


def _check_reading(vocabulary: int, encoding: str, *, min_vocabulary: int) -> None:
    if not min_vocabulary <= vocabulary <= MAX_VOCABULARY:
        expected = f"expected a number of tokens from {min_vocabulary} to {MAX_VOCABULARY}"
        raise invalid_option(f"vocabulary={vocabulary}: {expected}")
    if encoding not in ENCODINGS:
        raise invalid_option(f"encoding={encoding!r}: expected one of {', '.join(ENCODINGS)}")
