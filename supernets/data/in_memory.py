"""The value types of a data set in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from supernets.data.kept_tokens import CutVocabulary
from supernets.data.labelled_examples import listed, wrong_kind
from supernets.data.preprocessing import BlockFormat, Format, ImageFormat, RowFormat, TextFormat

FormatT = TypeVar("FormatT", ImageFormat, TextFormat, RowFormat, BlockFormat)
_DIGEST_CHARACTERS = 16
"""64 bits: enough to distinguish data sets by accident, not against forgery."""


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """Inputs with their labels; `Part.of` makes one.

    Attributes:
        inputs: images (n, c, h, w), float32, normalised; sentences (n, tokens), int64, padded at their ends; or blocks of text
            (n, block), int64. In an order that mixes the classes.
        labels: (n,), int64, for classes; else (n, ...), float32, as the data set's task takes them; for blocks see
            `supernets.data.document_blocks`.
        digest: the first 16 hex digits of the SHA-256 over the bytes of inputs, then labels, then the questions' digest.
        padding: the token that sentences are padded with; None for images and blocks.
        names: Name of each example, in the data set's files; empty where a caller has no use for them.
        questions: multiple-choice questions of the part, see `supernets.data.multiple_choice`; None for none.
    """

    inputs: Tensor
    labels: Tensor
    digest: str
    padding: int | None = None
    names: tuple[str, ...] = ()
    questions: Part | None = None

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        labels: Tensor,
        padding: int | None = None,
        *,
        names: tuple[str, ...] = (),
        questions: Part | None = None,
    ) -> Part:
        """The part of these inputs and labels, with its digest.

        Args:
            inputs: Images (n, c, h, w), sentences (n, tokens) or other examples (n, ...), on the CPU, because their bytes are
                hashed.
            labels: (n, ...), of the kind of the data set's task; on the CPU, too.
            padding: Token that sentences are padded with; None for images and blocks.
            names: Name of each example in the data set's files, n of them; empty for no names.
            questions: Multiple-choice questions of the part, whose digest is part of the digest; None for none.
        """
        hashed = hashlib.sha256()
        for tensor in (inputs, labels):
            hashed.update(tensor.reshape(-1).numpy().data)
        if questions is not None:
            hashed.update(questions.digest.encode())
        return cls(inputs, labels, hashed.hexdigest()[:_DIGEST_CHARACTERS], padding, names, questions)

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, size: int) -> tuple[Tensor, ...]:
        """The inputs in batches of a size, in order; views.

        Args:
            size: Number of examples of a batch, at least 1; the last batch may have fewer. Sentences are cut to the longest of
                their batch.
        """
        return tuple(trimmed(batch, self.padding) for batch in self.inputs.split(size))

    def lengths(self) -> Tensor:
        """Tokens of each sentence, (n,): up to the last that is no padding, at least 1; no images have any."""
        if self.padding is None:
            raise ValueError("images have no lengths")
        return lengths(self.inputs, self.padding)


def lengths(inputs: Tensor, padding: int) -> Tensor:
    """Tokens of each of some sentences (n, tokens) up to the last that is no padding, at least 1; (n,)."""
    is_token = (inputs != padding).long()
    return (is_token.shape[1] - is_token.flip(1).argmax(1)).where(is_token.any(1), 1)


def trimmed(inputs: Tensor, padding: int | None) -> Tensor:
    """Sentences without the columns at the end that are padding in all of them; images as they are."""
    return inputs if padding is None else inputs[:, : int(lengths(inputs, padding).max())]


@dataclass(frozen=True, eq=False, slots=True)
class DataSet:
    """Three parts that never mix: for training, for the search, and for the final front only.

    Attributes:
        name: Name of the data set, as in `load_data`, for messages and checkpoints.
        train: Part that the supernet is trained on; unless a preprocessing is given, it is fitted to this part.
        validation: Part by which a search compares networks.
        test: Part that only the networks of the final front are scored on.
        class_names: Names of the classes, or of the labels of which each example has a set; empty for numbers.
        format: Form of the examples and their preprocessing, which deployments repeat.
        skipped: names of files that cannot be used and were left out.
        targets: the kind of the labels: ``classes``, or another for which there is a task.
        vocabulary: the vocabulary that was cut from the tokenizer's, and what that does to the texts; None where it is whole.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...]
    format: Format
    skipped: tuple[str, ...] = ()
    targets: str = "classes"
    vocabulary: CutVocabulary | None = None

    @property
    def n_classes(self) -> int:
        """The number of classes; labels run from 0 to one below it."""
        return len(self.class_names)

    @property
    def warning(self) -> str:
        """One line on the files that were skipped, or the sentences that were cut; "" if there are none."""
        if self.skipped:
            n = len(self.skipped)
            subject = "1 file cannot be used and was" if n == 1 else f"{n:,} files cannot be used and were"
            return f"{subject} skipped: {listed(self.skipped)}"
        if not isinstance(self.format, TextFormat) or self.format.n_cut == 0:
            return ""
        n = sum(map(len, (self.train, self.validation, self.test)))
        fact = f"{self.format.n_cut:,} of {n:,} sentences are longer than {self.format.max_tokens} tokens and were cut"
        return f"{fact}; a larger data.max_tokens keeps more of them"

    @property
    def images(self) -> ImageFormat:
        """The format of its images; raises `DataError` if it is of others."""
        return self._format_of(ImageFormat, "images")

    @property
    def sentences(self) -> TextFormat:
        """The format of its sentences; raises `DataError` if it is of others."""
        return self._format_of(TextFormat, "sentences (text-classification)")

    @property
    def rows(self) -> RowFormat:
        """The format of its rows of numbers; raises `DataError` if it is of others."""
        return self._format_of(RowFormat, "rows of numbers (number-table)")

    @property
    def blocks(self) -> BlockFormat:
        """The format of its blocks of text; raises `DataError` if it is of others."""
        return self._format_of(BlockFormat, "text to model (text or text-pairs)")

    def _format_of(self, kind: type[FormatT], expected: str) -> FormatT:
        if isinstance(self.format, kind):
            return self.format
        raise wrong_kind(f"{self.name} is a data set of {self.format.noun}s; expected {expected}")


def head(part: Part, n: int) -> Part:
    """The first `n` examples of a part (all of a smaller one): always the same ones, with every class in its share.

    Args:
        part: Part whose examples are in an order that mixes the classes. The result lacks its questions if it is smaller.
        n: Number of examples, at least 1; at least those of the part returns the part itself.
    """
    return part if n >= len(part) else Part.of(part.inputs[:n], part.labels[:n], part.padding, names=part.names[:n])
