"""Raw samples of a measurement as compressed bytes, for keeping."""

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
    """Wall and thread CPU times of all runs in order, (n,) each, in milliseconds, and the rounds' lengths (sum n)."""

    raw_ms: NDArray[np.float64]
    raw_cpu_ms: NDArray[np.float64]
    round_lengths: tuple[int, ...]


def encode_samples(measurement: LatencyMeasurement) -> bytes:
    """zlib of: magic, number of rounds, their lengths (uint32), wall times, CPU times (float32: 7 digits), little-endian."""
    lengths = np.asarray(measurement.round_lengths, dtype="<u4")
    parts = [_HEADER.pack(_MAGIC, len(lengths)), lengths.tobytes()]
    parts += [np.asarray(times, dtype="<f4").tobytes() for times in (measurement.raw_ms, measurement.raw_cpu_ms)]
    return zlib.compress(b"".join(parts), 6)


def decode_samples(data: bytes) -> Samples:
    """What `encode_samples` kept, to float32's precision.

    Raises:
        ProfilingError: the bytes are not what `encode_samples` writes.
    """
    try:
        raw = zlib.decompress(data)
        magic, n_rounds = _HEADER.unpack_from(raw)
        lengths = np.frombuffer(raw, dtype="<u4", count=n_rounds, offset=_HEADER.size)
        times = np.frombuffer(raw, dtype="<f4", offset=_HEADER.size + lengths.nbytes).astype(np.float64)
    except (zlib.error, struct.error, ValueError) as error:
        raise ProfilingError(f"the raw samples are damaged: {error}") from None
    n = int(lengths.sum(dtype=np.int64))
    if magic != _MAGIC or times.size != 2 * n:
        raise ProfilingError(
            f"the raw samples are damaged: expected {_MAGIC!r} and 2 x {n} times, got {magic!r} and {times.size}"
        )
    return Samples(times[:n], times[n:], tuple(int(length) for length in lengths))
