"""Fashion-MNIST, from files that are found on this machine or downloaded."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from supernets.data.source import Examples, Source, missing, unreadable

CLASS_NAMES = (
    "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_DOWNLOADED = Path("FashionMNIST", "raw")
"""Torchvision's layout below the cache folder."""
_VALIDATION = 10_000
_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def fashion_mnist(path: Path | None) -> Source:
    """60,000 grey images of 28 x 28 pixels and 10,000 to test on (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747).

    Args:
        path: the folder of the four IDX files, gzipped or not; None takes those of Debian's package or of the cache folder,
            to which torchvision downloads them if they are in neither.

    Raises:
        DataError: the files are missing, cannot be downloaded, or are damaged.
    """
    folder = _find_or_download() if path is None else path
    lacking = [name for name in _FILES if _file(folder, name) is None]
    if lacking:
        state = f"lacks {', '.join(f'{name}.gz' for name in lacking)}" if folder.is_dir() else "is no folder"
        raise missing(
            f"{folder}: {state}; expected the four files of Fashion-MNIST; correct the path, or leave it out to use "
            "Debian's package dataset-fashion-mnist or a download"
        )
    return Source(
        str(folder), CLASS_NAMES, _examples(folder, "train"), test=_examples(folder, "t10k"),
        default_validation=_VALIDATION,
    )  # fmt: skip


def _file(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / f"{name}.gz", folder / name) if file.is_file()), None)


def _examples(folder: Path, part: str) -> Examples:
    images_file, labels_file = (_file(folder, name) for name in _FILES if name.startswith(part))
    if images_file is None or labels_file is None:
        raise missing(f"{folder}: the files of {part} are gone; restore them")
    images, labels = _read_idx(images_file, n_dims=3), _read_idx(labels_file, n_dims=1)
    if len(images) != len(labels) or images.shape[1] != images.shape[2]:
        raise unreadable(
            f"{images_file}: holds {'x'.join(map(str, images.shape))} pixels, and {labels_file.name} {len(labels)} "
            "labels; expected square images and one label for each; replace both files"
        )
    if len(labels) and labels.max() >= len(CLASS_NAMES):
        raise unreadable(f"{labels_file}: label {labels.max()}; expected 0 to {len(CLASS_NAMES) - 1}; replace it")
    return Examples(
        images[:, None], labels.astype(np.int64), tuple(f"{images_file.name}[{i}]" for i in range(len(labels)))
    )


def find() -> Path | None:
    """The folder with the four files, of Debian's package or downloaded before; None if neither is there."""
    folders = (DEBIAN_FOLDER, _cache() / _DOWNLOADED)
    return next((folder for folder in folders if all(_file(folder, name) for name in _FILES)), None)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "subnet-nas"


def _find_or_download() -> Path:
    found = find()
    if found is None:
        _download(_cache())
        return _cache() / _DOWNLOADED
    return found


def _download(base: Path) -> None:
    try:
        from torchvision.datasets import FashionMNIST
    except ImportError:
        raise missing(
            f"fashion-mnist: its files are neither in {DEBIAN_FOLDER} nor in {base}; install Debian's package "
            "(apt install dataset-fashion-mnist), or install subnet-nas[download] to have torchvision fetch them"
        ) from None
    try:
        FashionMNIST(base, download=True)
    except (OSError, RuntimeError) as error:  # torchvision raises RuntimeError when every mirror failed
        raise missing(
            f"fashion-mnist: the download to {base} failed ({error}); try again, or install Debian's package "
            "(apt install dataset-fashion-mnist) or put the four files in a folder and name it as path"
        ) from None


_BYTES = 0x08
"""The type code of unsigned bytes; http://yann.lecun.com/exdb/mnist lists the others."""


def _read_idx(path: Path, *, n_dims: int) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file, gzipped if its name ends in ``.gz``.

    Raises:
        DataError: the file cannot be read, is cut short, or is no IDX file of bytes with `n_dims` dimensions.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(f"{path}: cannot be read ({error}); replace it with a whole copy") from None
    header = 4 + 4 * n_dims
    if raw[:4] != bytes((0, 0, _BYTES, n_dims)) or len(raw) < header:
        raise unreadable(
            f"{path}: begins with {raw[:4].hex(' ') or 'nothing'}; expected an IDX file of bytes with {n_dims} "
            f"dimensions (00 00 08 0{n_dims}); replace it"
        )
    shape = struct.unpack(f">{n_dims}I", raw[4:header])
    expected = header + math.prod(shape)
    if len(raw) != expected:
        raise unreadable(
            f"{path}: holds {len(raw)} bytes, but its header says {'x'.join(map(str, shape))}, which takes {expected}; "
            "replace it with a whole copy"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)
