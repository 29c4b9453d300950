"""Writes ONNX files of Keras' applications by tf2onnx, in an environment that has these alone (see `onnx_import`)."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

MODELS = {
    "MobileNet": (96, 13),
    "MobileNetV2": (96, 15),
    "MobileNetV3Small": (96, 15),
    "EfficientNetB0": (96, 15),
    "ResNet50": (64, 15),
    "ResNet50V2": (64, 15),
    "DenseNet121": (64, 15),
    "Xception": (96, 15),
}
"""Image size and opset by name."""


def main(folder: Path) -> None:
    """Writes the files that a folder lacks."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    tensorflow, tf2onnx = import_module("tensorflow"), import_module("tf2onnx")
    for name, (size, opset) in MODELS.items():
        if (path := folder / f"keras-{name}-{opset}.onnx").exists():
            continue
        model = getattr(tensorflow.keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=20)
        signature = (tensorflow.TensorSpec((None, size, size, 3), tensorflow.float32, name="input"),)
        forward = tensorflow.function(lambda x, network=model: network(x, training=False), input_signature=signature)
        content, _ = tf2onnx.convert.from_function(forward, input_signature=signature, opset=opset)
        path.write_bytes(content.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
