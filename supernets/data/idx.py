"""Reads files of the IDX format, the format of the MNIST data sets."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from supernets.errors import DataError

_unreadable = partial(DataError, code="data.unreadable")
_BYTES = 0x08
"""The type code of unsigned bytes; http://yann.lecun.com/exdb/mnist lists the others."""


def read_idx(path: Path, *, n_dims: int) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file, gzipped if its name ends in ``.gz``.

    Raises:
        DataError: the file cannot be read, is cut short, or is no IDX file of bytes with `n_dims` dimensions.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(f"{path}: cannot be read ({error}); replace it with a whole copy") from None
    header = 4 + 4 * n_dims
    if raw[:4] != bytes((0, 0, _BYTES, n_dims)) or len(raw) < header:
        raise _unreadable(
            f"{path}: begins with {raw[:4].hex(' ') or 'nothing'}; expected an IDX file of bytes with {n_dims} "
            f"dimensions (00 00 08 0{n_dims}); replace it"
        )
    shape = struct.unpack(f">{n_dims}I", raw[4:header])
    expected = header + math.prod(shape)
    if len(raw) != expected:
        raise _unreadable(
            f"{path}: holds {len(raw)} bytes, but its header says {'x'.join(map(str, shape))}, which takes {expected}; "
            "replace it with a whole copy"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)
