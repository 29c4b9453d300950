"""Subnets as ONNX, by torch's exporters: a quick one for measuring and the current one for what users are given."""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from supernets.errors import ExportError

INPUT, OUTPUT, BATCH = "input", "logits", "batch"
OPSET = 18
"""What torch's current exporter writes by itself; asking for another one only adds a conversion."""


def to_onnx(module: nn.Module, example: Tensor) -> bytes:
    """A serialised ONNX model with a dynamic batch, by torch's current exporter (seconds); for what is given to users.

    Args:
        module: in eval mode.
        example: (n, ...) real inputs; n is at least 2, so that the batch is not taken for a constant.

    Raises:
        ExportError: the exporter refuses the module.
    """
    logger, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing of ours
            program: Any = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim(BATCH)},),
                opset_version=OPSET,
                verbose=False,
            )
        model: bytes = program.model_proto.SerializeToString()
    except Exception as error:
        raise ExportError(f"torch's exporter refused the network: {error}") from error
    finally:
        logger.setLevel(level)
    return model


def to_onnx_quick(module: nn.Module, example: Tensor) -> bytes:
    """The same by torch's older exporter (a tenth of a second); for measuring only.

    Raises:
        ExportError: the exporter refuses the module.
    """
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated, which its successor's price outweighs here
            torch.onnx.export(
                module,
                (example,),
                buffer,  # type: ignore[arg-type]  # the older exporter takes a file object
                dynamo=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
                opset_version=OPSET,
            )
    except Exception as error:
        raise ExportError(f"torch's exporter refused the network: {error}") from error
    return buffer.getvalue()
