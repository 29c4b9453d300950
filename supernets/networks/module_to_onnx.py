"""Export of modules to ONNX: by their programs if possible, else by torch's exporter."""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from supernets.errors import ExportError, LoweringError
from supernets.networks.network import network_of
from supernets.networks.onnx_graph.ir import BATCH, INPUT, LENGTH_NAME, OUTPUT
from supernets.networks.onnx_graph.serialise import OPSET

__all__ = ["BATCH", "INPUT", "OPSET", "OUTPUT", "lower", "onnx_model", "to_onnx"]
_COLOUR = re.compile(r"\x1b\[\d+m")


def lower(module: nn.Module, example: Tensor) -> bytes:
    """A serialised ONNX model with a dynamic batch (and sentence length), by the module's program.

    Args:
        module: Module in eval mode, with float32 tensors.
        example: (n, ...) inputs, n at least 2; only their shape and type are read.

    Raises:
        LoweringError: an operation has no rule, or the forward cannot be traced; the message names it.
    """
    return network_of(module, example).onnx()


def to_onnx(module: nn.Module, example: Tensor) -> bytes:
    """A serialised ONNX model with a dynamic batch (and sentence length), by torch's exporter, in seconds.

    Shares no code with `lower`, so that tests compare the two.

    Args:
        module: Module in eval mode.
        example: (n, ...) real inputs; n is at least 2, because the exporter treats a batch of 1 as a constant.

    Raises:
        ExportError: the exporter rejects the module.
    """
    dynamic = {0: torch.export.Dim(BATCH)}
    if example.dtype == torch.int64:
        dynamic[1] = torch.export.Dim(LENGTH_NAME)
    logger, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporter
            program: Any = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=((dynamic,),) if _takes_any_number(module) else (dynamic,),
                opset_version=OPSET,
                verbose=False,
            )
        model: bytes = program.model_proto.SerializeToString()
    except Exception as error:
        raise ExportError(f"torch's exporter rejected the network: {_summary(error)}") from error
    finally:
        logger.setLevel(level)
    return model


def _summary(error: Exception) -> str:
    """The first line of an error of torch's exporter, without its advice on torch's source code."""
    text = str(error).strip().partition("\n")[0]
    return _COLOUR.sub("", text).partition("This is step ")[0].strip().rstrip(".")


def _takes_any_number(module: nn.Module) -> bool:
    """Returns whether a module's forward is ``forward(*inputs)``."""
    return any(
        parameter.kind is parameter.VAR_POSITIONAL
        for parameter in inspect.signature(module.forward).parameters.values()
    )


def onnx_model(module: nn.Module, example: Tensor) -> bytes:
    """A serialised ONNX model with a dynamic batch: by `lower` if it can, else by `to_onnx`.

    Args:
        module: Module in eval mode.
        example: (n, ...) real inputs, n at least 2.

    Raises:
        ExportError: neither of them can write the module.
    """
    try:
        return lower(module, example)
    except LoweringError as rejected:
        if find_spec("onnxscript") is None:
            raise ExportError(
                f"torch's exporter needs onnxscript (the network cannot be written without: {rejected}); install it with: "
                "pip install 'subnet-nas[onnx-dynamo]'",
                code="part.missing",
            ) from rejected
        try:
            return to_onnx(module, example)
        except ExportError as error:
            raise ExportError(
                f"{rejected}; write that part of the network with other operations ({error})", code=error.code
            ) from error
