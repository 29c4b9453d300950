"""`supernets.data.preprocessing`: bytes and inputs equal to the last bit, whatever the version of Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from supernets.data import ImageFormat, ImageOptions, load_data
from supernets.data.options import INTERPOLATIONS
from supernets.data.preprocessing import centre, decode, normalised, square, square_in_one_call

SIZES = [(12, 12), (37, 91), (91, 37), (9, 200), (200, 9), (4, 3), (480, 640), (640, 480)]
"""Heights and widths."""


def noise(height: int, width: int, *, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng([height, width])
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def weights(length: int, side: int, size: int) -> NDArray[np.int64]:
    """Pillow's fixed-point weights of 22 binary digits for a triangle around each new pixel, (length, size)."""
    scale = side / size
    reach = max(scale, 1.0)
    first = (length - side) // 2
    out = np.zeros((length, size), dtype=np.int64)
    for i in range(size):
        centre = first + (i + 0.5) * scale
        triangle = [max(0.0, 1 - abs((place - centre + 0.5) / reach)) for place in range(length)]
        out[:, i] = [int(weight / sum(triangle) * 2**22 + 0.5) for weight in triangle]
    return out


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [5, 12, 64])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_square_is_resized_rows_first_and_rounded_after_each_pass(
    height: int, width: int, size: int, mode: str
) -> None:
    image, side = noise(height, width, mode=mode), min(height, width)
    pixels = np.asarray(image).reshape(height, width, -1).transpose(2, 0, 1).astype(np.int64)
    rows = (pixels @ weights(width, side, size) + 2**21) >> 22
    expected = (weights(height, side, size).T @ rows + 2**21) >> 22
    assert np.array_equal(square(image, size), expected)


@pytest.mark.parametrize(("height", "width"), [size for size in SIZES if size[0] <= size[1]])
def test_images_that_are_not_tall_are_resized_as_in_version_0_1(height: int, width: int) -> None:
    image = noise(height, width)
    assert np.array_equal(square(image, 12), square_in_one_call(image, 12))


@pytest.mark.parametrize("interpolation", sorted({*INTERPOLATIONS} - {"nearest", "box"}))  # without steps
@pytest.mark.parametrize(("height", "width"), [(480, 640), (37, 91), (91, 37), (64, 64)])
def test_the_centre_is_what_torchvision_cuts_out_of_the_resized_image(
    height: int, width: int, interpolation: str
) -> None:
    size, crop, image = 28, 0.875, noise(height, width)
    short, long = sorted((height, width))
    resized = {short: 32, long: 32 * long // short}
    method = Image.Resampling[interpolation.upper()]
    small = image.resize((resized[width], height), method).resize((resized[width], resized[height]), method)
    left, top = (round((side - size) / 2) for side in small.size)
    expected = np.asarray(small.crop((left, top, left + size, top + size))).transpose(2, 0, 1)
    found = centre(image, size, crop, interpolation)
    apart = np.abs(found.astype(int) - expected)
    assert apart.max() <= 1  # Pillow has the ends of what is taken in single precision
    assert (apart > 0).mean() < 0.05


def test_inputs_are_the_levels_of_bytes_less_the_mean_over_the_deviation() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    plain = normalised(pixels, 255, [0.3], [0.7])
    assert np.array_equal(plain, ((pixels / 255 - 0.3) / 0.7).astype(np.float32))
    levels = np.arange(17)
    bytes_of_levels = np.round(levels * 255 / 16).astype(np.uint8).reshape(1, 1, 17)
    assert np.array_equal(
        normalised(bytes_of_levels, 16, [0.3], [0.7])[0, 0], ((levels / 16 - 0.3) / 0.7).astype(np.float32)
    )


def test_each_channel_is_normalised_by_its_own_numbers() -> None:
    format = ImageFormat((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), image_size=2, channels=3)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    expected = [[((pixels[i, c] / 255 - format.mean[c]) / format.std[c]) for c in range(3)] for i in range(2)]
    assert np.array_equal(format.inputs(pixels), np.array(expected).astype(np.float32))


def test_images_without_resizing_have_the_digests_of_version_0_1() -> None:
    data = load_data("digits")
    assert [part.digest for part in (data.train, data.validation, data.test)] == [
        "d40345b6389191ac", "9111a1005663a150", "3709bfe3ef98c439",
    ]  # fmt: skip


def test_digits_are_resized_by_torch_as_in_version_0_1_if_asked() -> None:
    options = ImageOptions(image_size=12, mean=(0.0,), std=(1.0,), as_in_0_1=True)
    data, plain = load_data("digits", options=options), load_data("digits")
    assert data.images.resizing == "torch"
    levels = plain.train.inputs * plain.images.std[0] + plain.images.mean[0]
    floats = (levels * 16).round() * (255 / 16)
    resized = torch.nn.functional.interpolate(floats, size=(12, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(data.train.inputs, resized.round().clamp(0, 255) / 255)


def test_digits_are_resized_as_files_of_them_are(tmp_path: Path) -> None:
    data = load_data("digits", options=ImageOptions(image_size=12, mean=(0.0,), std=(1.0,)))
    expected = {image.numpy().tobytes() for image in data.train.inputs}
    found = set()
    for i, pixels in enumerate(load_digits().images):
        Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(tmp_path / f"{i}.png")
        with Image.open(tmp_path / f"{i}.png") as image:
            found.add(data.images.inputs(square(decode(image, 1), 12)).tobytes())
    assert expected <= found
