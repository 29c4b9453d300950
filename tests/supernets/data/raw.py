"""Pixels as they were before normalisation, to compare parts with their source."""

from __future__ import annotations

import torch

from supernets.data import DataSet, Part


def raw_rows(data: DataSet, part: Part) -> list[bytes]:
    """Each image's pixels as bytes, undoing the normalisation."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.images.mean, data.images.std))
    scale = 16 if data.name == "digits" else 255
    return [image.numpy().tobytes() for image in ((part.inputs * std + mean) * scale).round().to(torch.uint8)]
