"""Predictions as a run keeps them, of scenes with garments: made of the labels by errors that a seed decides."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.engine.predictions import Predictions
from supernets.data.fashion_mnist import CLASS_NAMES
from supernets.tasks import Segmentation, Task
from supernets.tasks.detection.detection import Detection
from tests.dense_scenes import MASK_CLASSES, Scenes, make_scenes

SIDE, N_SCENES = 64, 24
NETWORKS = ("0-0", "1-0", "2-1")


class Made(NamedTuple):
    """Predictions with what they were made of.

    Attributes:
        outputs: Scored outputs for all scenes, by network.
        labels: Labels of all scenes.
    """

    predictions: Predictions
    outputs: dict[str, NDArray[Any]]
    labels: NDArray[Any]


@cache
def made_predictions(kind: Literal["boxes", "masks"], networks: tuple[str, ...] = NETWORKS) -> Made:
    """Predictions of networks, of which later ones make fewer errors."""
    scenes = make_scenes(N_SCENES, seed=5, sides=(SIDE, SIDE))
    rng = np.random.default_rng(7)
    task: Task = Detection() if kind == "boxes" else Segmentation()
    labels: NDArray[Any] = _boxes(scenes) if kind == "boxes" else np.stack([scene.mask for scene in scenes.scenes])
    classes = CLASS_NAMES if kind == "boxes" else MASK_CLASSES
    make: Callable[..., NDArray[Any]] = _detections if kind == "boxes" else _maps
    outputs = {key: make(labels, (i + 1) / len(networks), rng) for i, key in enumerate(networks)}
    illustrations = [task.illustrated(output, labels, len(classes)) for output in outputs.values()]
    examples = illustrations[0].examples.tolist()
    predictions = Predictions(
        kind,
        tuple(classes),
        SIDE,
        N_SCENES,
        tuple(networks),
        tuple(f"val/{scenes.name(i)}.png" for i in examples),
        tuple(_jpeg(scenes.scenes[i].image) for i in examples),
        labels[examples],
        np.stack([illustration.outputs for illustration in illustrations]),
        {name: np.stack([i.tables[name] for i in illustrations]) for name in illustrations[0].tables},
    )
    return Made(predictions, outputs, labels)


def _boxes(scenes: Scenes) -> NDArray[np.float32]:
    labels = np.zeros((len(scenes.scenes), 6, 8), dtype=np.float32)
    labels[..., 0], labels[..., 7] = -1, 2.0  # of images of twice the side
    for rows, scene in zip(labels, scenes.scenes, strict=True):
        rows[: len(scene.boxes), :5] = scene.boxes
        rows[: len(scene.boxes), 5] = 4 * scene.areas
    return labels


def _detections(labels: NDArray[np.float32], skill: float, rng: np.random.Generator) -> NDArray[np.float32]:
    outputs = np.zeros((len(labels), 100, 6), dtype=np.float32)
    for image, rows in zip(outputs, labels, strict=True):
        boxes = [row for row in rows if row[0] >= 0 and rng.random() < 0.3 + 0.7 * skill]
        detected = [[*(row[1:5] + rng.normal(0, 3 * (1 - skill), 4)), rng.uniform(0.2, 1), row[0]] for row in boxes]
        detected.append([10, 10, 30, 30, rng.uniform(0.01, 0.6), rng.integers(10)])
        image[: len(detected)] = sorted(detected, key=lambda row: -row[4])
    return outputs


def _maps(labels: NDArray[np.uint8], skill: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    outputs = labels.copy()
    for image in outputs:
        for label in np.unique(image):
            if rng.random() > skill:
                image[image == label] = rng.integers(len(MASK_CLASSES))
    return outputs


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg")
    return file.getvalue()
