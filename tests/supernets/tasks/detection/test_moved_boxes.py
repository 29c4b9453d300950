"""Boxes that move along with the pixels of their images."""

from __future__ import annotations

import torch

from supernets.data.batching import Movements
from supernets.tasks.detection.detection import moved_boxes

SIDE = 32


def test_boxes_enclose_their_pixels_after_shifts_and_mirroring() -> None:
    generator = torch.Generator().manual_seed(3)
    n = 40
    images, labels = torch.zeros(n, 1, SIDE, SIDE), torch.full((n, 2, 8), -1.0)
    for i in range(n):
        left, top = torch.randint(6, 14, (2,), generator=generator).tolist()
        width, height = torch.randint(3, 10, (2,), generator=generator).tolist()
        images[i, 0, top : top + height, left : left + width] = 1
        labels[i, 0] = torch.tensor([1, left, top, left + width, top + height, width * height, 0.0, 1.0])
    movements = Movements.draw(n, generator, flip=True, pad=5)

    moved, boxes = movements.moved(images), moved_boxes(labels, movements, SIDE)

    assert 0 < movements.mirrored.sum() < n
    for image, box in zip(moved[:, 0], boxes[:, 0], strict=True):
        rows, columns = torch.nonzero(image, as_tuple=True)
        assert box[1:5].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert (boxes[:, 1, 0] == -1).all()


def test_boxes_that_leave_the_image_are_gone_and_others_come_first() -> None:
    labels = torch.tensor([[[0.0, 28, 4, 32, 8, 16, 0, 1], [1.0, 2, 2, 12, 12, 100, 0, 1]]])
    movements = Movements(torch.tensor([0]), torch.tensor([4]), torch.tensor([False]))

    boxes = moved_boxes(labels, movements, SIDE)

    assert boxes[0, 0].tolist() == [1, 6, 2, 16, 12, 100, 0, 1]
    assert boxes[0, 1, 0] == -1
