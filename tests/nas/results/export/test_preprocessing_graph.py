"""Preprocessing in the graph equals the training's to the last bit, for images of any size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hardware_profiles.runtime import run_calls, run_model
from nas.results.export.preprocessing_graph import IMAGE, add_preprocessing, check_available
from supernets.data import ImageFormat, TextFormat
from tests.errors import raises
from tests.supernets.data.test_preprocessing import SIZES, noise


def identity(format: ImageFormat) -> bytes:
    """A network whose outputs are its inputs."""
    shape = ["batch", format.channels, format.image_size, format.image_size]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["output"])], "identity", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("size", [1, 5, 12, 64])
@pytest.mark.parametrize(
    "format",
    [
        ImageFormat((0.4,), (0.2,), 12, 1),
        ImageFormat((0.4,), (0.2,), 12, 1, levels=16),
        ImageFormat((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 12, 3),
        ImageFormat((0.4,), (0.2,), 12, 1, crop=0.875),
        ImageFormat((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 12, 3, crop=0.9, interpolation="bicubic"),
        ImageFormat((0.4,), (0.2,), 12, 1, interpolation="bicubic"),
        ImageFormat((0.4,), (0.2,), 12, 1, resizing="letterbox"),
        ImageFormat((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 12, 3, resizing="letterbox"),
    ],
)
def test_images_of_every_size_are_preprocessed_to_the_bit(format: ImageFormat, size: int) -> None:
    format = replace(format, image_size=size)
    model = add_preprocessing(identity(format), format)
    onnx.checker.check_model(model, full_check=True)
    images = [noise(height, width, mode="L" if format.channels == 1 else "RGB") for height, width in SIZES]
    raw = [np.asarray(image).reshape(1, image.height, image.width, format.channels) for image in images]
    for image, (found,) in zip(images, run_calls(model, ({IMAGE: pixels} for pixels in raw)), strict=True):
        assert np.array_equal(found[0], format.inputs(format.resized(image)))


def test_a_batch_of_images_of_one_size_is_preprocessed() -> None:
    format = ImageFormat((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 7, 3)
    model = add_preprocessing(identity(format), format)
    batch = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
    (together,) = run_model(model, {IMAGE: batch})
    alone = [run_model(model, {IMAGE: image[None]})[0][0] for image in batch]
    assert np.array_equal(together, alone)


def test_preprocessing_that_has_no_operators_is_refused() -> None:
    text = TextFormat(100, 0, 16, "{}", typical_tokens=8, padding_token="[PAD]", special_tokens=())
    with raises("export.preprocessing-unavailable", "tokenizers"):
        check_available(text)
    with raises("export.preprocessing-unavailable", "version 0.1", "torch"):
        check_available(ImageFormat((0.5,), (0.5,), 8, 1, resizing="torch"))
    with raises("export.preprocessing-unavailable", "lanczos", "bilinear or bicubic"):
        check_available(ImageFormat((0.5,), (0.5,), 8, 1, interpolation="lanczos"))
    check_available(ImageFormat((0.5,), (0.5,), 8, 1))
