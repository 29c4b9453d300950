"""Turns images of bytes into normalised tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from supernets.data.in_memory import Part
from supernets.data.labelled_examples import Examples, too_large

MAX_GIB = 4
"""The most memory that the images of a data set may take as float32; all are held in memory."""
_LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as in PIL's conversion to grey."""
_CHUNK = 4096
"""Images that are processed at once, to bound temporary memory."""


def check_memory(n: int, *, channels: int, image_size: int, where: str) -> None:
    """Raises `DataError` if `n` images of this size would take more than `MAX_GIB` as float32."""
    gib = n * channels * image_size**2 * 4 / 2**30
    if gib > MAX_GIB:
        size = f"{n} images of {image_size}x{image_size} pixels and {channels} channels take {gib:.1f} GiB of memory"
        raise too_large(f"{where}: {size}; expected at most {MAX_GIB} GiB; lower image_size or use fewer images")


def fit(examples: Examples, *, max_value: int, image_size: int, channels: int) -> Examples:
    """The examples with images (n, channels, image_size, image_size); where resized, on the scale of bytes (0 to 255)."""
    inputs = examples.inputs
    if inputs.shape[1] != channels:
        inputs = _to_channels(inputs, channels)
    if inputs.shape[2] != image_size:
        inputs = _resize(inputs, image_size, max_value)
    return Examples(inputs, examples.labels, examples.names)


def statistics(pixels: NDArray[np.uint8], max_value: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel of (n, c, h, w) on the scale from 0 to 1; a constant channel's deviation is 1."""
    n = pixels.size // pixels.shape[1]
    mean, std = [], []
    for channel in range(pixels.shape[1]):
        total = squares = 0
        for start in range(0, len(pixels), _CHUNK):
            # Sums of whole numbers below 2**53 are exact in any order, so the values are equal on every machine.
            flat = pixels[start : start + _CHUNK, channel].ravel().astype(np.float64)
            total += int(flat.sum())
            squares += int(np.dot(flat, flat))
        variance = (n * squares - total**2) / n**2
        mean.append(total / n / max_value)
        std.append(variance**0.5 / max_value or 1.0)
    return tuple(mean), tuple(std)


def normalise(examples: Examples, *, max_value: int, mean: Sequence[float], std: Sequence[float]) -> Part:
    """The part of these images, ``(pixel / max_value - mean) / std`` by channel."""
    pixels = examples.inputs
    images = np.empty(pixels.shape, dtype=np.float32)
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        # A table of the 256 values is faster than arithmetic, and rounds once.
        table = ((np.arange(256) / max_value - m) / s).astype(np.float32)
        for start in range(0, len(pixels), _CHUNK):
            images[start : start + _CHUNK, channel] = table[pixels[start : start + _CHUNK, channel]]
    return Part.of(torch.from_numpy(images), torch.from_numpy(examples.labels))


def _to_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    if channels == 3:
        return np.repeat(pixels, 3, axis=1)
    grey = np.tensordot(np.array(_LUMA), pixels, axes=(0, 1))
    return np.round(grey).astype(np.uint8)[:, None]


def _resize(pixels: NDArray[np.uint8], image_size: int, max_value: int) -> NDArray[np.uint8]:
    out = np.empty((*pixels.shape[:2], image_size, image_size), dtype=np.uint8)
    for start in range(0, len(pixels), _CHUNK):
        chunk = torch.from_numpy(pixels[start : start + _CHUNK]).float() * (255 / max_value)
        resized = functional.interpolate(chunk, size=(image_size, image_size), mode="bilinear", antialias=True)
        out[start : start + _CHUNK] = resized.round_().clamp_(0, 255).to(torch.uint8).numpy()
    return out
