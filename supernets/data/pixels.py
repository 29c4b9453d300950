"""Turns images of bytes into normalised tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from supernets.data.in_memory import Part
from supernets.data.labelled_examples import Examples
from supernets.data.preprocessing import ImageFormat, Resizing, decode, square

_CHUNK = 4096
"""Images that are processed at once, to bound temporary memory."""


def fit(examples: Examples, *, levels: int, image_size: int, channels: int, resizing: Resizing) -> Examples:
    """The examples with images (n, channels, image_size, image_size).

    Args:
        levels: Number of steps of the given images, see `ImageFormat`; resized ones have 255.
    """
    inputs = examples.inputs
    if inputs.shape[1:] == (channels, image_size, image_size):
        return examples
    if resizing == "torch":
        inputs = np.repeat(_resized_by_torch(inputs, image_size, levels), channels // inputs.shape[1], axis=1)
    else:
        inputs = np.stack([square(decode(image_of(pixels), channels), image_size) for pixels in inputs])
    return Examples(inputs, examples.labels, examples.names, examples.strata)


def image_of(pixels: NDArray[np.uint8]) -> Image.Image:
    """The image of bytes (c, h, w) with one channel or three."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def statistics(pixels: NDArray[np.uint8], levels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel of (n, c, h, w) on the scale from 0 to 1; a constant channel's deviation is 1."""
    n = pixels.size // pixels.shape[1]
    mean, std, level = [], [], _level_of_byte(levels)
    for channel in range(pixels.shape[1]):
        total = squares = 0
        for start in range(0, len(pixels), _CHUNK):
            # Sums of whole numbers below 2**53 are exact in any order, so the values are equal on every machine.
            flat = level[pixels[start : start + _CHUNK, channel].ravel()]
            total += int(flat.sum())
            squares += int(np.dot(flat, flat))
        variance = (n * squares - total**2) / n**2
        mean.append(total / n / levels)
        std.append(variance**0.5 / levels or 1.0)
    return tuple(mean), tuple(std)


def normalise(examples: Examples, format: ImageFormat) -> Part:
    """The part of these images, as inputs of a network."""
    inputs = torch.from_numpy(format.inputs(examples.inputs))
    return Part.of(inputs, torch.from_numpy(examples.labels), names=examples.names)


def _level_of_byte(levels: int) -> NDArray[np.float64]:
    return np.round(np.arange(256) * levels / 255)


def _resized_by_torch(pixels: NDArray[np.uint8], image_size: int, levels: int) -> NDArray[np.uint8]:
    out = np.empty((*pixels.shape[:2], image_size, image_size), dtype=np.uint8)
    level = _level_of_byte(levels)
    for start in range(0, len(pixels), _CHUNK):
        chunk = torch.from_numpy(level[pixels[start : start + _CHUNK]]).float() * (255 / levels)
        resized = functional.interpolate(chunk, size=(image_size, image_size), mode="bilinear", antialias=True)
        out[start : start + _CHUNK] = resized.round_().clamp_(0, 255).to(torch.uint8).numpy()
    return out
