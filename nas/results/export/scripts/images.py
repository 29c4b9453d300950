"""Predicts for the image files on its command line, by the network beside it.

Needs numpy and Pillow, and onnxruntime for ONNX models, or torch and transformers for a folder of that library.

The preprocessing is the one that the network was trained with. Where it names torch for resizing, the network was trained on
images that torch resized; Pillow's bytes may differ from those by 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.results.export.scripts.prediction import Network, arguments, network_beside, predict
from supernets.data.preprocessing import centre, decode, letterbox, normalised, square, square_in_one_call


def preprocessor(network: Network) -> Callable[[str], NDArray[Any]]:
    """A function from an image file to the network's input, a batch of 1.

    Where the network itself resizes and normalises, its input is the bytes of the image.
    """

    def preprocess(file: str) -> NDArray[Any]:
        with Image.open(file) as image:
            return inputs_of(network.how, decode(image, len(network.how["mean"])))

    return preprocess


def inputs_of(how: Mapping[str, Any], image: Image.Image) -> NDArray[Any]:
    """The input of a network with this preprocessing for a decoded image, a batch of 1."""
    if "in_graph" in how:
        return np.asarray(image).reshape(1, image.height, image.width, -1)
    if "crop_share" in how:
        pixels = centre(image, how["size"][0], how["crop_share"], how["filter"])
    elif how["resizing"] == "letterbox":
        pixels = letterbox(image, how["size"][0])
    elif how["resizing"] == "pillow-in-one-call":
        pixels = square_in_one_call(image, how["size"][0])
    else:
        pixels = square(image, how["size"][0])
    return normalised(pixels, how["levels"], how["mean"], how["std"])[None]


if __name__ == "__main__":
    files = arguments(__doc__, "FILE")
    beside = network_beside(Path(__file__))
    predict(beside, files, preprocessor(beside))
