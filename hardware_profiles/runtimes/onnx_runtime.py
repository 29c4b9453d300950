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
        "CPUExecutionProvider": ("fp32", "int8", "int4"),
        "CUDAExecutionProvider": ("fp32", "fp16", "bf16"),
        "TensorrtExecutionProvider": ("fp32", "fp16", "bf16"),
    }
    reads_files: ClassVar[bool] = True
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
        self, model: bytes | str, *, device: str, cpus: Sequence[int], inputs: Sequence[Mapping[str, Any]], whole: bool
    ) -> Session:
        """A session as `Runtime.load` opens it; one that is made of bytes keeps a copy of them, one of a file does not."""
        return Session(model, device, cpus, exclusive=whole)


class Session:
    """A session of one provider; `run` is the session's own, without a call of Python in between, unless it runs in place.

    Attributes:
        in_place: names of outputs, with the inputs in whose memory they are written: outputs ``present.X`` of the declared
            shape of an input ``past.X``, on a CPU. After a run the arrays of these inputs hold the outputs.
    """

    def __init__(self, model: bytes | str, provider: str, cpus: Sequence[int], *, exclusive: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(cpus)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        if len(cpus) > 1:  # the runtime counts processors from 1; the calling thread is its first
            affinities = ";".join(str(cpu + 1) for cpu in cpus[1:])
            options.add_session_config_entry("session.intra_op_thread_affinities", affinities)
        if exclusive and provider != "CPUExecutionProvider":  # or the CPU's time would count as the provider's
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
        self._session, self._outputs = session, [output.name for output in session.get_outputs()]
        self.in_place = _in_place(session) if provider == "CPUExecutionProvider" else {}
        self._bound: dict[str, Any] = {}
        self.run = self._run_in_place if self.in_place else functools.partial(session.run, None)

    def _run_in_place(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of a call by name; those of `in_place` are the inputs' own arrays."""
        if not self._bound or any(inputs[name] is not array for name, array in self._bound.items()):
            self._bind({name: inputs[name] for name in self.in_place.values()})
        for name in inputs:
            if name not in self._bound:
                self._binding.bind_cpu_input(name, inputs[name])
        for name in self._other_outputs:
            self._binding.bind_output(name)
        self._session.run_with_iobinding(self._binding)
        value_by_name = dict(zip([*self.in_place, *self._other_outputs], self._binding.get_outputs()))  # noqa: B905 - Python 3.9
        return {
            name: inputs[self.in_place[name]] if name in self.in_place else value_by_name[name].numpy()
            for name in self._outputs
        }

    def _bind(self, caches: dict[str, Any]) -> None:
        """Reads and writes the memory of these arrays, by input, from now on."""
        from onnxruntime import OrtValue

        self._bound, self._binding = caches, self._session.io_binding()
        self._other_outputs = [name for name in self._outputs if name not in self.in_place]
        for output, name in self.in_place.items():
            cache = OrtValue.ortvalue_from_numpy(caches[name])
            self._binding.bind_ortvalue_input(name, cache)
            self._binding.bind_ortvalue_output(output, cache)


def _in_place(session: Any) -> dict[str, str]:
    """The input in whose memory an output is written, by name of the output; empty for most models."""
    shapes = {tensor.name: tensor.shape for tensor in session.get_inputs()}
    pairs = {tensor.name: tensor.name.replace("present.", "past.", 1) for tensor in session.get_outputs()}
    shared = {tensor.name for tensor in session.get_outputs() if shapes.get(pairs[tensor.name]) == tensor.shape}
    return {output: name for output, name in pairs.items() if output in shared and output != name}
