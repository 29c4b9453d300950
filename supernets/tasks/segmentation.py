"""Semantic segmentation: a class for each pixel, scored by the intersection over union of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from supernets.data import DataSet
from supernets.data.batching import Movements
from supernets.data.targets import IGNORED
from supernets.networks.capture.program import BATCH
from supernets.networks.family_program import View, ViewInput
from supernets.networks.network import viewed
from supernets.tasks.base import Metric, Score, Task
from supernets.tasks.divergence import Divergence, divergence
from supernets.tasks.illustration import Illustration, varied_examples

_CAPTURED_BATCH = 5
"""The batch size of captured inputs: no usual size of a layer."""
_ALIKE_PIXELS = 0.95
"""Share of the pixels of equal class from which on two class maps mean the same."""
_ROUNDED_PIXELS = 1e-3
"""Share of the pixels of an image whose classes may differ between runtimes, since roundings decide between equal logits."""
_PIXELS_AT_ONCE = 2**22
"""Pixels that are counted at once, to save memory."""
_SHOWN_IMAGES, _SHOWN_PIXELS = 6, 0.01
"""Images that are shown, and the share of an image's pixels from which on it shows a class."""
_Floats = NDArray[np.float64]


class Segmentation(Task):
    """Cross-entropy of pixels, and the mean intersection over union of classes.

    Outputs in training are logits (n, classes, h, w); the outputs that are scored are class maps (n, h, w), uint8, of the same
    network with its argmax. Targets are masks (n, h, w), uint8, in which pixels of `supernets.data.targets.IGNORED` count in
    no loss and no metric. The distance from a teacher is the mean divergence over pixels.

    Both metrics are ratios of sums over images, whose standard errors come from their influence functions. Classes that no
    mask shows are left out of the mean.

    Args:
        image: Channels and side of images; None before they are known.
    """

    name = "segmentation"
    metrics = (Metric("miou", "share"), Metric("pixel_accuracy", "share"))
    targets = "masks"
    decodes = True
    illustrates = True
    verbs = ("segments", "segmented")

    def __init__(self, image: tuple[int, int] | None = None) -> None:
        self._image = image

    def for_data(self, data: DataSet) -> Self:
        return type(self)((data.images.channels, data.images.image_size))

    def metric_problem(self, metric: str, data: DataSet) -> str | None:
        for name, part in (("validation", data.validation), ("test", data.test)):
            if not (part.labels != IGNORED).any():
                return f"needs pixels with classes, and all of the {name} part's masks are ignored ({IGNORED})"
        return None

    def n_outputs(self, data: DataSet) -> int:
        return data.n_classes

    def augmented(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator, *, flip: bool, pad: int
    ) -> tuple[Tensor, Tensor]:
        """Images and masks with the same changes; pixels that a shift uncovers are ignored."""
        movements = Movements.draw(len(inputs), generator, flip=flip, pad=pad)
        moved = movements.moved(targets[:, None])[:, 0]
        covered = [
            (source >= 0) & (source < size)
            for size, shift in zip(targets.shape[1:], (movements.down, movements.right), strict=True)
            for source in [torch.arange(size) - shift[:, None]]
        ]
        moved[~(covered[0][:, :, None] & covered[1][:, None, :])] = IGNORED
        return movements.moved(inputs), moved

    def scored(self, network: nn.Module) -> nn.Module:
        module = ClassMapNetwork(network).train(network.training)
        return viewed(module, network, self._view())

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        pixels = functional.cross_entropy(outputs, targets.long(), reduction="none", ignore_index=IGNORED)
        return pixels.flatten(1).sum(1) / (targets != IGNORED).flatten(1).sum(1).clamp(min=1)

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        return _divergence(divergence, *(logits.movedim(1, -1).flatten(0, -2) for logits in (outputs, teacher)))

    def score(self, metric: str, outputs: NDArray[Any], targets: NDArray[Any]) -> Score:
        overlap = ClassOverlap.measure(outputs, targets)
        if metric == "pixel_accuracy":
            shared, total = overlap.shared.sum(axis=1, keepdims=True), overlap.labelled.sum(axis=1, keepdims=True)
        else:
            is_shown = overlap.labelled.any(axis=0)
            shared, total = overlap.shared[:, is_shown], overlap.union[:, is_shown]
        return _ratio_score(shared, total)

    def alike(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Images in which at least 95 % of the pixels have the same class."""
        return np.asarray(_share_of_equal_pixels(first, second) >= _ALIKE_PIXELS, dtype=np.bool_)

    def aligned(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class maps of images of which at most one pixel in 1,000 differs are the reference's."""
        is_rounded = _share_of_equal_pixels(outputs, reference) >= 1 - _ROUNDED_PIXELS
        return np.where(is_rounded[:, None, None], reference, outputs)

    def illustrated(self, outputs: NDArray[Any], targets: NDArray[Any], n_classes: int) -> Illustration:
        """Class maps of six images, and the table ``confusion`` of `confusion_of_classes`."""
        counts = np.stack([np.bincount(mask.ravel(), minlength=IGNORED + 1)[:n_classes] for mask in targets])
        examples = varied_examples(counts >= _SHOWN_PIXELS * targets[0].size, _SHOWN_IMAGES)
        maps = outputs[examples].astype(np.uint8)
        return Illustration(examples, maps, {"confusion": confusion_of_classes(outputs, targets, n_classes)})

    def described(self, data: DataSet) -> Mapping[str, Any]:
        return {
            "kind": "class map",
            "value": "the position of each pixel's class in the list of classes, uint8 (batch, row, column)",
            "unit": "pixels of the network's input, after the letterbox",
        }

    def _view(self) -> View:
        channels, side = self._image or (0, 0)
        example = torch.zeros(_CAPTURED_BATCH, channels, side, side)
        return View("class-map", ClassMapNetwork, lambda network: [ViewInput(example, (BATCH, "", "", ""))])


class ClassMapNetwork(nn.Module):
    """The class maps of a network: images (n, c, h, w) -> (n, h, w), uint8, of its logits (n, classes, h, w).

    Args:
        network: Network with logits as output; at most 255 classes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits.argmax(1).to(torch.uint8)


@dataclass(frozen=True, eq=False, slots=True)
class ClassOverlap:
    """Pixels of each class in each image, (n, classes) each, without ignored ones.

    Attributes:
        shared: Pixels that have the class in both the mask and the class map.
        labelled: Pixels that have it in the mask.
        predicted: Pixels that have it in the class map.
    """

    shared: _Floats
    labelled: _Floats
    predicted: _Floats

    @classmethod
    def measure(cls, outputs: NDArray[Any], targets: NDArray[Any], n_classes: int | None = None) -> ClassOverlap:
        """The pixels of class maps and masks.

        Args:
            outputs: (n, h, w), class maps.
            targets: (n, h, w), masks.
            n_classes: Number of classes; None for the largest one in both, plus 1.
        """
        if n_classes is None:
            n_classes = 1 + max(
                int(outputs.max(initial=0)), int(np.where(targets == IGNORED, 0, targets).max(initial=0))
            )
        counts = np.concatenate(list(_confusions(outputs, targets, n_classes))).astype(np.float64)
        return cls(counts.diagonal(axis1=1, axis2=2), counts.sum(axis=2), counts.sum(axis=1))

    @property
    def union(self) -> _Floats:
        """Pixels that have the class in the mask or in the class map."""
        union: _Floats = self.labelled + self.predicted - self.shared
        return union


def iou_by_class(outputs: NDArray[Any], targets: NDArray[Any], n_classes: int) -> _Floats:
    """The intersection over union of each class, (classes,); NaN for classes that no mask shows.

    Args:
        outputs: (n, h, w), class maps.
        targets: (n, h, w), masks.
        n_classes: Number of classes.
    """
    overlap = ClassOverlap.measure(outputs, targets, n_classes)
    is_shown = overlap.labelled.any(axis=0)
    return np.where(is_shown, overlap.shared.sum(axis=0) / np.maximum(overlap.union.sum(axis=0), 1.0), np.nan)


def confusion_of_classes(outputs: NDArray[Any], targets: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """The numbers of pixels by the class in the mask (rows) and in the class map (columns), (classes, classes).

    Args:
        outputs: (n, h, w), class maps.
        targets: (n, h, w), masks.
        n_classes: Number of classes.
    """
    matrix: NDArray[np.int64] = sum(
        (counts.sum(axis=0) for counts in _confusions(outputs, targets, n_classes)),
        np.zeros((n_classes, n_classes), np.int64),
    )
    return matrix


def _confusions(outputs: NDArray[Any], targets: NDArray[Any], n_classes: int) -> Iterator[NDArray[np.int64]]:
    """The numbers of pixels by image, class in the mask and class in the class map, (images, classes, classes), of some images
    at once."""
    size = max(1, _PIXELS_AT_ONCE // max(1, targets[:1].size))
    for start in range(0, len(targets), size):
        masks, maps = targets[start : start + size], outputs[start : start + size]
        n, is_counted = len(masks), masks != IGNORED
        image = np.broadcast_to(np.arange(n).reshape(-1, 1, 1), masks.shape)[is_counted]
        cell = (image * n_classes + masks[is_counted]) * n_classes + maps[is_counted].astype(np.int64)
        yield np.bincount(cell, minlength=n * n_classes**2).reshape(n, n_classes, n_classes)


def _ratio_score(shared: _Floats, total: _Floats) -> Score:
    """The mean over columns of the ratio of sums over images, with its influence function.

    With the ratio r = sum of p / sum of w, an image's influence is n (p - r w) / sum of w. NaN without any pixel.

    Args:
        shared: (n, columns).
        total: (n, columns), of positive sums.
    """
    n, sums = len(shared), total.sum(axis=0)
    if not sums.size or not sums.all():
        return Score(float("nan"), float("nan"), np.full(n, np.nan))
    ratios = shared.sum(axis=0) / sums
    value = float(ratios.mean())
    return Score.of_share(value, value + n * ((shared - ratios * total) / sums).mean(axis=1))


def _share_of_equal_pixels(first: NDArray[Any], second: NDArray[Any]) -> _Floats:
    return np.asarray((first == second).reshape(len(first), -1).mean(axis=1))


_divergence = divergence
