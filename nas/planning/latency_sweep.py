"""Width sweeps: latency against the widths of a job's stages, and the widths at the ends of latency steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hardware_profiles.base import Deployment, HardwareProfile, LatencyProfiler
from hardware_profiles.latency_steps import step_ends
from hardware_profiles.measuring.profiler import MAX_BATCH
from hardware_profiles.profiler_factory import open_profiler
from nas.build.prepared_job import PreparedJob
from nas.errors import EvaluationError
from nas.evaluation.environments import Environments
from nas.planning.latencies import measure_all
from supernets.families.mobile_cnn.family import MobileCNN, MobileCNNFamily
from supernets.families.mobile_cnn.spec import StageSpec
from supernets.families.shared.convolutional_spec import MAX_WIDTH
from supernets.graph import INPUT, lower

MAX_WIDTHS = 48
"""Most widths of a stage, unless a step is given."""
_ANCHORS = 2
_VECTOR = 16
"""Float32 numbers in the longest vectors of current CPUs, a multiple of those of others (4, 8)."""


@dataclass(frozen=True, slots=True)
class WidthSweep:
    """The widths of one stage with their latencies.

    Attributes:
        stage: index of the stage.
        spec: the stage in the job.
        widths: measured, (n,), ascending.
        latency_ms: of the blocks that depend on the width, (n,), per batch.
        errors_ms: differences below which two of the latencies tie, (n,).
        aligned: the widths at the end of a step; all widths if there are no steps.
        chosen: the aligned widths nearest to the stage's options; the options themselves if there are no steps.
    """

    stage: int
    spec: StageSpec
    widths: tuple[int, ...]
    latency_ms: tuple[float, ...]
    errors_ms: tuple[float, ...]
    aligned: tuple[int, ...]
    chosen: tuple[int, ...]

    @property
    def stepped(self) -> bool:
        """Whether there are steps, so that some widths are better than their neighbours."""
        return self.aligned != self.widths


def sweep(
    prepared: PreparedJob,
    profile: HardwareProfile,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    step: int | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> list[WidthSweep]:
    """One sweep per stage of the job's space, measured on the profile in fp32.

    It measures every block that depends on the width: those of the stage and the first one after it, whose hidden channels
    are a multiple of the width. All other dimensions have their middle options, and the inputs are outputs of the
    (untrained) previous layers for real images; no kernel depends on the values of weights.

    Args:
        on_progress: receives the numbers of measured widths and of all widths.
        step: between widths; by default the least power of two that gives at most `MAX_WIDTHS` widths.
        on_wait: receives a message when another measurement holds the host.

    Raises:
        EvaluationError: the family has no widths, the step is invalid, a block fails, or the machine was replaced.
        ProfileError, WorkerError: the profile cannot be measured.
    """
    family = prepared.supernets.family
    if not isinstance(family, MobileCNNFamily):
        message = f"a sweep needs the family {MobileCNNFamily.name}, whose stages have widths, got {family.name}"
        raise EvaluationError(message, code="sweep.unsupported-family")
    stages = family.spec.stages
    widths = [swept_widths(stage.width, step) for stage in stages]
    total, done = sum(map(len, widths)), 0
    found = []
    environments = Environments()
    with open_profiler(profile, seed=prepared.config.seed, on_wait=on_wait) as profiler:
        for s, stage in enumerate(stages):
            on_progress(done, total)
            (examples,) = prepared.data.timed_batches(profile)  # images have one shape
            images = torch.from_numpy(examples)
            deployments = [_deployment(family, s, width, images, prepared.config.seed) for width in widths[s]]
            latency, errors = _measure(profiler, deployments, f"profile {profile.name}", f"stage {s}", environments)
            aligned = step_ends(widths[s], latency, errors)
            chosen = stage.width if aligned == widths[s] else nearest(aligned, stage.width)
            found.append(WidthSweep(s, stage, widths[s], latency, errors, aligned, chosen))
            done += len(widths[s])
        on_progress(done, total)
    return found


def swept_widths(options: Sequence[int], step: int | None = None) -> tuple[int, ...]:
    """Multiples of the step from half of the smallest option to the next multiple of 16 above the largest, ascending.

    The last fills whole vectors, so that the widths below are compared with a fast one.
    """
    low, high = max(1, options[0] // 2), min((options[-1] // _VECTOR + 1) * _VECTOR, MAX_WIDTH)
    if step is None:
        step = 1
        while high // step - (low - 1) // step > MAX_WIDTHS:
            step *= 2
    if not 1 <= step <= high:
        raise EvaluationError(f"expected a step between widths from 1 to {high}, got {step}", code="sweep.invalid-step")
    return tuple(range(-(-low // step) * step, high + 1, step))


def nearest(aligned: Sequence[int], options: Sequence[int]) -> tuple[int, ...]:
    """The aligned width nearest to each option, the narrower of two at equal distance; without duplicates."""
    return tuple(sorted({min(aligned, key=lambda width: (abs(width - option), width)) for option in options}))


def to_json(sweeps: Sequence[WidthSweep]) -> list[dict[str, Any]]:
    """The stages in the output of `nas profile --sweep --json`."""
    keys = ("stage", "widths", "latency_ms", "errors_ms", "stepped", "aligned", "chosen")
    return [{key: getattr(found, key) for key in keys} | {"options": found.spec.width} for found in sweeps]


def job_snippet(sweeps: Sequence[WidthSweep]) -> str:
    """The stages with the chosen widths as YAML for the job file; a comment marks stages without steps."""
    lines = ["supernet:", "  space:", "    stages:"]
    for found in sweeps:
        spec = replace(found.spec, width=found.chosen)
        names = ("depth", "width", "kernel", "expand")
        options = ", ".join(f"{name}: {list(getattr(spec, name))}" for name in names)
        options += ", squeeze: true" if spec.squeeze else ""
        options += f", activation: {spec.activation}" if spec.activation != "relu" else ""
        remark = "" if found.stepped else "  # no steps: every width is as good as its neighbours"
        lines.append(f"      - {{stride: {spec.stride}, {options}}}{remark}")
    return "\n".join(lines)


def _deployment(family: MobileCNNFamily, s: int, width: int, images: torch.Tensor, seed: int) -> Deployment:
    """The blocks that depend on the width of stage `s`, with their inputs for the images."""
    torch.manual_seed(seed)
    network = _middle(family, s, width).eval()
    stages = list(network.stages)
    after = stages[s + 1][0] if s + 1 < len(stages) else network.head  # type: ignore[index]
    with torch.no_grad():
        inputs = nn.Sequential(network.stem, *stages[:s])(images)
    model = lower(nn.Sequential(*network.stages[s], after).eval(), tuple(inputs.shape[1:]))  # type: ignore[misc]
    return Deployment.single(model, {INPUT: inputs.numpy()})


def _middle(family: MobileCNNFamily, s: int, width: int) -> MobileCNN:
    """The network with all middle options but for the width of one stage."""
    spec = family.spec
    stages = []
    for i, stage in enumerate(spec.stages):
        depth, own, kernel, expand = (
            (options[len(options) // 2],) for options in (stage.depth, stage.width, stage.kernel, stage.expand)
        )
        stages.append(replace(stage, depth=depth, width=(width,) if i == s else own, kernel=kernel, expand=expand))
    resolution = None if spec.resolution is None else (spec.resolution[len(spec.resolution) // 2],)
    fixed = MobileCNNFamily(
        replace(spec, stages=tuple(stages), resolution=resolution),
        image_size=family.image_size, channels=family.channels, n_classes=family.n_classes,
    )  # fmt: skip
    network = fixed.build(fixed.space.largest)
    assert isinstance(network, MobileCNN)
    return network


def _measure(
    profiler: LatencyProfiler, deployments: Sequence[Deployment], profile: str, stage: str, environments: Environments
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Latencies and errors in ms, comparable with each other.

    If they need several sessions, each includes the first and the last deployment, and its latencies are scaled by those of
    these two in the first session, since a machine drifts between sessions.
    """
    latency, errors = [0.0] * len(deployments), [0.0] * len(deployments)
    first: NDArray[np.float64] | None = None
    for batch in _batches(len(deployments)):
        results = measure_all(profiler, [deployments[i] for i in batch], [f"{stage} on {profile}"] * len(batch))
        for result in results:
            environments.check(profile, result.environment)
        found = np.array([result.latency_ms for result in results])
        anchors = found[[0, -1]]
        first = anchors if first is None else first
        scale = float(np.exp(np.mean(np.log(first / anchors))))
        for i, result in zip(batch, results, strict=True):
            if latency[i] == 0:  # an anchor keeps its first value
                latency[i] = scale * result.latency_ms
                errors[i] = latency[i] * result.resolution
    return tuple(latency), tuple(errors)


def _batches(n: int) -> Iterator[list[int]]:
    """Indices of the deployments of each session: consecutive ones, between the first and the last of all."""
    inner = range(1, n - 1)
    size = MAX_BATCH - _ANCHORS
    for start in range(0, max(1, len(inner)), size):
        yield sorted({0, *inner[start : start + size], n - 1})
