"""The protocol of an additional metric, and the network that it gets (no torch, no numpy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hardware_profiles.base import HardwareProfile
    from supernets.space import Architecture
    from supernets.space.cost import Cost

_BATCH = 100
"""Examples a call of the runtime."""


@dataclass(frozen=True, slots=True)
class MeasuredNetwork:
    """A network as it is deployed, with what a metric may be computed or measured from.

    Attributes:
        model: the ONNX model, serialised, in its precision.
        cost: its parameters, multiply-accumulates and activation bytes (in fp32) for one example, total and by block.
        inputs: the examples that accuracy is taken on, preprocessed, (n, ...).
        labels: Labels of these examples, (n,).
        input_name: Name of the model's input.
        profile: the hardware profile that the value is asked for; None unless the metric is per profile.
        runtime: Runtime in which the network is deployed.
    """

    architecture: Architecture
    precision: str
    model: bytes
    cost: Cost
    inputs: NDArray[Any]
    labels: NDArray[Any]
    input_name: str
    profile: HardwareProfile | None = None
    runtime: str = "onnxruntime"

    def outputs(self, inputs: NDArray[Any] | None = None) -> NDArray[Any]:
        """The model's outputs for examples, (n, ...); None stands for `inputs`. Raises `ModelError` if it does not run."""
        import numpy as np  # a job file's metrics are checked before anything is imported that takes long

        from hardware_profiles.runtime import run_calls

        examples = self.inputs if inputs is None else inputs
        calls = ({self.input_name: examples[i : i + _BATCH]} for i in range(0, len(examples), _BATCH))
        answers = run_calls(self.model, calls, runtime=self.runtime)
        return np.concatenate([outputs[0] for outputs in answers])


class Metric(Protocol):
    """An additional metric: its constructor takes the settings of the job.

    Attributes:
        unit: Unit of its values, for display, e.g. ``mJ``.
        goal: ``minimize`` or ``maximize``.
        per_profile: True if a value belongs to a hardware profile, as a latency does.
    """

    unit: ClassVar[str]
    goal: ClassVar[str]
    per_profile: ClassVar[bool] = False

    def measure(self, network: MeasuredNetwork) -> tuple[float, float]:
        """The value and its standard error (0 where it is exact), both finite.

        What it raises makes the evaluation of this network fail; the search continues.
        """
        ...
