"""Draws images with their boxes or masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from supernets.data.class_colours import colour_of
from supernets.data.in_memory import DataSet
from supernets.data.targets import BOXES, IGNORED, MASKS, present_classes

N_COLUMNS = 6
_TILE = 240
"""Side in pixels to which small images are enlarged."""
_MARGIN = 6
_LINE = 16
"""Height in pixels of a line of the legend."""


def contact_sheet(data: DataSet, *, n: int = 24) -> Image.Image | None:
    """Images of the training part with their labels, in rows of six, and the classes' colours below; None for other labels.

    The images are spread over the part, and each class that the part has is in one of them, if there is room.

    Args:
        data: Data set of boxes or masks.
        n: Maximum number of images, at least 1.
    """
    if data.targets not in (BOXES, MASKS):
        return None
    labels = data.train.labels.numpy()
    chosen = _chosen(present_classes(labels, data.n_classes), n)
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (data.images.mean, data.images.std))
    tiles = []
    for i in chosen:
        pixels = np.rint((data.train.inputs[i].numpy() * std + mean) * 255).clip(0, 255).astype(np.uint8)
        tiles.append(labelled_picture(pixels, labels[i], data.class_names))
    side = tiles[0].width + _MARGIN
    n_rows = -(-len(tiles) // N_COLUMNS)
    shown = np.flatnonzero(present_classes(labels[chosen], data.n_classes).any(axis=0)).tolist()
    width = min(len(tiles), N_COLUMNS) * side + _MARGIN
    sheet = Image.new("RGB", (width, n_rows * side + _MARGIN), "white")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (_MARGIN + place % N_COLUMNS * side, _MARGIN + place // N_COLUMNS * side))
    return _with_legend(
        sheet, [(data.class_names[label], colour_of(label)) for label in shown if label or data.targets == BOXES]
    )


def labelled_picture(pixels: NDArray[np.uint8], labels: NDArray[Any], class_names: Sequence[str]) -> Image.Image:
    """An image with its boxes and their classes, or under the colours of its mask, enlarged to at least 240 pixels.

    Pixels of the first class of masks, often the background, are not painted, as in scripts of exports.

    Args:
        pixels: Bytes of the letterboxed image, (channels, side, side).
        labels: Boxes (boxes, 8), see `supernets.tasks.detection.boxes`; or a mask (side, side), uint8.
        class_names: Names of the classes.
    """
    side = pixels.shape[-1]
    scale = max(1, -(-_TILE // side))
    image = Image.fromarray(np.broadcast_to(pixels, (3, side, side)).transpose(1, 2, 0))
    if labels.dtype == np.uint8:
        table = np.array([colour_of(label) for label in range(IGNORED + 1)], dtype=np.uint8)
        is_painted = (labels > 0) & (labels != IGNORED)
        mixed = np.asarray(image) // 2 + table[labels] // 2
        image = Image.fromarray(np.where(is_painted[:, :, None], mixed, np.asarray(image)))
    image = image.resize((scale * side, scale * side), Image.Resampling.NEAREST)
    if labels.dtype == np.uint8:
        return image
    draw = ImageDraw.Draw(image)
    for row in labels[labels[:, 0] >= 0].tolist():
        label, is_crowd = int(row[0]), bool(row[6])
        x0, y0, x1, y1 = (scale * corner for corner in row[1:5])
        colour = colour_of(label)
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=1 if is_crowd else 2)
        text = class_names[label] + (" (ignored)" if is_crowd else "")
        left, top, right, bottom = draw.textbbox((x0 + 2, y0 + 1), text)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=colour)
        draw.text((x0 + 2, y0 + 1), text, fill="white")
    return image


def _chosen(has_class: NDArray[np.bool_], n: int) -> list[int]:
    """At most `n` images, in order: one of each class (n_images, classes), the rarest first, and others spread evenly."""
    chosen: dict[int, None] = {}
    for label in np.argsort(has_class.sum(axis=0), kind="stable").tolist():
        members = np.flatnonzero(has_class[:, label]).tolist()
        if members and len(chosen) < n and not chosen.keys() & set(members):
            chosen[members[0]] = None
    for i in range(0, len(has_class), -(-len(has_class) // n)):
        if len(chosen) < n:
            chosen[i] = None
    return sorted(chosen)


def _with_legend(sheet: Image.Image, entries: Sequence[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    """The sheet with a line of squares and names for as many classes as there is width for, below it."""
    draw = ImageDraw.Draw(sheet)
    places: list[tuple[int, int]] = []
    x, line = _MARGIN, 0
    for name, _ in entries:
        length = _LINE + round(draw.textlength(name)) + 2 * _MARGIN
        if x > _MARGIN and x + length > sheet.width:
            x, line = _MARGIN, line + 1
        places.append((x, sheet.height + line * _LINE))
        x += length
    out = Image.new("RGB", (sheet.width, sheet.height + (line + 1) * _LINE + _MARGIN), "white")
    out.paste(sheet)
    draw = ImageDraw.Draw(out)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        draw.rectangle((left, top + 2, left + _LINE - 6, top + _LINE - 4), fill=colour)
        draw.text((left + _LINE, top + 1), name, fill="black")
    return out
