"""Detections in pixels of networks' inputs are scored as pycocotools scores them in the pixels of the original images."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from supernets.data import ImageOptions, load_data
from supernets.data.preprocessing import letterbox_window
from supernets.tasks.detection.average_precision import METRICS, scored
from tests.dense_scenes import make_parts, write_coco

SIZE = 96


def test_scores_are_those_of_the_annotations_file(tmp_path: Path) -> None:
    folder = write_coco(make_parts(12, 60, 8, sides=(60, 300)), tmp_path)
    data = load_data("coco", path=folder, targets="boxes", options=ImageOptions(image_size=SIZE))
    path, labels = tmp_path / "annotations" / "val.json", data.validation.labels.numpy()
    size_by_name = {
        Path(image["file_name"]).stem: (image["id"], image["width"], image["height"])
        for image in json.loads(path.read_text())["images"]
    }
    rng = np.random.default_rng(0)
    detections, results = np.zeros((len(labels), 40, 6), dtype=np.float32), []
    for i, name in enumerate(data.validation.names):
        boxes = labels[i][labels[i, :, 0] >= 0]
        drawn = rng.integers(0, len(boxes), 40) if len(boxes) else np.zeros(0, dtype=int)
        rows = detections[i, : len(drawn)]
        rows[:, :4] = boxes[drawn, 1:5] + rng.normal(
            scale=rng.choice([0.3, 2, 6], (len(drawn), 1)), size=(len(drawn), 4)
        )
        rows[:, 2:4] = np.maximum(rows[:, 2:4], rows[:, :2] + 0.5)
        rows[:, 4] = np.sort(rng.uniform(0.01, 1, len(drawn)))[::-1]
        rows[:, 5] = np.where(rng.random(len(drawn)) < 0.8, boxes[drawn, 0], rng.integers(0, 10, len(drawn)))
        image, width, height = size_by_name[Path(name).stem]
        left, top, new_width, new_height = letterbox_window(width, height, SIZE)
        for x0, y0, x1, y1, score, label in rows.astype(float).tolist():
            x, y = (x0 - left) * width / new_width, (y0 - top) * height / new_height
            box = [x, y, (x1 - x0) * width / new_width, (y1 - y0) * height / new_height]
            category = 2 * int(label) + 1
            results.append({"image_id": image, "category_id": category, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    expected = dict(
        zip(("map", "map_50", "map_small", "map_medium", "map_large"), evaluation.stats[[0, 1, 3, 4, 5]], strict=True)
    )
    values = {metric.name: scored(metric.name, detections, labels).value for metric in METRICS}
    assert values == pytest.approx(expected, abs=1e-6)
    assert 0.1 < values["map"] < 0.9
