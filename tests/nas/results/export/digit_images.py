"""scikit-learn's digits as image files of every mode, of many sizes, some turned: what users have in their folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def write_digits(folder: Path, *, n: int, seed: int = 0) -> None:
    """The first `n` digits as ``folder/CLASS/NUMBER.SUFFIX``, in the middle of wide and tall images."""
    rng = np.random.default_rng(seed)
    images, labels = load_digits(return_X_y=True)
    for i, (pixels, label) in enumerate(zip(images[:n].reshape(-1, 8, 8), labels[:n], strict=True)):
        grey = Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8))
        side = int(rng.integers(8, 60))
        long = side + int(rng.integers(0, 2 * side))
        size = (long, side) if i % 2 else (side, long)
        image = Image.new("L", size)
        image.paste(grey.resize((side, side), Image.Resampling.BICUBIC), ((size[0] - side) // 2, (size[1] - side) // 2))
        target = folder / str(label)
        target.mkdir(parents=True, exist_ok=True)
        _save(image, target / f"{i:04}", kind=i % 8)


def _save(grey: Image.Image, path: Path, *, kind: int) -> None:
    colour = Image.merge(
        "RGB", (grey, grey.point([255 - v for v in range(256)]), grey.point([v // 2 for v in range(256)]))
    )
    opaque = Image.new("L", grey.size, 90)
    match kind:
        case 0:
            grey.save(path.with_suffix(".png"))
        case 1:
            colour.save(path.with_suffix(".png"))
        case 2:
            colour.putalpha(opaque)
            colour.save(path.with_suffix(".png"))
        case 3:
            colour.quantize(60).save(path.with_suffix(".png"), transparency=0)
        case 4:
            Image.merge("LA", (grey, opaque)).save(path.with_suffix(".png"))
        case 5:
            colour.convert("CMYK").save(path.with_suffix(".jpg"))
        case 6:
            exif = Image.Exif()
            exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise to see it upright
            colour.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif)
        case _:
            grey.convert("1").save(path.with_suffix(".bmp"))
