"""Labelled boxes and detections as arrays: the meaning of their columns, and their overlap."""

from __future__ import annotations

import torch
from torch import Tensor

CLASS, X0, Y0, X1, Y1, AREA, CROWD, SCALE = range(8)
"""Columns of labelled boxes, (n, boxes, 8), float32: the class, or `NO_BOX`; the corners in pixels of the network's input, x to
the right and y down, the second corner exclusive; the area in pixels of the original image (of the mask, where the data have
one); 1 for a region of many objects that counts for nobody, else 0; and the edge of a pixel of the network's input in pixels of
the original image, by which a detection's area in that image is known. The last one is the same in all rows of an image."""
NO_BOX = -1.0
"""The class of rows that fill up the boxes of an image, of which there is at least one; they follow its boxes."""
BOX = slice(X0, Y1 + 1)
DETECTION = 6
"""Columns of a detection: the four corners as above, the score from 0 to 1, and the class; (n, detections, 6), by descending
score. Rows of score 0 fill up the detections of an image."""
SCORE, DETECTED_CLASS = 4, 5


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """The intersection over union of each pair of boxes.

    Args:
        first: Boxes (..., m, 4) by their corners.
        second: Boxes (..., k, 4).

    Returns:
        (..., m, k); 0 where both are empty.
    """
    left_top = torch.maximum(first[..., :, None, :2], second[..., None, :, :2])
    right_bottom = torch.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    shared = (right_bottom - left_top).clamp(min=0).prod(-1)
    areas = area(first)[..., :, None] + area(second)[..., None, :]
    return shared / (areas - shared).clamp(min=1e-9)


def area(boxes: Tensor) -> Tensor:
    """The area of boxes (..., 4), (...); 0 for corners in the wrong order."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """The generalised intersection over union (Rezatofighi et al. 2019, arXiv 1902.09630) of boxes one by one, from -1 to 1.

    Args:
        first: Boxes (..., 4) by their corners, in the right order.
        second: Boxes (..., 4).

    Returns:
        (...); 0 for two empty boxes at the same place.
    """
    shared = area(torch.cat([torch.maximum(first, second)[..., :2], torch.minimum(first, second)[..., 2:]], -1))
    hull = area(torch.cat([torch.minimum(first, second)[..., :2], torch.maximum(first, second)[..., 2:]], -1))
    union = area(first) + area(second) - shared
    return shared / union.clamp(min=_EMPTY) - (hull - union) / hull.clamp(min=_EMPTY)


_EMPTY = 1e-9
