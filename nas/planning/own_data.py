"""Fills in a recipe for a user's own data: the path, and what follows from the files."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from typing import Any

from nas.config import parse_job
from nas.config.job_edit import Path as KeyPath
from nas.config.job_edit import edited
from nas.errors import JobError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""Of image files, as `supernets.data.image_folder` reads them, which takes longer to import."""
_LOOKED_AT = 200
"""Image files whose sizes are read, spread over the folder."""
_SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
_PRESETS = ((16, "digits"), (96, "tiny"))
"""Presets of small CNNs with the largest image size for each; `mobile` for larger images."""
_SHIFT = (16, 2)
"""Pixels of a side for each pixel of random shifts, and the most pixels: one pixel is an eighth of the smallest images."""
_SEEN = 200_000
"""Images in all epochs together, from the recipes of digits and Fashion-MNIST."""
_EPOCHS = (5, 60)


def filled(text: str, data: Path) -> str:
    """A recipe's text with `data` as its path; of images, also with what fits these files: image size, preset, epochs, shifts.

    Raises:
        JobError: the recipe takes no path, there is no such file or folder, or a folder of images holds none.
    """
    job = parse_job(text, source="recipe")
    where = f"--data {data}"
    if job.data.path is None:
        with_path = "own-images, own-image-labels, own-numbers, own-sentences or minilm-text"
        message = f"the recipe {job.name} has data of its own; expected {with_path}"
        raise JobError(f"{where}: {message}", code="recipe.without-path")
    if not data.exists():
        raise JobError(f"{where}: does not exist; correct the path", code="data.missing")
    changes: dict[KeyPath, Any] = {("data", "path"): str(data)}
    if job.data.name == "image-folder":
        changes |= _for_images(data, where=where)
    return edited(text, changes, source="recipe")


def _for_images(folder: Path, *, where: str) -> dict[KeyPath, Any]:
    if not folder.is_dir():
        message = "is a file; expected a folder with one folder of images for each class"
        raise JobError(f"{where}: {message}", code="data.layout")
    files = [
        Path(root, name)
        for root, _, names in os.walk(folder)
        for name in sorted(names)
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    sides = [side for file in files[:: max(1, len(files) // _LOOKED_AT)] if (side := _short_side(file)) is not None]
    if not sides:
        message = f"no image can be read; expected one folder for each class with {', '.join(SUFFIXES)} files"
        raise JobError(f"{where}: {message}", code="data.layout")
    size = max((s for s in _SIZES if s <= median(sides)), default=_SIZES[0])
    preset = next((name for largest, name in _PRESETS if size <= largest), "mobile")
    least, most = _EPOCHS
    pixels, furthest = _SHIFT
    return {
        ("data", "image_size"): size,
        ("supernet", "preset"): preset,
        ("training", "augment", "shift"): min(furthest, size // pixels),
        ("training", "epochs"): min(most, max(least, round(_SEEN / len(files)))),
    }


def _short_side(file: Path) -> int | None:
    """The short side of an image by its header; None for what is no image."""
    from PIL import Image

    if not file.is_file():  # a named pipe would block
        return None
    try:
        with Image.open(file) as image:
            return min(image.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
