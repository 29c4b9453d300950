"""The handwritten digits that ship with scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from supernets.data.source import Examples, Source


def digits() -> Source:
    """1,797 grey images of 8 x 8 pixels with values from 0 to 16 (the test set of Alpaydin and Kaynak 1998, UCI)."""
    images, labels = load_digits(return_X_y=True)
    inputs = images.reshape(-1, 1, 8, 8).astype(np.uint8)
    return Source(
        "digits", tuple(str(digit) for digit in range(10)), Examples(inputs, labels.astype(np.int64)), max_value=16
    )
