"""Labelled examples as the files of a data set hold them, already divided into parts or not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernets.errors import DataError

invalid_option = partial(DataError, code="data.invalid-option")
malformed = partial(DataError, code="data.malformed-table")
misplaced = partial(DataError, code="data.layout")
missing = partial(DataError, code="data.missing")
too_large = partial(DataError, code="data.too-large")
unreadable = partial(DataError, code="data.unreadable")
wrong_kind = partial(DataError, code="data.wrong-kind")

OnProgress = Callable[[str, int, int], None]
"""Callback for progress: a phase, the number of examples that were read, and the number of all."""


def no_progress(phase: str, done: int, total: int) -> None:
    """An `OnProgress` that does nothing."""


PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""The parts by the names that files and folders may have."""
CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""Files that operating systems leave beside those of a data set, apart from hidden files."""


@dataclass(frozen=True, eq=False, slots=True)
class Examples:
    """Inputs with their labels.

    Attributes:
        inputs: images (n, c, h, w), uint8; or sentences (n,), texts as objects.
        labels: (n,), int64, of classes; else as `supernets.data.targets` has them.
        names: Name of each example, for errors; empty if the position is their only name.
        strata: (n,), int64: groups that parts hold in equal shares; None for the classes.
    """

    inputs: NDArray[Any]
    labels: NDArray[Any]
    names: tuple[str, ...] = ()
    strata: NDArray[np.int64] | None = None

    @property
    def groups(self) -> NDArray[np.int64]:
        """The group of each example that parts hold in equal shares, (n,)."""
        return self.labels if self.strata is None else self.strata

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The name of an example in errors."""
        return self.names[index] if self.names else f"example {index}"

    def digests(self) -> list[bytes]:
        """A digest of each example's input; equal inputs have equal digests."""
        if self.inputs.dtype == np.object_:
            rows = (text.encode() for text in self.inputs.tolist())
        else:
            rows = (memoryview(row).cast("B") for row in np.ascontiguousarray(self.inputs))
        return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]

    def take(self, indices: NDArray[np.int64]) -> Examples:
        """These examples, in this order."""
        names = tuple(self.names[i] for i in indices.tolist()) if self.names else ()
        strata = None if self.strata is None else self.strata[indices]
        return Examples(self.inputs[indices], self.labels[indices], names, strata)


@dataclass(frozen=True, eq=False, slots=True)
class Source:
    """A data set as its files have it.

    Attributes:
        where: the file, folder or name that errors point to.
        train: the examples to train on, from which the missing parts are taken.
        validation, test: None if the source has no such part.
        default_validation, default_test: default sizes of the parts taken from `train`, as a count or a share.
        levels: For images, the number of steps from black to white, see `ImageFormat`.
        noun: the word for an example in errors.
        skipped: names of files that cannot be used and were left out.
        targets: the kind of the labels, see `supernets.data.targets`.
    """

    where: str
    class_names: tuple[str, ...]
    train: Examples
    validation: Examples | None = None
    test: Examples | None = None
    default_validation: int | float = 0.2
    default_test: int | float = 0.2
    levels: int = 255
    noun: str = "image"
    skipped: tuple[str, ...] = ()
    targets: str = "classes"

    @property
    def of_text(self) -> bool:
        """True if its inputs are sentences, not images."""
        return self.train.inputs.dtype == np.object_

    @property
    def n_groups(self) -> int:
        """The number of groups of which each part has a share: the classes, where there are any."""
        return len(self.class_names) if self.train.strata is None else int(self.train.strata.max()) + 1


def check_characters(text: str, where: str) -> None:
    """Raises `DataError` where a text holds half of a surrogate pair, which JSON may escape and no encoding has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise malformed(f"{where} holds half of a character (a lone surrogate); correct it") from None


def listed(names: Sequence[str]) -> str:
    """The first five names, and the number of the others."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
