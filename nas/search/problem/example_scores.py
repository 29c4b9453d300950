"""Scores of a network on single examples, as bytes that are kept with its measurements.

The scores of a metric are made so that the standard error of its value is that of their mean, and the standard error of the
difference of two networks is that of the mean of their differences: answers that are right or wrong for an accuracy, errors
for a mean absolute error, and jackknife pseudo-values or an influence function for metrics that are no means.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS, FLOATS = "bits", "float32"
"""One bit an example, for scores of 0 and 1; or compressed numbers of four bytes."""


def encoded(scores: NDArray[Any]) -> tuple[bytes, dict[str, Any]]:
    """Scores (n,) as bytes, and what the measurement's detail must say of them: bits if they are bool, else float32."""
    if scores.dtype == np.bool_:
        return np.packbits(scores).tobytes(), {"images": len(scores)}
    return zlib.compress(scores.astype("<f4").tobytes()), {"images": len(scores), "scores": FLOATS}


def decoded(samples: bytes, detail: Mapping[str, Any]) -> NDArray[Any]:
    """The scores that `encoded` wrote, (n,): uint8 for bits, else float32.

    Raises:
        ValueError: The number of scores is not that of the detail.
    """
    n = int(detail.get("images", 0))
    if detail.get("scores", BITS) == FLOATS:
        try:
            scores = np.frombuffer(zlib.decompress(samples), dtype="<f4")
        except (zlib.error, ValueError) as error:
            raise ValueError(f"they cannot be read ({error})") from None
        if len(scores) != n or n == 0:
            raise ValueError(f"{len(scores)} scores for {n} images")
        return scores
    packed = np.frombuffer(samples, dtype=np.uint8)
    if len(packed) != math.ceil(n / 8) or n == 0:
        raise ValueError(f"{len(packed)} bytes for {n} images")
    return np.unpackbits(packed, count=n)


def standard_error(scores: NDArray[Any]) -> float:
    """The standard error of the mean of scores, (n,); infinite for fewer than two."""
    if len(scores) < 2:
        return math.inf
    return float(np.std(scores.astype(np.float64), ddof=1) / math.sqrt(len(scores)))
