"""Compares the module of an ONNX file with the file itself in ONNX Runtime, and names the first node that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.errors import CaptureError
from supernets.networks.onnx_models.onnx_file import OnnxFile
from supernets.networks.onnx_models.onnx_module import OnnxModule
from supernets.networks.onnx_models.registry import OPERATORS, Node, OperatorCall, printable

EQUAL = 1e-5
"""The largest relative difference of outputs that is rounding in single precision."""
_EQUAL_HALF = 2e-2
"""The same for files of half precision, whose networks run in single precision here."""
_ROUNDING = 10
"""How much larger than the error of single precision itself a difference may be."""
_MAX_UNREAD = 2**24
"""The most numbers of an input that no node reads."""
_TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


@dataclass(frozen=True)
class OnnxOriginal:
    """The file that a module was read from.

    Attributes:
        names: The inputs, see `OnnxModule`.
        softmax: The softmax that the file ends with and the module lacks; None if it has none.
    """

    file: OnnxFile
    names: tuple[str, ...]
    fixed_batch: int | None
    is_quantised: bool = False
    softmax: Node | None = None

    def check(self, module: OnnxModule, x: Tensor, mask: Tensor | None = None) -> tuple[str, ...]:
        """Compares the outputs for an example; what a user should know of them, one sentence each.

        Raises:
            CaptureError: they differ; the message names the first node whose result does.
        """
        inputs, outputs = self._inputs(module, x, mask), self._outputs(module, x, mask)
        difference = _difference(outputs, self._run(self.file.model, self._output_names, inputs))
        if self.is_quantised:
            return (f"its outputs differ from the quantised file's by {difference:.1e} of their scale",)
        allowed = _EQUAL_HALF if self.file.half else EQUAL
        if difference <= allowed or difference <= _ROUNDING * self._error(module, x, mask, outputs):
            return ()
        raise CaptureError(
            f"its outputs in torch differ from those in ONNX Runtime by {difference:.1e} of their scale (at most "
            f"{allowed:g}){self._first_difference(module, x, mask, inputs)}; please report it",
            code="capture.other-outputs",
        )

    def difference(self, module: OnnxModule, x: Tensor, mask: Tensor | None = None) -> float:
        """The largest difference of the module's outputs from those of the file in ONNX Runtime, relative to their scale."""
        expected = self._run(self.file.model, self._output_names, self._inputs(module, x, mask))
        return _difference(self._outputs(module, x, mask), expected)

    @property
    def _output_names(self) -> list[str]:
        return [value.name for value in self.file.model.graph.output]

    def _inputs(self, module: OnnxModule, x: Tensor, mask: Tensor | None) -> list[NDArray[Any]]:
        return [tensor.numpy() for tensor in module.file_inputs(x, mask)]

    @torch.no_grad()
    def _outputs(self, module: OnnxModule, x: Tensor, mask: Tensor | None) -> list[Tensor]:
        """The module's outputs, as the file has them."""
        outputs = module.file_outputs(x, mask)
        if self.softmax is None:
            return outputs
        function = OPERATORS["", self.softmax.op]
        return [function(OperatorCall(self.softmax, [output])) for output in outputs]

    def _run(self, model: onnx.ModelProto, names: Sequence[str], inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Values of the file for an example, in as many runs as its fixed batch needs."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        # Constants are not folded: those of a branch that is not selected may end the process.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            content = model.SerializeToString()
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            array_of = dict(zip(self.names, inputs, strict=True))
            feeds = {
                value.name: _as_input(value, array_of.get(value.name), len(inputs[0])) for value in session.get_inputs()
            }
            n = len(inputs[0])
            batch = self.fixed_batch or n
            parts = []
            for start in range(0, n, batch):
                chosen = [min(i, n - 1) for i in range(start, start + batch)]  # the last one again, to fill up
                examples = {name: array[chosen] for name, array in feeds.items() if name in array_of}
                parts.append(session.run(list(names), feeds | examples))
        except Exception as error:  # of a library in C++
            first = str(error).strip().splitlines()[:1]
            raise CaptureError(
                f"ONNX Runtime does not run it: {printable(''.join(first)[:300])}", code="capture.other-outputs"
            ) from None
        joined = [np.concatenate(values) if np.ndim(values[0]) else values[0] for values in zip(*parts, strict=True)]
        filled = len(parts) * batch
        return [values[: len(values) * n // filled] if np.ndim(values) else values for values in joined]

    def _error(self, module: OnnxModule, x: Tensor, mask: Tensor | None, outputs: Sequence[Tensor]) -> float:
        """The error of single precision: how much outputs differ in double precision."""
        state = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        try:
            exact = self._outputs(module.double(), x.double() if x.is_floating_point() else x, mask)
        except (RuntimeError, CaptureError):  # constants of single precision in it
            return 0.0
        finally:
            module.float().load_state_dict(state)
        return _difference(outputs, [output.numpy() for output in exact])

    def _first_difference(
        self, module: OnnxModule, x: Tensor, mask: Tensor | None, inputs: Sequence[NDArray[Any]]
    ) -> str:
        """The first node whose result differs by more than its inputs do."""
        with torch.no_grad():
            values = module.values(x, mask)
        file_names = {name for node in self.file.model.graph.node for name in node.output}
        model = onnx.ModelProto()
        model.CopyFrom(self.file.model)
        names = [
            name
            for node in module.nodes
            for name in node.outputs
            if name in file_names and isinstance(values.get(name), Tensor) and values[name].is_floating_point()  # type: ignore[union-attr]
        ]
        existing = {value.name for value in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in existing)
        try:
            expected = self._run(model, names, inputs)
        except CaptureError:
            return ""
        node_of = {name: node for node in module.nodes for name in node.outputs}
        for name, array in zip(names, expected, strict=True):
            if _difference([values[name]], [array]) > 10 * EQUAL:  # type: ignore[list-item]
                return f", from {node_of[name].title} on"
        return ""


def _as_input(declared: Any, array: NDArray[Any] | None, n: int) -> NDArray[Any]:
    """An input in its type; zeros for one that no node reads, as tf2onnx leaves some."""
    if array is None:
        shape = [size if isinstance(size, int) else n for size in declared.shape]
        if prod(shape) > _MAX_UNREAD:
            raise ValueError(f"its input {declared.name[:60]}, which no node reads, has {prod(shape)} numbers")
        array = np.zeros(shape, np.float32)
    return array.astype(_TYPES.get(declared.type, array.dtype))


def _difference(outputs: Sequence[Tensor], expected: Sequence[NDArray[Any]]) -> float:
    """The largest difference relative to the scale of each output; infinite for other shapes and NaN."""
    arrays = [array for array in expected if array.dtype.kind == "f"]
    if [tuple(output.shape) for output in outputs] != [array.shape for array in arrays]:
        return float("inf")
    worst = 0.0
    for output, array in zip(outputs, arrays, strict=True):
        outputs_64, expected_64 = output.detach().double().numpy(), array.astype(np.float64)
        same = (outputs_64 == expected_64) | (np.isnan(outputs_64) & np.isnan(expected_64))
        with np.errstate(invalid="ignore"):
            distance = np.where(same, 0.0, np.abs(outputs_64 - expected_64))
        finite = np.abs(expected_64[np.isfinite(expected_64)])
        scale = max(float(finite.max(initial=0.0)), 1e-30)
        worst = max(worst, float(distance.max(initial=0.0)) / scale)
        if np.isnan(distance).any():
            return float("inf")
    return worst
