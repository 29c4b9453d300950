"""Detections of two runtimes are compared as sets, and differences of objects show."""

from __future__ import annotations

import numpy as np

from supernets.tasks.detection.detection import Detection

REFERENCE = np.array(
    [[[5, 5, 20, 30, 0.9, 1], [6, 5, 21, 30, 0.89995, 0], [40, 64, 50, 64, 0.7, 2], [0, 0, 0, 0, 0, 0]]],
    dtype=np.float32,
)
"""Two objects of nearly equal scores, one without area at the edge of the image, and a row of padding."""


def test_orders_and_roundings_are_the_references() -> None:
    outputs = REFERENCE[:, [1, 0, 2, 3]] + np.array([1e-4, 0, 1e-4, 0, 1e-5, 0], dtype=np.float32)
    outputs[:, 3] = 0
    aligned = Detection().aligned(outputs, REFERENCE)
    np.testing.assert_allclose(aligned, REFERENCE, atol=2e-4)
    assert (aligned[0, :3] == outputs[0, [1, 0, 2]]).all()


def test_moved_missing_and_further_objects_show() -> None:
    moved, missing, further = REFERENCE.copy(), REFERENCE.copy(), REFERENCE.copy()
    moved[0, 2, :4] += 1
    missing[0, 0] = 0
    further[0, 3] = [50, 50, 60, 60, 0.6, 1]
    for outputs in (moved, missing, further):
        assert np.abs(Detection().aligned(outputs, REFERENCE) - REFERENCE).max() > 0.5
