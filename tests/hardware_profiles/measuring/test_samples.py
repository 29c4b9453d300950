"""Raw samples survive encoding, and damaged ones are rejected."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_profiles.base import LatencyMeasurement
from hardware_profiles.measuring.samples import decode_samples, encode_samples
from tests.errors import raises


def measurement(lengths: tuple[int, ...]) -> LatencyMeasurement:
    rng = np.random.default_rng(0)
    wall, cpu = rng.gamma(20, 0.1, (2, sum(lengths)))
    return LatencyMeasurement(
        1.0, 0.01, 1.0, None, None, wall.size, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, False, "p", {}, wall, cpu, lengths
    )


@pytest.mark.parametrize("lengths", [(5, 7, 6), (1,), ()])
def test_samples_are_decoded_to_seven_digits(lengths: tuple[int, ...]) -> None:
    made = measurement(lengths)
    found = decode_samples(encode_samples(made))
    assert found.round_lengths == lengths
    np.testing.assert_allclose(found.raw_ms, made.raw_ms, rtol=1e-7)
    np.testing.assert_allclose(found.raw_cpu_ms, made.raw_cpu_ms, rtol=1e-7)


def test_damaged_samples_are_rejected() -> None:
    import zlib

    whole = encode_samples(measurement((5, 7, 6)))
    inside = zlib.decompress(whole)
    for damaged in (b"", whole[:-9], b"x" + whole, zlib.compress(inside[:-4]), zlib.compress(b"LAT2" + inside[4:])):
        with raises("samples.damaged"):
            decode_samples(damaged)
