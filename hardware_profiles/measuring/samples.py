"""Encoding of a measurement's raw samples as compressed bytes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.base import LatencyMeasurement
from hardware_profiles.errors import ProfilingError

_MAGIC = b"LAT1"
_HEADER = struct.Struct("<4sI")


@dataclass(frozen=True, slots=True)
class Samples:
    """Wall and thread CPU times of all runs in order, (n,) each, in milliseconds, and the rounds' lengths, whose sum is n."""

    raw_ms: NDArray[np.float64]
    raw_cpu_ms: NDArray[np.float64]
    round_lengths: tuple[int, ...]


def encode_samples(measurement: LatencyMeasurement) -> bytes:
    """Compressed by zlib: magic, number of rounds, their lengths (uint32), wall and CPU times (float32), little-endian."""
    lengths = np.asarray(measurement.round_lengths, dtype="<u4")
    parts = [_HEADER.pack(_MAGIC, len(lengths)), lengths.tobytes()]
    parts += [np.asarray(times, dtype="<f4").tobytes() for times in (measurement.raw_ms, measurement.raw_cpu_ms)]
    return zlib.compress(b"".join(parts), 6)


def decode_samples(data: bytes) -> Samples:
    """The samples that `encode_samples` encoded, to float32's precision.

    Raises:
        ProfilingError: the bytes were not written by `encode_samples`.
    """
    try:
        raw = zlib.decompress(data)
        magic, n_rounds = _HEADER.unpack_from(raw)
        lengths = np.frombuffer(raw, dtype="<u4", count=n_rounds, offset=_HEADER.size)
        times = np.frombuffer(raw, dtype="<f4", offset=_HEADER.size + lengths.nbytes).astype(np.float64)
    except (zlib.error, struct.error, ValueError) as error:
        raise ProfilingError(f"the raw samples are damaged: {error}", code="samples.damaged") from None
    n = int(lengths.sum(dtype=np.int64))
    if magic != _MAGIC or times.size != 2 * n:
        message = f"the raw samples are damaged: expected {_MAGIC!r} and 2 x {n} times, got {magic!r} and {times.size}"
        raise ProfilingError(message, code="samples.damaged")
    return Samples(times[:n], times[n:], tuple(lengths.tolist()))
