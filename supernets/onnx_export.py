"""Subnets as ONNX: written directly where that is possible, and by torch's exporter where not."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from supernets.errors import ExportError, LoweringError
from supernets.graph import BATCH, INPUT, LENGTH_NAME, OPSET, OUTPUT, TOKENS, input_shape_of, lower

__all__ = ["BATCH", "INPUT", "OPSET", "OUTPUT", "onnx_model", "to_onnx"]


def to_onnx(module: nn.Module, example: Tensor) -> bytes:
    """A serialised ONNX model with a dynamic batch (and length, of sentences), by torch's current exporter, in seconds.

    It shares nothing with `onnx_model`'s own way, so that the tests hold the one against the other.

    Args:
        module: in eval mode.
        example: (n, ...) real inputs; n is at least 2, so that the batch is not taken for a constant.

    Raises:
        ExportError: the exporter refuses the module.
    """
    dynamic = {0: torch.export.Dim(BATCH)}
    if input_shape_of(example) == TOKENS:
        dynamic[1] = torch.export.Dim(LENGTH_NAME)
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
                dynamic_shapes=(dynamic,),
                opset_version=OPSET,
                verbose=False,
            )
        model: bytes = program.model_proto.SerializeToString()
    except Exception as error:
        raise ExportError(f"torch's exporter refused the network: {error}") from error
    finally:
        logger.setLevel(level)
    return model


def onnx_model(module: nn.Module, example: Tensor) -> bytes:
    """A serialised ONNX model with a dynamic batch: in milliseconds where our walk knows all operations, else by `to_onnx`.

    Args:
        module: in eval mode.
        example: (n, ...) real inputs, n at least 2, for torch's exporter; the walk reads their shape alone.

    Raises:
        ExportError: neither the walk nor torch's exporter can write the module.
    """
    try:
        return lower(module, input_shape_of(example))
    except LoweringError as refused:
        try:
            return to_onnx(module, example)
        except ExportError as error:
            raise ExportError(f"{error} (and it cannot be written directly: {refused})") from error
