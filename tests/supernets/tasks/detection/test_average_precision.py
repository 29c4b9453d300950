"""COCO's average precision against pycocotools, and its standard errors against the jackknife and the bootstrap."""

import contextlib
import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from supernets.tasks.detection.average_precision import (
    AREA_RANGES,
    METRICS,
    average_precisions,
    matched,
    precision_recall,
    scored,
)

_Floats = NDArray[np.float32]
_Case = Callable[[np.random.Generator], tuple[_Floats, _Floats]]
NAMES = [metric.name for metric in METRICS]


def reference(detections: _Floats, labels: _Floats, n_classes: int) -> COCOeval:
    """The evaluation of pycocotools, in pixels of the original image."""
    annotations, results = [], []
    scale = labels[:, 0, 7].astype(float)
    for image in range(len(labels)):
        for row in labels[image].astype(float):
            if row[0] >= 0:
                x0, y0, x1, y1 = row[1:5] * scale[image]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image,
                        "category_id": int(row[0]),
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": row[5],
                        "iscrowd": int(row[6]),
                    }
                )
        for row in detections[image].astype(float):
            if row[4] > 0:
                x0, y0, x1, y1 = row[:4] * scale[image]
                results.append(
                    {
                        "image_id": image,
                        "category_id": int(row[5]),
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "score": row[4],
                    }
                )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i} for i in range(len(labels))],
            "annotations": annotations,
            "categories": [{"id": i} for i in range(n_classes)],
        }
        truth.createIndex()
        predictions = COCO()
        predictions.dataset = {**truth.dataset, "annotations": []}
        for i, result in enumerate(results):
            area = result["bbox"][2] * result["bbox"][3]
            predictions.dataset["annotations"].append({**result, "id": i + 1, "area": area, "iscrowd": 0})
        predictions.createIndex()
        evaluation = COCOeval(truth, predictions, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def values_of(evaluation: COCOeval) -> dict[str, float]:
    precision = evaluation.eval["precision"][..., -1]  # thresholds, recalls, classes, sizes

    def mean(values: NDArray[np.float64]) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else float("nan")

    sizes = {f"map_{size}": mean(precision[..., i]) for i, size in enumerate(AREA_RANGES)}
    return {"map": sizes.pop("map_all"), "map_50": mean(precision[0, ..., 0]), **sizes}


def scenes(
    rng: np.random.Generator,
    n: int,
    *,
    n_classes: int = 3,
    n_boxes: int = 5,
    n_predictions: int = 20,
    side: int = 160,
    noise: float = 8.0,
    levels: int = 0,
    crowds: float = 0.1,
) -> tuple[_Floats, _Floats]:
    """Labelled scenes, and detections that are labelled boxes moved, or boxes anywhere; of equal scores with `levels`."""
    labels = np.zeros((n, n_boxes, 8), dtype=np.float32)
    labels[..., 0] = -1
    labels[..., 7] = 2.0 ** rng.integers(-1, 3, (n, 1))
    detections = np.zeros((n, n_predictions, 6), dtype=np.float32)
    for image in range(n):
        k = int(rng.integers(0, n_boxes + 1))
        corner, edges = rng.integers(0, side, (k, 2)), rng.integers(4, side // 2, (k, 2))
        row = labels[image, :k]
        row[:, 0], row[:, 1:3], row[:, 3:5] = rng.integers(0, n_classes, k), corner, corner + edges
        row[:, 5] = edges.prod(axis=1) * row[:, 7] ** 2 * rng.choice([1.0, 0.6], k)  # a mask's area is smaller
        row[:, 6] = rng.random(k) < crowds
        n_drawn = int(rng.integers(0, n_predictions + 1))
        predictions = detections[image, :n_drawn]
        corner, edges = rng.integers(0, side, (n_drawn, 2)), rng.integers(4, side // 2, (n_drawn, 2))
        predictions[:, :2], predictions[:, 2:4] = corner, corner + edges
        predictions[:, 5] = rng.integers(0, n_classes, n_drawn)
        if k:
            of = rng.integers(0, k, n_drawn)
            near = rng.random(n_drawn) < 0.6
            moved = row[of, 1:5] + np.round(rng.normal(scale=noise, size=(n_drawn, 4)))
            predictions[near, :4], predictions[near, 5] = moved[near], row[of, 0][near]
        predictions[:, 4] = np.sort(rng.uniform(0.01, 1, n_drawn).astype(np.float32))[::-1]
        if levels:
            predictions[:, 4] = np.ceil(levels * predictions[:, 4]) / levels
    return detections, labels


def twice(rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    """Every detection twice, and labelled boxes on each other."""
    detections, labels = scenes(rng, 20, levels=3)
    return np.repeat(detections, 2, axis=1), np.repeat(labels, 2, axis=1)


def suppressed(rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    detections, labels = scenes(rng, 10)
    return np.zeros_like(detections), labels


def unlabelled(rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    detections, labels = scenes(rng, 10)
    labels[..., :7] = (-1, 0, 0, 0, 0, 0, 0)
    return detections, labels


def with_an_unlabelled_class(rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    detections, labels = scenes(rng, 20)
    labels[..., 0] = np.where(labels[..., 0] == 1, 2, labels[..., 0])
    return detections, labels


def with_crowds_alone(rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    detections, labels = scenes(rng, 20)
    labels[labels[..., 0] == 1, 6] = 1
    return detections, labels


def without_area(rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    """Boxes, labelled and detected, without a width; detections with corners in the wrong order."""
    detections, labels = scenes(rng, 20)
    labels[::2, ::2, 3], labels[::2, ::2, 5] = labels[::2, ::2, 1], 0
    detections[::3, ::3, 2] = detections[::3, ::3, 0]
    detections[1::3, ::3, 3] = detections[1::3, ::3, 1] - 4
    return detections, labels


def at_the_thresholds(rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    """Overlaps of exactly 0.5, 0.55, ..., and areas at the bounds of sizes."""
    shares = np.array([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0])
    labels = np.zeros((len(shares), 2, 8), dtype=np.float32)
    labels[:, 1, 0] = -1
    labels[..., 7] = 1
    labels[:, 0, 3:5] = [20, 32]
    labels[:, 0, 5] = rng.choice([32.0**2, 96.0**2, 640.0], len(shares))
    detections = np.zeros((len(shares), 2, 6), dtype=np.float32)
    detections[:, 0, 2], detections[:, 0, 3], detections[:, 0, 4] = np.round(20 * shares), 32, rng.random(len(shares))
    detections[:, 1, :5] = [100, 100, 132, 132, 0.3]
    return detections, labels


def of_any_scale(rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    """Corners between pixels, and scales by which areas are rounded: overlaps are never equal, which roundings would decide."""
    detections, labels = scenes(rng, 40)
    labels[..., 1:5] += rng.uniform(0, 0.5, labels[..., 1:5].shape)
    detections[..., :4] += rng.uniform(0, 0.5, detections[..., :4].shape)
    labels[..., 7] = rng.uniform(0.3, 4, (len(labels), 1))
    return detections, labels


def many_of_one_class(rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    """More detections of a class than count."""
    return scenes(rng, 4, n_classes=1, n_predictions=260, noise=3)


CASES: dict[str, _Case] = {
    "random": lambda rng: scenes(rng, 40),
    "tied scores": lambda rng: scenes(rng, 40, levels=4),
    "one score": lambda rng: scenes(rng, 40, levels=1, n_boxes=9, noise=2),
    "crowded": lambda rng: scenes(rng, 20, side=40, n_boxes=12, n_predictions=60, noise=3),
    "large": lambda rng: scenes(rng, 20, side=800, noise=20),
    "half of them crowds": lambda rng: scenes(rng, 30, crowds=0.5),
    "twice": twice,
    "nothing detected": suppressed,
    "nothing labelled": unlabelled,
    "a class without labels": with_an_unlabelled_class,
    "a class of crowds alone": with_crowds_alone,
    "without area": without_area,
    "at thresholds": at_the_thresholds,
    "more than count": many_of_one_class,
    "any scale": of_any_scale,
    "one image": lambda rng: scenes(rng, 1),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_pycocotools(case: str, seed: int) -> None:
    detections, labels = CASES[case](np.random.default_rng(seed))
    evaluation = reference(detections, labels, 3)
    values = {name: scored(name, detections, labels).value for name in NAMES}
    assert values == pytest.approx(values_of(evaluation), abs=1e-9, nan_ok=True)

    precision = evaluation.eval["precision"][..., -1]
    precision = np.where(precision > -1, precision, np.nan)
    for threshold in (0, 5):
        curves = precision_recall(detections, labels, 3, threshold=threshold)
        np.testing.assert_allclose(curves, precision[threshold, :, :, 0].T, atol=1e-9)
    for i, by_class in enumerate(average_precisions(detections, labels, 3).values()):
        np.testing.assert_allclose(by_class, precision[..., i].mean(axis=(0, 1)), atol=1e-9)


@pytest.mark.parametrize("metric", NAMES)
def test_influences_are_the_jackknifes(metric: str) -> None:
    detections, labels = scenes(np.random.default_rng(5), 120, n_boxes=6, noise=4)
    score = scored(metric, detections, labels)
    n = len(labels)
    without = [scored(metric, np.delete(detections, i, 0), np.delete(labels, i, 0)).value for i in range(n)]
    pseudo = n * score.value - (n - 1) * np.array(without)
    assert score.examples.mean() == pytest.approx(score.value)
    assert np.corrcoef(pseudo, score.examples)[0, 1] > 0.95
    assert score.error == pytest.approx(pseudo.std(ddof=1) / n**0.5, rel=0.1)


@pytest.mark.slow
def test_standard_errors_are_those_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    detections, labels = scenes(rng, 200, noise=4)
    other = detections.copy()
    other[..., :4] += np.round(rng.normal(scale=3, size=other[..., :4].shape))
    one, two = (scored("map", predictions, labels) for predictions in (detections, other))
    drawn = [rng.integers(200, size=200) for _ in range(300)]
    values = np.array(
        [[scored("map", predictions[i], labels[i]).value for predictions in (detections, other)] for i in drawn]
    )
    assert one.error == pytest.approx(values[:, 0].std(), rel=0.15)
    paired = np.std(one.examples - two.examples, ddof=1) / 200**0.5
    assert paired == pytest.approx((values[:, 0] - values[:, 1]).std(), rel=0.15)
    assert paired < np.hypot(one.error, two.error)


def test_errors_of_perfect_and_of_no_detections_are_not_zero() -> None:
    _, labels = scenes(np.random.default_rng(1), 30, crowds=0)
    perfect = np.zeros((*labels.shape[:2], 6), dtype=np.float32)
    perfect[..., :4], perfect[..., 4], perfect[..., 5] = labels[..., 1:5], labels[..., 0] >= 0, labels[..., 0]
    for detections, value in ((perfect, 1.0), (np.zeros_like(perfect), 0.0)):
        score = scored("map", detections, labels)
        assert score.value == pytest.approx(value)
        assert score.error == pytest.approx(0.5 / 31)


def test_classes_that_nothing_has_are_listed() -> None:
    detections, labels = scenes(np.random.default_rng(3), 5)
    assert [one.n_boxes > 0 for one in matched(detections, labels, n_classes=5)][3:] == [False, False]
