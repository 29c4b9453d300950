"""What a source of data gives, whatever its kind: labelled examples, divided by the source or not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Examples:
    """Inputs with their labels.

    Attributes:
        inputs: images (n, c, h, w), uint8; or sentences (n,), texts as objects.
        labels: (n,), int64.
        names: of each example, for errors; empty where they have none but their position.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """What to call an example in an error."""
        return self.names[index] if self.names else f"example {index}"

    def digests(self) -> list[bytes]:
        """Of each example's inputs: equal ones have equal digests."""
        if self.inputs.dtype == np.object_:
            rows = (text.encode() for text in self.inputs.tolist())
        else:
            rows = (memoryview(row).cast("B") for row in np.ascontiguousarray(self.inputs))
        return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]

    def take(self, indices: NDArray[np.int64]) -> Examples:
        """These examples, in this order."""
        names = tuple(self.names[i] for i in indices.tolist()) if self.names else ()
        return Examples(self.inputs[indices], self.labels[indices], names)


@dataclass(frozen=True, eq=False, slots=True)
class Source:
    """A data set as its files have it.

    Attributes:
        where: the file, folder or name that errors point to.
        train: the examples to train on, and to take from what the source does not set apart itself.
        validation, test: where the source has such a part of its own.
        default_validation, default_test: how much to take from `train` unless asked otherwise, as a count or a share.
        max_value: the inputs' value that stands for 1, of images.
        noun: what errors call an example.
    """

    where: str
    class_names: tuple[str, ...]
    train: Examples
    validation: Examples | None = None
    test: Examples | None = None
    default_validation: int | float = 0.2
    default_test: int | float = 0.2
    max_value: int = 255
    noun: str = "image"
