"""The contract of a runtime: it converts, loads and runs models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[Any]]
"""The arrays of a call, by name of the model's input."""


class LoadedModel(Protocol):
    """A model in a runtime, ready to be called."""

    devices: Sequence[str]
    """The devices that run it, the requested one first."""

    def run(self, inputs: Inputs) -> Sequence[NDArray[Any]] | Mapping[Any, NDArray[Any]]:
        """The outputs of a call, or a mapping to them, in the model's order; the next call may overwrite them.

        Everything that it does is timed.
        """


class Runtime(Protocol):
    """A runtime, which a profile or a job names as ``module:Class``; its constructor takes no arguments.

    The source of its module is sent to the measuring process, which may run on a board. The module therefore needs Python
    3.9, the standard library and numpy alone, imports the runtime's package inside of methods, and nothing of its own
    package. `convert` runs on the machine of the search, the other methods on both.

    Attributes:
        label: its name in messages.
        package: The package that Python imports; `pip install` takes the same name.
        device: The device of a profile that names none.
        precisions: The precisions in which each device computes, by device; other devices are used in fp32 alone.
        reasons: The reason why a device does not compute in a precision, for the error.
        reads_files: Optional: True if `load` takes the path of a file in place of a model's bytes, which saves a copy of them.
    """

    label: ClassVar[str]
    package: ClassVar[str]
    device: ClassVar[str]
    precisions: ClassVar[Mapping[str, Sequence[str]]]
    reasons: ClassVar[Mapping[tuple[str, str], str]]

    def version(self) -> str:
        """The version of the package. Raises `ImportError` where it is not installed."""

    def devices(self) -> list[str]:
        """The devices that it can use here."""

    def convert(self, model: bytes, inputs: Inputs) -> bytes:
        """Converts a serialised ONNX model to the bytes that `load` reads: the same bytes where the runtime reads ONNX.

        Args:
            model: The serialised ONNX model.
            inputs: The inputs of a call, for runtimes that need fixed shapes.
        """

    def load(
        self, model: bytes, *, device: str, cpus: Sequence[int], inputs: Sequence[Inputs], whole: bool
    ) -> LoadedModel:
        """A converted model, loaded; how long this takes is measured. Raises any error if it cannot be.

        Args:
            model: The result of `convert`.
            device: The device that runs it.
            cpus: The CPUs to compute on, one thread for each; the calling thread is pinned to the first of them.
            inputs: The inputs of the calls that it will be run with; empty where their shapes are not known.
            whole: True if the device must run every operation.
        """
