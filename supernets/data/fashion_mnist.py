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

from supernets.data.labelled_examples import Examples, Source, missing, unreadable

CLASS_NAMES = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_DOWNLOADED = Path("FashionMNIST", "raw")
"""Torchvision's layout below the cache folder."""
_VALIDATION = 10_000
FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_MAX_BYTES = 2**28
"""Bytes of a file that are read: five times as many as the largest one has."""
_BYTES = 0x08
"""The type code of unsigned bytes in IDX files; http://yann.lecun.com/exdb/mnist lists the others."""


def fashion_mnist(path: Path | None) -> Source:
    """60,000 grey images of 28 x 28 pixels and 10,000 to test on (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747).

    Args:
        path: the folder of the four IDX files, gzipped or not; None takes those of Debian's package or of the cache folder,
            to which torchvision downloads them if they are in neither.
    """
    folder = path or find() or _downloaded()
    files = files_of(folder)
    lacking = [f"{name}.gz" for name in FILES if name not in files]
    if lacking:
        state = f"lacks {', '.join(lacking)}" if folder.is_dir() else "is no folder"
        raise missing(
            f"{folder}: {state}; expected the four files of Fashion-MNIST; correct the path, or leave it out to use "
            "Debian's package dataset-fashion-mnist or a download"
        )
    train, test = (_examples(*(files[name] for name in FILES if name.startswith(part))) for part in ("train", "t10k"))
    return Source(str(folder), CLASS_NAMES, train, test=test, default_validation=_VALIDATION)


def files_of(folder: Path) -> dict[str, Path]:
    """The files of the data set that a folder holds, gzipped or not, by their names without a suffix."""
    paths = {name: (folder / f"{name}.gz", folder / name) for name in FILES}
    path_by_name = {
        name: next((path for path in candidates if path.is_file()), None) for name, candidates in paths.items()
    }
    return {name: path for name, path in path_by_name.items() if path is not None}


def _examples(images_file: Path, labels_file: Path) -> Examples:
    images, labels = _read_idx(images_file, n_dims=3), _read_idx(labels_file, n_dims=1)
    if len(images) != len(labels) or images.shape[1] != images.shape[2]:
        content = f"{'x'.join(map(str, images.shape))} pixels, and {labels_file.name} {len(labels)} labels"
        raise unreadable(
            f"{images_file}: holds {content}; expected square images, each with a label; replace both files"
        )
    if len(labels) and labels.max() >= len(CLASS_NAMES):
        raise unreadable(f"{labels_file}: label {labels.max()}; expected 0 to {len(CLASS_NAMES) - 1}; replace it")
    names = tuple(f"{images_file.name}[{i}]" for i in range(len(labels)))
    return Examples(images[:, None], labels.astype(np.int64), names)


def find() -> Path | None:
    """The folder with the four files, of Debian's package or downloaded before; None if neither is there."""
    folders = (DEBIAN_FOLDER, _cache() / _DOWNLOADED)
    return next((folder for folder in folders if len(files_of(folder)) == len(FILES)), None)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "subnet-nas"


def _downloaded() -> Path:
    """The folder to which torchvision has just downloaded the files."""
    base = _cache()
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
    return base / _DOWNLOADED


def _read_idx(path: Path, *, n_dims: int) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file (the format of MNIST), gzipped if its name ends in ``.gz``."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(_MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(f"{path}: cannot be read ({error}); replace it with a whole copy") from None
    header = 4 + 4 * n_dims
    if raw[:4] != bytes((0, 0, _BYTES, n_dims)) or len(raw) < header:
        begins = raw[:4].hex(" ") or "nothing"
        raise unreadable(f"{path}: begins with {begins}; expected 00 00 08 0{n_dims}, as IDX files do; replace it")
    shape = struct.unpack(f">{n_dims}I", raw[4:header])
    expected = header + math.prod(shape)
    if len(raw) != expected:
        size = "x".join(map(str, shape))
        raise unreadable(
            f"{path}: holds {len(raw)} bytes; expected {expected}, since its header says {size}; replace it"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)
