"""Charts of the predictions that a run keeps: precision and recall, average precision, overlap and confusion of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.engine.predictions import Predictions
from nas.results.plots import colours
from nas.results.plots.charts import Array, Axis, Cells, Chart, Look, Mark, Panel, Series

LARGEST_NAME = "largest network"
TITLES = {
    "precision_recall": "Precision and recall",
    "ap_by_class": "Average precision by class (labelled boxes)",
    "ap_by_size": "Average precision by size (pixels of the original image)",
    "iou_by_class": "Intersection over union by class",
    "confusion": "Confusion of classes",
    "confusion_largest": "Confusion of classes, largest network",
}
"""Titles of the charts, by file name."""
MAX_CLASSES = 40
"""Rows of classes that are drawn at most: those with most labelled boxes or pixels."""
_CLASSES = "each class"
"""Begin of the name of the curves of single classes."""
_MAX_CURVES = 12
_MAX_CONFUSED = 30
_MAX_TEXTS = 14
"""Classes up to which cells have a text."""
_SIZES = ("all", "small, up to 32²", "medium, up to 96²", "large")
_OVERLAPS = (("0.50", "solid"), ("0.75", "dash"))
_NAME = 22
"""Characters of a class's name that are shown."""
_INCHES_A_ROW, _INCHES_AROUND = 0.27, 1.9


def prediction_charts(predictions: Predictions, network: int, name: str) -> dict[str, Chart]:
    """Charts of a network beside the largest one, by the names of `TITLES`.

    Args:
        predictions: Predictions of a run.
        network: Position of the network among them.
        name: The network in legends.
    """
    networks = {LARGEST_NAME: predictions.largest}
    if network != predictions.largest:
        networks[name] = network
    line = f"{predictions.n_examples:,} validation images"
    if predictions.kind == "boxes":
        panels = {
            "precision_recall": _precision_recall(predictions, networks),
            "ap_by_class": _average_precision_by_class(predictions, networks),
            "ap_by_size": _average_precision_by_size(predictions, networks),
        }
    else:
        panels = {
            "confusion": _confusion(predictions, network),
            "confusion_largest": _confusion(predictions, predictions.largest),
            "iou_by_class": _overlap_by_class(predictions, networks),
        }
    return {key: Chart(TITLES[key], line, [panel], _size(panel)) for key, panel in panels.items()}


def chart_words(chart: Chart) -> str:
    """The values of one of these charts in words, for readers who do not see it."""
    texts = []
    for mark in chart.panels[0].marks:
        if isinstance(mark, Series) and mark.texts:
            texts += [text for text, x in zip(mark.texts, mark.x, strict=True) if np.isfinite(x)]
        elif isinstance(mark, Series) and not mark.name.startswith(_CLASSES):
            texts.append(f"{mark.name}: area {np.mean(mark.y):.1f} %")
        elif isinstance(mark, Cells):
            names = chart.panels[0].y.labels
            for name, shares in zip(names, mark.shares, strict=True):
                first, second = np.argsort(-shares, kind="stable")[[0, -1 if len(shares) == 1 else 1]]
                shown = dict.fromkeys((first, second))
                texts.append(f"{name}: {', '.join(f'{100 * shares[i]:.0f} % as {names[i]}' for i in shown)}")
    return f"{chart.title}: {'; '.join(texts) or chart.panels[0].note}"


def overlap_by_class(confusion: NDArray[np.int64]) -> Array:
    """The intersection over union of each class by the pixels of labels (rows) and predictions (columns), (classes,); NaN for
    classes without labelled pixels."""
    shared, labelled, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    union = np.maximum(labelled + predicted - shared, 1)
    return np.where(labelled > 0, shared / union, np.nan)


def _size(panel: Panel) -> tuple[float, float]:
    rows = len(panel.y.labels)
    if panel.marks and isinstance(panel.marks[0], Cells):
        return 3.2 + 0.42 * rows, 2.4 + 0.36 * rows
    return 8.0, _INCHES_AROUND + _INCHES_A_ROW * rows if rows else 4.8


def _precision_recall(predictions: Predictions, networks: dict[str, int]) -> Panel:
    labelled, curves = predictions.tables["labelled"][0], 100 * predictions.tables["precision"].astype(np.float64)
    recall = np.linspace(0.0, 100.0, curves.shape[-1])
    present = np.flatnonzero(labelled)
    marks: list[Mark] = []
    for label in present[np.argsort(-labelled[present], kind="stable")][:_MAX_CURVES]:
        look = Look(colours.MEASURED, line="solid", width=1, opacity=0.6)
        hover = f"{predictions.classes[label]}: precision {{y:.0f}} % at recall {{x:.0f}} %"
        curve = curves[networks[list(networks)[-1]], 0, label]
        marks.append(Series(f"{_CLASSES}, {list(networks)[-1]}", recall, curve, look, hover=hover))
    for name, colour in zip(networks, (colours.LARGEST, colours.FRONT), strict=False):
        for i, (overlap, line) in enumerate(_OVERLAPS):
            look = Look(colour, line="solid" if line == "solid" else "dash", width=2.4)
            hover = f"{name}, overlap {overlap}: precision {{y:.0f}} % at recall {{x:.0f}} %"
            mean = curves[networks[name], i, present].mean(axis=0) if len(present) else np.full(len(recall), np.nan)
            marks.append(Series(f"{name}, overlap {overlap}", recall, mean, look, hover=hover))
    x, y = Axis("Recall (%)", range=(0.0, 100.0)), Axis("Precision (%), mean over classes", range=(0.0, 103.0))
    return Panel(x, y, marks, note="" if len(present) else "no labelled boxes")


def _average_precision_by_class(predictions: Predictions, networks: dict[str, int]) -> Panel:
    labelled, values = predictions.tables["labelled"][0], predictions.tables["average_precision"][:, 0]
    chosen = _most_labelled(labelled, MAX_CLASSES)
    rows = [f"{_short(predictions.classes[i])} ({labelled[i]:,})" for i in chosen]
    x = _share_axis("Average precision (%)", values[:, chosen])
    return _rows(x, rows, {name: values[place, chosen] for name, place in networks.items()})


def _average_precision_by_size(predictions: Predictions, networks: dict[str, int]) -> Panel:
    values = predictions.tables["average_precision"]
    is_defined = ~np.isnan(values[0]).all(axis=1)
    rows = [size if defined else f"{size} (no boxes)" for size, defined in zip(_SIZES, is_defined, strict=True)]
    means = np.full(values.shape[:2], np.nan)
    means[:, is_defined] = np.nanmean(values[:, is_defined], axis=2)
    x = _share_axis("Average precision (%)", means)
    return _rows(x, rows, {name: means[place] for name, place in networks.items()})


def _overlap_by_class(predictions: Predictions, networks: dict[str, int]) -> Panel:
    confusions = predictions.tables["confusion"]
    chosen = _most_labelled(confusions[0].sum(axis=1), MAX_CLASSES)
    values = np.stack([overlap_by_class(confusion)[chosen] for confusion in confusions])
    rows = [_short(predictions.classes[i]) for i in chosen]
    x = _share_axis("Intersection over union (%)", values)
    return _rows(x, rows, {name: values[place] for name, place in networks.items()})


def _share_axis(title: str, shares: Array) -> Axis:
    """An axis from 0 to the largest share of any network, in per cent; it stays when another network is shown."""
    return Axis(title, range=(0.0, 106 * max(float(np.nanmax(shares, initial=0.0)), 0.001)))


def _rows(x: Axis, rows: Sequence[str], values: dict[str, Array]) -> Panel:
    """A row of points for each label, the largest network's best at the top; `values` are shares (rows,) by network."""
    looks = (Look(colours.LARGEST, "diamond", size=10, hollow=True), Look(colours.FRONT, "circle", size=10))
    places = np.arange(len(rows), dtype=np.float64)
    marks = []
    for (name, shares), look in zip(values.items(), looks, strict=False):
        texts = [f"{row}, {name}: {100 * share:.1f} %" for row, share in zip(rows, shares, strict=True)]
        marks.append(Series(name, 100 * shares.astype(np.float64), places, look, texts=texts, is_clipped=False))
    return Panel(x, Axis.of_rows(rows) if rows else Axis(is_empty=True), marks, note="" if rows else "no labels")


def _confusion(predictions: Predictions, network: int) -> Panel:
    confusions = predictions.tables["confusion"]
    chosen = _most_labelled(confusions[0].sum(axis=1), _MAX_CONFUSED)
    counts = confusions[network][np.ix_(chosen, chosen)]
    shares = counts / np.maximum(confusions[network][chosen].sum(axis=1, keepdims=True), 1)
    names = [_short(predictions.classes[i]) for i in chosen]
    if not names:
        return Panel(Axis(is_empty=True), Axis(is_empty=True), note="no labelled pixels")
    has_texts = len(names) <= _MAX_TEXTS
    texts = [[f"{100 * share:.0f}" for share in row] for row in shares] if has_texts else ()
    cells = Cells(shares, texts, scale_title="" if has_texts else "Pixels of the class (%)")
    x = Axis("Predicted class (% of the labelled)", range(len(names)), names)
    return Panel(x, Axis.of_rows(names), [cells])


def _most_labelled(labelled: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Positions of the classes with most labels, at most n of those that have any, in the order of the classes."""
    most_first = np.argsort(-labelled, kind="stable")[:n]
    return np.sort(most_first[labelled[most_first] > 0])


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
