"""What a source of data gives, whatever its kind: labelled examples, divided by the source or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Examples:
    """Inputs with their labels.

    Attributes:
        inputs: (n, ...), uint8; for images (n, c, h, w).
        labels: (n,), int64.
        names: of each example, for errors; empty where they have none but their position.
    """

    inputs: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """What to call an example in an error."""
        return self.names[index] if self.names else f"example {index}"

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
        max_value: the inputs' value that stands for 1.
    """

    where: str
    class_names: tuple[str, ...]
    train: Examples
    validation: Examples | None = None
    test: Examples | None = None
    default_validation: int | float = 0.2
    default_test: int | float = 0.2
    max_value: int = 255
