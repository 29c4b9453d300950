"""Raw samples survive being kept, and damage is told."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_profiles.base import LatencyMeasurement
from hardware_profiles.errors import ProfilingError
from hardware_profiles.measuring.samples import decode_samples, encode_samples


def measurement(lengths: tuple[int, ...]) -> LatencyMeasurement:
    rng = np.random.default_rng(0)
    wall, cpu = rng.gamma(20, 0.1, (2, sum(lengths)))
    return LatencyMeasurement(
        1.0, 0.01, 1.0, None, None, wall.size, 1.0, 1.0, 0.0, 0.0, 0, 0.0, 0.0, False, "p", {}, wall, cpu, lengths
    )


@pytest.mark.parametrize("lengths", [(5, 7, 6), (1,), ()])
def test_samples_come_back_to_seven_digits(lengths: tuple[int, ...]) -> None:
    made = measurement(lengths)
    found = decode_samples(encode_samples(made))
    assert found.round_lengths == lengths
    np.testing.assert_allclose(found.raw_ms, made.raw_ms, rtol=1e-7)
    np.testing.assert_allclose(found.raw_cpu_ms, made.raw_cpu_ms, rtol=1e-7)


def test_damage_is_told() -> None:
    import zlib

    whole = encode_samples(measurement((5, 7, 6)))
    inside = zlib.decompress(whole)
    for damaged in (b"", whole[:-9], b"x" + whole, zlib.compress(inside[:-4]), zlib.compress(b"LAT2" + inside[4:])):
        with pytest.raises(ProfilingError, match="raw samples are damaged"):
            decode_samples(damaged)
