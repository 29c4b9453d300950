"""The value types of a data set in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from torch import Tensor

_DIGEST_CHARACTERS = 16
"""64 bits: enough to tell data sets apart; this guards against mix-ups, not against forgers."""


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """Images with their labels; `Part.of` makes one.

    Attributes:
        images: (n, c, h, w), float32, normalised, in an order that mixes the classes.
        labels: (n,), int64.
        digest: the first 16 hex digits of the SHA-256 over the bytes of images, then labels.
    """

    images: Tensor
    labels: Tensor
    digest: str

    @classmethod
    def of(cls, images: Tensor, labels: Tensor) -> Part:
        """The part of these images and labels, with its digest."""
        hashed = hashlib.sha256()
        for tensor in (images, labels):
            hashed.update(tensor.reshape(-1).numpy().data)
        return cls(images, labels, hashed.hexdigest()[:_DIGEST_CHARACTERS])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, slots=True)
class DataSet:
    """Three parts that never mix: to train on, for all that a search sees, and for the final front only.

    Attributes:
        mean, std: of each channel of the training part's pixels on the scale from 0 to 1; images are
            ``(pixel - mean) / std``.
        image_size: height and width in pixels.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    channels: int

    @property
    def n_classes(self) -> int:
        """The number of classes; labels run from 0 to one below it."""
        return len(self.class_names)


def head(part: Part, n: int) -> Part:
    """The first `n` examples of a part (all of a smaller one): always the same, every class with its share."""
    return part if n >= len(part) else Part.of(part.images[:n], part.labels[:n])
