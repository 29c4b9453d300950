"""Pictures of the predictions that a run keeps: images with boxes or coloured classes, as charts and as parts of pages."""

from __future__ import annotations

import io
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.engine.predictions import Predictions
from nas.results.plots.charts import Axis, Chart, Look, Outline, Panel, Picture, Series
from nas.results.plots.colours import Colour
from nas.results.plots.prediction_charts import LARGEST_NAME
from supernets.data.class_colours import colour_of

SHOWN_SCORE = 0.3
"""Detections of a lower score are not drawn."""
LABELS_NAME = "labels"
IGNORED = 255
_OPACITY = 0.55
"""Opacity of the colours of classes over an image."""
_INCHES, _INCHES_AROUND = 2.1, 1.1
_MAX_NAMES = 6
"""Classes that the text of a class map names."""


def pictures_chart(predictions: Predictions, network: int, name: str) -> Chart:
    """The images as columns, with rows for their labels, a network's predictions and those of the largest network.

    Args:
        predictions: Predictions of a run.
        network: Position of the network among them.
        name: Title of the network's row.
    """
    rows = _shown(predictions, network, name)
    panels = []
    for row, (title, place) in enumerate(rows.items()):
        for i in range(len(predictions.images)):
            x, y = Axis(is_hidden=True), Axis(title if i == 0 else "", is_empty=True)
            heading = predictions.names[i].rpartition("/")[2][-24:] if predictions.names and row == 0 else ""
            panels.append(Panel(x, y, [_picture(predictions, place, i)], title=heading))
    if predictions.kind == "masks":
        panels[0] = replace(
            panels[0], marks=[*panels[0].marks, *map(_legend_mark, _painted_classes(predictions, rows))]
        )
    n = len(predictions.images)
    size = (_INCHES * n + 0.5, _INCHES * len(rows) + _INCHES_AROUND)
    return Chart("Predictions", note_on(predictions), panels, size, n)


def note_on(predictions: Predictions) -> str:
    """The note on which images are shown, and which detections."""
    text = f"{len(predictions.images)} of {predictions.n_examples:,} validation images, chosen by their labels"
    return f"{text}; detections of a score of at least {SHOWN_SCORE:g}" if predictions.kind == "boxes" else text


def images_html(predictions: Predictions, addresses: Sequence[str] = ()) -> str:
    """A hidden part of a page with the images, which `pictures_html` refers to.

    Args:
        predictions: Predictions of a run.
        addresses: Address of each image; empty to have them in the page.
    """
    side = predictions.side
    sources = addresses or [f"data:image/jpeg;base64,{b64encode(image).decode()}" for image in predictions.images]
    images = "".join(
        f'<image id="example-{i}" width="{side}" height="{side}" href="{escape(source)}"/>'
        for i, source in enumerate(sources)
    )
    return f'<svg width="0" height="0" aria-hidden="true" focusable="false" class="sources"><defs>{images}</defs></svg>'


def pictures_html(predictions: Predictions, network: int, name: str) -> str:
    """A part of a page: each image with its labels, a network's predictions and the largest network's.

    The page has `images_html`, and the styles of ``.examples``.

    Args:
        predictions: Predictions of a run.
        network: Position of the network among them.
        name: The network in captions.
    """
    columns = _shown(predictions, network, name)
    groups = []
    for i in range(len(predictions.images)):
        title = predictions.names[i] if predictions.names else f"image {i + 1}"
        tiles = "".join(
            f"<figure>{_tile(predictions, place, i, f'{title}, {column}')}<figcaption>{escape(column)}</figcaption></figure>"
            for column, place in columns.items()
        )
        groups.append(f'<li><p class="file">{escape(title)}</p><div class="tiles">{tiles}</div></li>')
    return f'<ul class="examples">{"".join(groups)}</ul>{_legend(predictions, columns)}'


def words_of(predictions: Predictions, network: int | None, i: int) -> str:
    """The labels (None) or predictions of an image in words: ``2 shirt, 1 bag``, ``shirt 92 %``, or shares of
    pixels: ``shirt 12 %``."""
    if predictions.kind == "boxes":
        outlines = _outlines(predictions, network, i)
        if network is None:
            objects = Counter(outline.text for outline in outlines)
            return ", ".join(f"{n} {text}" for text, n in objects.most_common()) or "no object"
        return ", ".join(outline.text for outline in outlines) or "no object"
    classes = _map(predictions, network, i)
    shares = np.bincount(classes[classes != IGNORED], minlength=len(predictions.classes)) / classes.size
    most_first = [label for label in np.argsort(-shares, kind="stable") if shares[label] > 0]
    texts = [f"{predictions.classes[label]} {100 * shares[label]:.0f} %" for label in most_first[:_MAX_NAMES]]
    return ", ".join(texts) or "nothing labelled"


def _shown(predictions: Predictions, network: int, name: str) -> dict[str, int | None]:
    """What is shown of an image, by title: its labels (None), and the positions of the network and the largest one."""
    networks = {} if network == predictions.largest else {name: network}
    return {LABELS_NAME: None, **networks, LARGEST_NAME: predictions.largest}


def _picture(predictions: Predictions, network: int | None, i: int) -> Picture:
    with Image.open(io.BytesIO(predictions.images[i])) as image:
        pixels = np.asarray(image.convert("RGB").resize((predictions.side, predictions.side)))
    if predictions.kind == "boxes":
        return Picture(pixels, _outlines(predictions, network, i))
    colours, opacity = _painted(_map(predictions, network, i))
    return Picture((pixels * (1 - opacity) + colours * opacity).astype(np.uint8))


def _outlines(predictions: Predictions, network: int | None, i: int) -> list[Outline]:
    """The labelled boxes (None), or a network's detections that are drawn."""
    if network is None:
        rows = predictions.labels[i]
        boxes = [(row[1:5], int(row[0]), "") for row in rows[rows[:, 0] >= 0]]
    else:
        rows = predictions.outputs[network, i]
        boxes = [(row[:4], int(row[5]), f" {100 * row[4]:.0f} %") for row in rows[rows[:, 4] >= SHOWN_SCORE]]
    side, names = float(predictions.side), predictions.classes
    outlines = []
    for corners, label, score in boxes:
        left, top, right, bottom = np.clip(corners.astype(np.float64), 0.0, side).tolist()
        box = (left, top, max(left, right), max(top, bottom))
        outlines.append(Outline(box, colour_of(label), f"{names[label]}{score}"))
    return outlines


def _map(predictions: Predictions, network: int | None, i: int) -> NDArray[np.uint8]:
    """The mask (None) or a network's class map, (side, side); pixels that are ignored in the mask are in both."""
    mask: NDArray[np.uint8] = predictions.labels[i]
    if network is None:
        return mask
    return np.where(mask == IGNORED, IGNORED, predictions.outputs[network, i]).astype(np.uint8)


def _painted(classes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The colours of a class map, and their opacity: 0 for the first class, often the background, and for what is ignored."""
    table = np.array([colour_of(label) for label in range(256)], dtype=np.uint8)
    is_shown = (classes != 0) & (classes != IGNORED)
    return table[classes], np.where(is_shown, _OPACITY, 0.0)[..., None]


def _tile(predictions: Predictions, network: int | None, i: int, title: str) -> str:
    """An image with its labels or predictions as SVG."""
    side = predictions.side
    words = escape(f"{title}: {words_of(predictions, network, i)}")
    if predictions.kind == "boxes":
        drawn = "".join(_box(outline, side) for outline in reversed(_outlines(predictions, network, i)))
    else:
        colours, opacity = _painted(_map(predictions, network, i))
        layer = np.concatenate([colours, (255 * opacity).astype(np.uint8)], axis=2)
        drawn = f'<image width="{side}" height="{side}" href="data:image/png;base64,{_png(layer)}"/>'
    return f'<svg viewBox="0 0 {side} {side}" role="img" aria-label="{words}"><use href="#example-{i}"/>{drawn}</svg>'


def _box(outline: Outline, side: int) -> str:
    left, top, right, bottom = (round(corner, 1) for corner in outline.corners)
    size, text = side / 18, escape(outline.text)
    x, anchor = (right, ' text-anchor="end"') if left > 0.55 * side else (left, "")
    y = top - 0.25 * size if top > 1.2 * size else min(top + size, side)
    return (
        f'<g><title>{text}</title><rect x="{left}" y="{top}" width="{round(right - left, 1)}" '
        f'height="{round(bottom - top, 1)}" stroke="#{bytes(outline.colour).hex()}"/>'
        f'<text x="{x}" y="{y:.1f}" font-size="{size:.1f}"{anchor}>{text}</text></g>'
    )


def _png(layer: NDArray[np.uint8]) -> str:
    """An RGBA image (height, width, 4) of few colours as a PNG file in base64."""
    colours, indices = np.unique(layer.reshape(-1, 4), axis=0, return_inverse=True)
    image = Image.fromarray(indices.reshape(layer.shape[:2]).astype(np.uint8), "P")
    image.putpalette(colours[:, :3].tobytes(), "RGB")
    file = io.BytesIO()
    image.save(file, "png", optimize=True, transparency=colours[:, 3].astype(np.uint8).tobytes())
    return b64encode(file.getvalue()).decode()


def _legend(predictions: Predictions, columns: Mapping[str, int | None]) -> str:
    """The colours of the classes that are painted; boxes have texts instead."""
    if predictions.kind == "boxes":
        return ""
    items = []
    for label, name in _painted_classes(predictions, columns):
        rect = f'<rect width="16" height="16" fill="{_hex(label)}"/>'
        items.append(f'<li><svg viewBox="0 0 16 16" aria-hidden="true">{rect}</svg>{escape(name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _legend_mark(painted: tuple[int, str]) -> Series:
    """A mark that is nowhere but in the legend."""
    label, name = painted
    look = Look(Colour(_hex(label), _hex(label)), "square", size=11)
    return Series(name, np.array([np.nan]), np.array([np.nan]), look)


def _painted_classes(predictions: Predictions, places: Mapping[str, int | None]) -> list[tuple[int, str]]:
    """The classes that are painted in some of the pictures, with their names."""
    maps = [_map(predictions, place, i) for place in places.values() for i in range(len(predictions.images))]
    labels = np.unique(np.stack(maps))
    return [(label, predictions.classes[label]) for label in labels[(labels != 0) & (labels != IGNORED)].tolist()]


def _hex(label: int) -> str:
    return f"#{bytes(colour_of(label)).hex()}"
