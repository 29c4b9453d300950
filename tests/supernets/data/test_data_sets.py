"""`supernets.data.data_sets`: what comes of a data set's name, shown on the embedded digits."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from supernets.data import DataSet, ImageOptions, TextOptions, load_data
from tests.errors import raises
from tests.supernets.data.raw import raw_rows


class TestDigits:
    @pytest.fixture
    def data(self) -> DataSet:
        return load_data("digits")

    def test_parts_together_hold_every_image_once_with_its_label(self, data: DataSet) -> None:
        expected = sorted(
            (image.astype(np.uint8).tobytes(), int(label))
            for image, label in zip(*load_digits(return_X_y=True), strict=True)
        )
        parts = (data.train, data.validation, data.test)
        found = [pair for p in parts for pair in zip(raw_rows(data, p), p.labels.tolist(), strict=True)]
        assert sorted(found) == expected  # all images differ, so equality shows that no part shares one

    def test_parts_are_stratified_three_to_one_to_one(self, data: DataSet) -> None:
        assert [len(p) for p in (data.train, data.validation, data.test)] == [1079, 359, 359]
        all_counts = np.bincount(load_digits().target)
        for part in (data.validation, data.test):
            # One off by rounding, and less than one more since each class first gets one in each part.
            assert np.abs(part.labels.bincount().numpy() - all_counts * len(part) / 1797).max() < 2

    def test_training_images_are_normalised_by_their_own_statistics(self, data: DataSet) -> None:
        assert data.train.inputs.mean().item() == pytest.approx(0, abs=1e-5)  # float32 sums of 69,056 pixels
        assert data.train.inputs.std(correction=0).item() == pytest.approx(1, abs=1e-5)
        raw = np.stack([np.frombuffer(row, dtype=np.uint8) for row in raw_rows(data, data.train)]) / 16
        assert data.images.mean == pytest.approx((raw.mean(),), rel=1e-12)
        assert data.images.std == pytest.approx((raw.std(),), rel=1e-12)
        assert 0 < data.images.mean[0] < 1

    def test_describes_itself(self, data: DataSet) -> None:
        assert (data.name, data.images.image_size, data.images.channels, data.n_classes) == ("digits", 8, 1, 10)
        assert data.class_names == tuple("0123456789")
        for part in (data.train, data.validation, data.test):
            assert part.inputs.shape == (len(part), 1, 8, 8)
            assert (part.inputs.dtype, part.labels.dtype) == (torch.float32, torch.int64)
            assert part.inputs.is_contiguous()

    def test_digest_is_the_sha256_of_images_then_labels(self, data: DataSet) -> None:
        raw = data.train.inputs.numpy().tobytes() + data.train.labels.numpy().tobytes()
        assert data.train.digest == hashlib.sha256(raw).hexdigest()[:16]
        assert len({p.digest for p in (data.train, data.validation, data.test)}) == 3

    def test_equal_in_another_process_for_any_global_seeds(self, data: DataSet) -> None:
        code = (
            "import numpy, torch; numpy.random.seed(9); torch.manual_seed(9)\n"
            "from supernets.data import load_data; d = load_data('digits')\n"
            "print(d.train.digest, d.validation.digest, d.test.digest)"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert out.split() == [data.train.digest, data.validation.digest, data.test.digest]

    def test_another_seed_gives_another_split(self, data: DataSet) -> None:
        other = load_data("digits", seed=1)
        assert set(raw_rows(other, other.test)) != set(raw_rows(data, data.test))

    def test_counts_and_shares_are_taken_as_asked(self) -> None:
        data = load_data("digits", validation=100, test=0.25)
        assert [len(p) for p in (data.train, data.validation, data.test)] == [1797 - 100 - 449, 100, 449]

    def test_can_be_resized_and_given_three_channels(self, data: DataSet) -> None:
        large = load_data("digits", options=ImageOptions(image_size=16, channels=3))
        assert large.train.inputs.shape == (1079, 3, 16, 16)
        assert (large.images.image_size, large.images.channels) == (16, 3)
        assert torch.equal(large.train.labels, data.train.labels)
        assert torch.equal(large.train.inputs[:, 0], large.train.inputs[:, 2])
        assert large.images.mean[0] == pytest.approx(data.images.mean[0], abs=0.01)  # the scale stays 0 to 1
        small = torch.nn.functional.avg_pool2d(large.train.inputs[:, :1], 2)
        assert torch.corrcoef(torch.stack([small.flatten(), data.train.inputs.flatten()]))[0, 1] > 0.95

    def test_images_are_normalised_by_what_is_asked_for(self, data: DataSet) -> None:
        own = load_data("digits", options=ImageOptions(mean=(0.5,), std=(0.25,)))
        assert (own.images.mean, own.images.std) == ((0.5,), (0.25,))
        pixels = data.train.inputs * data.images.std[0] + data.images.mean[0]
        torch.testing.assert_close(own.train.inputs, (pixels - 0.5) / 0.25)


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        (
            "digits",
            {"options": ImageOptions(mean=(0.5,) * 3, std=(1.0,) * 3)},
            "data.invalid-option | mean and std | 3 numbers | 1 channels",
        ),
        ("cifar", {}, "data.invalid-option | 'cifar'"),
        ("digits", {"path": Path("x")}, "data.invalid-option | path=x"),
        (
            "digits",
            {"options": ImageOptions(image_size=800)},
            "data.too-large | 1797 | 800x800",
        ),
        ("digits", {"options": TextOptions()}, "data.wrong-kind | digits"),
        ("text-classification", {"options": ImageOptions()}, "data.wrong-kind | text-classification"),
        ("text-classification", {}, "data.missing | text-classification"),
    ],
)
def test_impossible_demands_are_refused(name: str, options: dict[str, object], error: str) -> None:
    with raises(*error.split(" | ")):
        load_data(name, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        (ImageOptions, {"image_size": 0}, "data.invalid-option | image_size=0"),
        (ImageOptions, {"channels": 2}, "data.invalid-option | channels=2 | 1 | (grey) | 3 | (colour)"),
        (ImageOptions, {"mean": (0.5,)}, "data.invalid-option | (0.5,) | std=None"),
        (ImageOptions, {"mean": (0.5,), "std": (1.0, 1.0)}, "data.invalid-option | (1.0, 1.0)"),
        (ImageOptions, {"mean": (float("nan"),), "std": (1.0,)}, "data.invalid-option | nan"),
        (ImageOptions, {"mean": (0.5,), "std": (0.0,)}, "data.invalid-option | (0.0,) | 0"),
        (TextOptions, {"max_tokens": 0}, "data.invalid-option | max_tokens=0 | 1"),
        (TextOptions, {"vocabulary": 99}, "data.invalid-option | vocabulary=99 | 100 | 100000"),
        (TextOptions, {"encoding": "rot13"}, "data.invalid-option | 'rot13' | utf-8 | utf-16 | latin-1"),
        (TextOptions, {"text_column": "a", "label_column": "a"}, "data.invalid-option | 'a'"),
    ],
)
def test_options_check_themselves(
    kind: type[ImageOptions] | type[TextOptions], options: dict[str, object], error: str
) -> None:
    with raises(*error.split(" | ")):
        kind(**options)  # type: ignore[arg-type]
