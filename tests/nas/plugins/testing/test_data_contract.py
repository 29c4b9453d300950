"""`nas.plugins.testing.DataContract` on a data set of its own, and on ones that break it."""

from __future__ import annotations

import numpy as np
import pytest

from nas.plugins.testing import DataContract
from supernets.data import Examples, LabelledData, Source


class Numbers(LabelledData):
    """Grey squares with their brightness."""

    def __init__(self, seed: int | None = 0) -> None:
        self.seed = seed

    def load(self) -> Source:
        images = np.random.default_rng(self.seed).integers(0, 256, (90, 1, 4, 4)).astype(np.uint8)
        labels = images.reshape(90, -1).mean(axis=1)
        return Source("brightness", (), Examples(images, labels), targets="numbers")


class TestNumbers(DataContract):
    @staticmethod
    def make() -> LabelledData:
        return Numbers()


class Varying(DataContract):
    @staticmethod
    def make() -> LabelledData:
        return Numbers(seed=None)


def test_data_that_differ_between_loads_fail() -> None:
    with pytest.raises(AssertionError):
        Varying().test_every_load_gives_the_same()
    Varying().test_what_it_loads_is_well_formed()
