"""Bounds the memory that the images of a data set take."""

from __future__ import annotations

from supernets.data.labelled_examples import too_large

MAX_GIB = 4
"""Maximum memory that the images of a data set may take as float32; all are held in memory."""


def check_memory(n: int, *, channels: int, image_size: int, where: str) -> None:
    """Raises `DataError` if `n` images of this size would take more than `MAX_GIB` as float32."""
    gib = n * channels * image_size**2 * 4 / 2**30
    if gib > MAX_GIB:
        size = f"{n} images of {image_size}x{image_size} pixels and {channels} channels take {gib:.1f} GiB of memory"
        raise too_large(f"{where}: {size}; expected at most {MAX_GIB} GiB; lower image_size or use fewer images")
