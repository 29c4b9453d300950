"""OpenVINO."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

_UNKNOWN = re.compile(r"No conversion rule found for operations: (.+)")
_PLACE = re.compile(r"Exception from |Check '.*' failed at ")
"""Lines of an error that name a place in OpenVINO's code."""


class OpenVino:
    """Models in OpenVINO, in float32 arithmetic or, from int8 models, in int8. Implements `Runtime`."""

    label: ClassVar[str] = "OpenVINO"
    package: ClassVar[str] = "openvino"
    device: ClassVar[str] = "CPU"
    precisions: ClassVar[Mapping[str, Sequence[str]]] = {"CPU": ("fp32", "int8")}
    reasons: ClassVar[Mapping[tuple[str, str], str]] = {
        ("CPU", "fp16"): "it is measured in fp32 arithmetic in OpenVINO on a CPU",
        ("CPU", "bf16"): "it is measured in fp32 arithmetic in OpenVINO on a CPU",
    }

    def version(self) -> str:
        import openvino

        return str(openvino.__version__)

    def devices(self) -> list[str]:
        import openvino

        return list(openvino.Core().available_devices)

    def convert(self, model: bytes, inputs: Mapping[str, Any]) -> bytes:
        """The model, which is read as it is."""
        return model

    def load(
        self, model: bytes, *, device: str, cpus: Sequence[int], inputs: Sequence[Mapping[str, Any]], whole: bool
    ) -> Compiled:
        return Compiled(model, device, len(cpus), inputs)


class Compiled:
    """A compiled model, with the memory of one request."""

    def __init__(self, model: bytes, device: str, threads: int, inputs: Sequence[Mapping[str, Any]]) -> None:
        import openvino

        self.devices = [device]
        core = openvino.Core()
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}  # or some processors compute in bfloat16
        if device == "CPU":
            settings.update(INFERENCE_NUM_THREADS=threads, NUM_STREAMS=1, ENABLE_CPU_PINNING=threads > 1)
        try:
            network = core.read_model(model)
            shapes = [{name: tuple(array.shape) for name, array in call.items()} for call in inputs]
            if shapes and all(shape == shapes[0] for shape in shapes):  # it then plans its memory once
                network.reshape({name: list(shape) for name, shape in shapes[0].items()})
            self._request = core.compile_model(network, device, settings).create_infer_request()
        except RuntimeError as error:
            raise RuntimeError(_reason(str(error))) from error

    def run(self, inputs: Mapping[str, Any]) -> Mapping[Any, Any]:
        """The outputs, in the runtime's memory: the next call overwrites them."""
        outputs: Mapping[Any, Any] = self._request.infer(inputs, share_inputs=True, share_outputs=True)
        return outputs


def _reason(message: str) -> str:
    """The fault of a model, from the text of OpenVINO's error."""
    if unsupported := _UNKNOWN.search(message):
        return f"OpenVINO does not support the model's operations {unsupported[1]}"
    lines = [line for line in message.splitlines() if line.strip() and not _PLACE.match(line)]
    return " ".join(" ".join(lines).split()) or message
