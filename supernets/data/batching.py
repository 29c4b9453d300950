"""Batches of a part, and random changes to those that train."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from supernets.data.in_memory import Part, trimmed

_WINDOW = 50
"""Batches whose sentences are sorted by length together: long enough to save most of the padding, short enough to mix."""

_TYPICAL = 5
"""Batches of sentences that represent all lengths, or of images that show more and less."""


def batches(part: Part, batch_size: int, *, generator: torch.Generator | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs (n, ...) and labels (n,) of each batch, each example once; one batch may be smaller.

    Sentences of similar length share a batch, which is padded to its longest sentence.

    Args:
        generator: shuffles; None keeps the part's order and gives views. A shuffled batch of one example is left out
            (another example in each epoch), since batch norm learns nothing from it.
    """
    if generator is None:
        yield from zip(part.split(batch_size), part.labels.split(batch_size), strict=True)
        return
    for chosen in _shuffled(part, batch_size, generator):
        if len(chosen) > 1 or batch_size == 1:
            yield trimmed(part.inputs[chosen], part.padding), part.labels[chosen]


def _shuffled(part: Part, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """The indices of each batch, shuffled; sentences of similar length share a batch."""
    order = torch.randperm(len(part), generator=generator)
    if part.padding is None:
        return list(order.split(batch_size))
    lengths = part.lengths()
    index_batches: list[Tensor] = []
    for window in order.split(_WINDOW * batch_size):
        index_batches.extend(window[lengths[window].argsort(stable=True)].split(batch_size))
    return [index_batches[i] for i in torch.randperm(len(index_batches), generator=generator).tolist()]


def by_length(part: Part, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Indices (n,) and inputs (n, ...) of batches that hold each example once.

    Sentences are ordered by length, each batch padded to its longest, so that little is computed for padding; images keep the
    part's order.
    """
    images = part.padding is None  # views suffice for these
    order = torch.arange(len(part)) if images else part.lengths().argsort(stable=True)
    return [
        (chosen, part.inputs[chosen[0] : chosen[-1] + 1] if images else trimmed(part.inputs[chosen], part.padding))
        for chosen in order.split(batch_size)
    ]


def typical_batches(part: Part, size: int, *, tokens: int | None = None, several: bool = False) -> list[Tensor]:
    """Inputs (size, ...) that represent the requests of a deployment: one batch of images, or several batches where the cost
    of examples differs, as that of sentences does by their lengths.

    With a size of 1 the sentences are the odd deciles of the part's lengths; larger batches keep the part's order, each padded
    to its longest. Examples are repeated if there are too few.

    Args:
        size: Number of examples of a batch.
        tokens: Number of tokens of each sentence, in one batch; longer ones are cut, shorter ones repeated. None keeps their
            own lengths.
        several: True if the cost of images differs by what they show.
    """
    if part.padding is None:
        n = _TYPICAL if several else 1
        return list(part.inputs[torch.arange(n * size) % len(part)].split(size))
    if tokens is not None:
        sentences = [row[row != part.padding] for row in part.inputs[torch.arange(size) % len(part)]]
        return [torch.stack([row.repeat(-(-tokens // len(row)))[:tokens] for row in sentences])]
    if size == 1:
        deciles = [(2 * i + 1) * len(part) // (2 * _TYPICAL) for i in range(_TYPICAL)]
        chosen = part.lengths().argsort(stable=True)[torch.tensor(deciles)]
    else:
        chosen = torch.arange(_TYPICAL * size) % len(part)
    return [trimmed(part.inputs[indices], part.padding) for indices in chosen.split(size)]


@dataclass(frozen=True, slots=True)
class Movements:
    """Random changes of the images of a batch: mirrored, and then shifted.

    Attributes:
        down, right: (n,), int64, the pixels by which each is shifted.
        mirrored: (n,), bool, True where left and right are exchanged first.
    """

    down: Tensor
    right: Tensor
    mirrored: Tensor

    @classmethod
    def draw(cls, n: int, generator: torch.Generator, *, flip: bool, pad: int) -> Movements:
        """Shifts of up to `pad` pixels both ways and, with `flip`, mirrored with probability 1/2.

        Args:
            n: Number of images.
        """
        shifts = torch.randint(-pad, pad + 1, (2, n, 1), generator=generator)[..., 0]
        mirrored = torch.rand(n, 1, generator=generator)[:, 0] < 0.5 if flip else torch.zeros(n, dtype=torch.bool)
        return cls(-shifts[0], -shifts[1], mirrored)

    def moved(self, images: Tensor) -> Tensor:
        """The images (n, c, h, w) after the changes; uncovered pixels take the colour of the nearest pixel of the edge: in
        normalised images, zero is not the background."""
        n, c, h, w = images.shape
        rows = (torch.arange(h) - self.down[:, None]).clamp_(0, h - 1)
        columns = (torch.arange(w) - self.right[:, None]).clamp_(0, w - 1)
        columns = torch.where(self.mirrored[:, None], w - 1 - columns, columns)
        pixels = (rows[:, :, None] * w + columns[:, None, :]).reshape(n, 1, h * w)
        return images.reshape(n, c, h * w).gather(2, pixels.expand(n, c, h * w)).view(n, c, h, w)


def augment(images: Tensor, generator: torch.Generator, *, flip: bool, pad: int) -> Tensor:
    """The images (n, c, h, w) after random `Movements`; unchanged themselves."""
    return Movements.draw(len(images), generator, flip=flip, pad=pad).moved(images)
