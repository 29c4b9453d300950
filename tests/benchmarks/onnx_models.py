"""ONNX models by torch's own exporters, and sessions of ONNX Runtime on one thread, as the measuring worker opens them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from supernets.networks.module_to_onnx import BATCH, INPUT, OPSET, OUTPUT


def exported_by_torch(module: nn.Module, example: Tensor, *, dynamo: bool, opset: int = OPSET) -> bytes:
    """The model by one of torch's exporters, with a dynamic batch."""
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT]}
    options: dict[str, Any] = {**names, "opset_version": opset, "dynamo": dynamo}
    if dynamo:
        shapes = ({0: torch.export.Dim(BATCH)},)
        program: Any = torch.onnx.export(module, (example,), dynamic_shapes=shapes, verbose=False, **options)
        return bytes(program.model_proto.SerializeToString())
    buffer: Any = io.BytesIO()  # which its types do not name
    torch.onnx.export(module, (example,), buffer, dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}}, **options)
    return bytes(buffer.getvalue())


def open_session(model: bytes, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """A session with all graph optimisations, which saves its graph where a path is passed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimised:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
