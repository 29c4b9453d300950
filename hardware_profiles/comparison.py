"""Compares the latencies of ONNX files that are measured in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware_profiles.base import HardwareProfile, LatencyMeasurement
from hardware_profiles.errors import ModelError
from hardware_profiles.model_file import measure_together


@dataclass(frozen=True, slots=True)
class LatencyComparison:
    """Latencies of models of one session, the fastest first; ``str`` gives a table.

    Attributes:
        models: Paths of the models as they were given, the fastest first.
        measurements: Measurements in the order of `models`.
    """

    models: tuple[str, ...]
    measurements: tuple[LatencyMeasurement, ...]

    def is_tie(self, model: str, other_model: str) -> bool:
        """Returns True if two models differ by no more than the larger of their resolutions.

        Args:
            model: Path of a model, as `models` has it.
            other_model: Path of the other one; a model is a tie with itself.

        Raises:
            ModelError: one of them was not compared.
        """
        a, b = self[model], self[other_model]
        return abs(a.latency_ms - b.latency_ms) <= max(a.resolution * a.latency_ms, b.resolution * b.latency_ms)

    @property
    def fastest(self) -> tuple[str, ...]:
        """The fastest model, and those that are no slower as far as can be distinguished."""
        return tuple(model for model in self.models if self.is_tie(self.models[0], model))

    def __getitem__(self, model: str) -> LatencyMeasurement:
        if model not in self.models:
            raise ModelError(
                f"{model} was not compared; expected one of {', '.join(self.models)}", code="model.not-compared"
            )
        return self.measurements[self.models.index(model)]

    def __str__(self) -> str:
        first, width = self.measurements[0], max(map(len, self.models))
        lines = []
        for model, measurement in zip(self.models, self.measurements, strict=True):
            beside = f"{measurement.latency_ms / first.latency_ms:.2f} times {self.models[0]}"
            if model == self.models[0]:
                beside = ""
            elif self.is_tie(self.models[0], model):
                beside = f"tie with {self.models[0]}"
            error = measurement.resolution * measurement.latency_ms
            lines.append(f"{model:<{width}}  {measurement.latency_ms:.4f} ± {error:.4f} ms  {beside}".rstrip())
        return "\n".join(lines)


def compare_latency(
    models: Sequence[Path | str],
    profile: HardwareProfile | str = "cpu-1-thread",
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    precision: str = "fp32",
    longer: bool = True,
    on_wait: Callable[[str], None] | None = None,
) -> LatencyComparison:
    """The latencies of ONNX files, measured in turns in the same rounds, so that other load affects all alike.

        print(compare_latency(["small.onnx", "large.onnx"]))

    The arguments are as those of `hardware_profiles.model_file.measure_latency`; the shapes are those of all models.

    Args:
        models: Paths of the files, at least two and each once; their inputs are random.
        profile: Profile to measure on; or the name of one of the catalog, or the path of a profile file.
        shapes: Complete shapes, batch included, of inputs with dynamic dimensions, by the inputs' names; None for none.
        precision: Precision that all models are converted to before they are measured; fp32 measures them unchanged.
        longer: True for more rounds, as for final measurements.
        on_wait: Receives a message when another measurement holds the host; None waits silently.

    Raises:
        ModelError: fewer than two models, one twice, or more than share their rounds; or as `measure_latency`.
        PrecisionError, ProfileError, WorkerError: as `measure_latency`.
    """
    names = [str(model) for model in models]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ModelError(f"compare_latency({names}): expected at least 2 different files", code="model.not-comparable")
    measurements = measure_together(models, profile, shapes=shapes, precision=precision, longer=longer, on_wait=on_wait)
    order = sorted(range(len(names)), key=lambda i: measurements[i].latency_ms)
    return LatencyComparison(tuple(names[i] for i in order), tuple(measurements[i] for i in order))
