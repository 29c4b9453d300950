"""Tables of images made of scikit-learn's scanned digits: a number for each image, or the set of digits on it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

JOB: dict[str, Any] = {
    "name": "small",
    "supernet": {
        "family": "mobile-cnn",
        "space": {
            "stem": 8, "stem_stride": 1, "head": 32,
            "stages": [{"depth": [1, 2], "width": [8, 16], "kernel": [3], "expand": [2], "stride": 2}],
        },
    },
    "training": {"epochs": 3, "batch_size": 64},
    "search": {"algorithm": "random", "evaluations": 4, "batch": 4},
    "calibration_images": 200,
}  # fmt: skip


def number_table(folder: Path, n: int = 700) -> Path:
    """A table of scanned digits and the ink on each: ten times the mean of its pixels, which are from 0 to 16."""
    images, _ = load_digits(return_X_y=True)
    pixels = images[:n].reshape(-1, 8, 8)
    rows = []
    for i, image in enumerate(pixels):
        name = f"{i:04d}.png"
        Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(folder / name)
        rows.append((name, f"{10 * image.mean():.3f}"))
    return _written(folder / "ink.csv", ("image", "value"), rows)


def set_table(folder: Path, n: int = 600, *, columns: bool = False) -> Path:
    """A table of squares of 16 x 16 pixels with one to three scanned digits of 0 to 4, and which digits they are."""
    images, labels = load_digits(n_class=5, return_X_y=True)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        square, held = np.zeros((16, 16)), set()
        for place in rng.permutation(4)[: rng.integers(1, 4)].tolist():
            chosen = int(rng.integers(len(images)))
            top, left = 8 * (place // 2), 8 * (place % 2)
            square[top : top + 8, left : left + 8] = images[chosen].reshape(8, 8)
            held.add(f"d{labels[chosen]}")
        name = f"{i:04d}.png"
        Image.fromarray(np.round(square * 255 / 16).astype(np.uint8)).save(folder / name)
        rows.append((name, *("01"[f"d{d}" in held] for d in range(5))) if columns else (name, " ".join(sorted(held))))
    names = ("image", *(f"d{d}" for d in range(5))) if columns else ("image", "labels")
    return _written(folder / "sets.csv", names, rows)


def _written(path: Path, names: tuple[str, ...], rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path
