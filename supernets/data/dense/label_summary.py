"""Counts of the boxes or pixels of each class in a data set, and of the sizes of objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from supernets.data.in_memory import DataSet
from supernets.data.labelled_examples import listed
from supernets.data.targets import BOXES, IGNORED, MASKS, present_classes

_SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
"""Smallest area of COCO's sizes and the area from which the next one begins, in pixels of the original image."""
_MAX_ROWS = 20
_AREA, _CROWD = 5, 6
"""Columns of boxes."""


@dataclass(frozen=True, slots=True)
class ClassCount:
    """How often a class is in a data set.

    Attributes:
        count: Number of its boxes, or of its pixels in letterboxed images.
        images: Number of images that have it, by part.
    """

    name: str
    count: int
    images: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """The contents of a data set of boxes or masks.

    Attributes:
        targets: ``boxes`` or ``masks``.
        classes: All classes, in their order.
        images: Number of images, by part.
        n_empty: Number of images without a box, or without a pixel that counts.
        sizes: Number of boxes by size (small, medium, large, by COCO's areas in the original image); empty for masks.
        n_crowd: Number of boxes that count for nobody, which are not among the others; 0 for masks.
        max_boxes: Largest number of boxes of an image; 0 for masks.
        ignored_pixels: Number of pixels of masks that count for nobody, with those of the letterbox; 0 for boxes.
    """

    targets: str
    classes: tuple[ClassCount, ...]
    images: Mapping[str, int]
    n_empty: int
    sizes: Mapping[str, int]
    n_crowd: int = 0
    max_boxes: int = 0
    ignored_pixels: int = 0

    @property
    def n_labels(self) -> int:
        """Number of boxes, or of pixels that count."""
        return sum(row.count for row in self.classes)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of a table, the most frequent classes first; at most 20 of them."""
        noun = "boxes" if self.targets == BOXES else "pixels"
        rows = [
            [row.name, self._amount(row.count), *(f"{row.images[part]:,}" for part in self.images)]
            for row in sorted(self.classes, key=lambda row: -row.count)[:_MAX_ROWS]
        ]
        return ["class", noun, *(f"{part} images" for part in self.images)], rows

    def lines(self) -> list[str]:
        """Sentences on the sizes of boxes, images without objects, and classes that a part lacks."""
        lines = []
        if (n_others := len(self.classes) - _MAX_ROWS) > 0:
            lines.append(f"and {n_others} less frequent classes")
        n_images = sum(self.images.values())
        if self.targets == BOXES:
            total = max(1, self.n_labels)
            sizes = ", ".join(f"{n / total:.0%} {size}" for size, n in self.sizes.items())
            crowds = f", and {self.n_crowd:,} that count for nobody" if self.n_crowd else ""
            lines.append(f"boxes: {self.n_labels:,} ({sizes}), at most {self.max_boxes} an image{crowds}")
            lines.append(f"images without a box: {self.n_empty:,} of {n_images:,} ({self.n_empty / n_images:.1%})")
        else:
            share = self.ignored_pixels / max(1, self.ignored_pixels + self.n_labels)
            lines.append(f"ignored pixels: {share:.1%}, with the margins of images that are not square")
        absent = {part: [row.name for row in self.classes if not row.images[part]] for part in self.images}
        return lines + [f"warning: no {part} image has {listed(names)}" for part, names in absent.items() if names]

    def to_json(self) -> dict[str, Any]:
        """The fields, JSON-able."""
        return asdict(self)

    def _amount(self, count: int) -> str:
        return f"{count:,}" if self.targets == BOXES else f"{count / max(1, self.n_labels):.2%}"


def label_summary(data: DataSet) -> LabelSummary | None:
    """The summary of a data set's boxes or masks in all parts; None for labels of other kinds."""
    if data.targets not in (BOXES, MASKS):
        return None
    n_classes = data.n_classes
    counts = np.zeros(n_classes, dtype=np.int64)
    images: dict[str, list[int]] = {}
    sizes = dict.fromkeys(_SIZES if data.targets == BOXES else (), 0)
    n_empty = n_crowd = max_boxes = ignored_pixels = 0
    for part in ("train", "validation", "test"):
        labels = getattr(data, part).labels.numpy()
        images[part] = present_classes(labels, n_classes).sum(axis=0).tolist()
        if data.targets == MASKS:
            pixels = np.stack([np.bincount(mask.reshape(-1), minlength=IGNORED + 1) for mask in labels])
            counts += pixels.sum(axis=0)[:n_classes]
            ignored_pixels += int(pixels[:, IGNORED].sum())
            n_empty += int((pixels[:, :IGNORED].sum(axis=1) == 0).sum())
            continue
        is_box = labels[:, :, 0] >= 0
        is_object = is_box & (labels[:, :, _CROWD] == 0)
        counts += np.bincount(labels[:, :, 0][is_object].astype(np.int64), minlength=n_classes)
        areas = labels[:, :, _AREA][is_object]
        for size, (low, high) in _SIZES.items():
            sizes[size] += int(((areas >= low) & (areas < high)).sum())
        n_empty += int((~is_box.any(axis=1)).sum())
        n_crowd += int((is_box & ~is_object).sum())
        max_boxes = max(max_boxes, int(is_box.sum(axis=1).max()))
    rows = tuple(
        ClassCount(name, int(counts[i]), {part: of_part[i] for part, of_part in images.items()})
        for i, name in enumerate(data.class_names)
    )
    n_images = {part: len(getattr(data, part)) for part in images}
    return LabelSummary(data.targets, rows, n_images, n_empty, sizes, n_crowd, max_boxes, ignored_pixels)
