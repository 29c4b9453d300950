"""ONNX Runtime."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class OnnxRuntime:
    """Models in ONNX Runtime; devices are its execution providers. Implements `Runtime`."""

    label: ClassVar[str] = "ONNX Runtime"
    package: ClassVar[str] = "onnxruntime"
    device: ClassVar[str] = "CPUExecutionProvider"
    precisions: ClassVar[Mapping[str, Sequence[str]]] = {
        "CPUExecutionProvider": ("fp32", "int8"),
        "CUDAExecutionProvider": ("fp32", "fp16", "bf16"),
        "TensorrtExecutionProvider": ("fp32", "fp16", "bf16"),
    }
    # Precisions that are not listed are cast to float32, or computed on the CPU.
    reasons: ClassVar[Mapping[tuple[str, str], str]] = {
        ("CPUExecutionProvider", "fp16"): "ONNX Runtime casts it to fp32 on a CPU",
        ("CPUExecutionProvider", "bf16"): "ONNX Runtime has no bf16 kernels for a CPU",
        ("CUDAExecutionProvider", "int8"): "ONNX Runtime's CUDA kernels compute int8 models in fp32",
        (
            "TensorrtExecutionProvider",
            "int8",
        ): "TensorRT needs int8 activations, and this package quantizes them to uint8",
    }

    def version(self) -> str:
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # nothing but the models may use the CPU
        return str(onnxruntime.__version__)

    def devices(self) -> list[str]:
        import onnxruntime

        return list(onnxruntime.get_available_providers())

    def convert(self, model: bytes, inputs: Mapping[str, Any]) -> bytes:
        """The model, which is read as it is."""
        return model

    def load(
        self, model: bytes, *, device: str, cpus: Sequence[int], inputs: Sequence[Mapping[str, Any]], whole: bool
    ) -> Session:
        return Session(model, device, cpus, whole=whole)


class Session:
    """A session of one provider; `run` is the session's own, without a call of Python in between."""

    def __init__(self, model: bytes, provider: str, cpus: Sequence[int], *, whole: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(cpus)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        if len(cpus) > 1:  # the runtime counts processors from 1; the calling thread is its first
            others = ";".join(str(cpu + 1) for cpu in cpus[1:])
            options.add_session_config_entry("session.intra_op_thread_affinities", others)
        if whole and provider != "CPUExecutionProvider":  # or the CPU's time would count as the provider's
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = onnxruntime.InferenceSession(model, options, providers=[provider], enable_fallback=False)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            if "fallback to CPU EP has been explicitly disabled" in str(error):
                raise RuntimeError(
                    f"the provider {provider} does not run all of the model's operations and leaves some to the CPU; "
                    "choose another precision or another provider"
                ) from error
            raise
        session.disable_fallback()
        self.devices = session.get_providers()
        if self.devices[0] != provider:
            raise RuntimeError(
                f"the provider {provider} cannot start; check that the libraries that it needs are installed"
            )
        self.run = functools.partial(session.run, None)
