"""Latency against the widths of a job's stages: the staircase, and the widths that stand at the end of its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement, LatencyProfiler
from hardware_profiles.latency_steps import step_ends
from hardware_profiles.profiler_factory import open_profiler
from nas.build.prepared_job import PreparedJob
from nas.errors import EvaluationError
from nas.evaluation.environments import Machines
from supernets.families.convolutional_spec import MAX_WIDTH
from supernets.families.mobile_cnn.family import MobileCNN, MobileCNNFamily
from supernets.families.mobile_cnn.spec import StageSpec
from supernets.graph import INPUT, lower

MAX_WIDTHS = 48
"""Widths of a stage, unless a step is asked for."""
_TOGETHER = 20
"""Models measured in the same rounds; as many as a profiler takes at once."""
_ANCHORS = 2
_VECTOR = 16
"""Float32 numbers in the longest vectors of today's CPUs; the steps of others (4, 8) divide it."""


@dataclass(frozen=True, slots=True)
class WidthSweep:
    """One stage's widths and what they cost.

    Attributes:
        stage: its number, from 0.
        spec: the stage as the job has it.
        widths: measured, (n,), ascending.
        latency_ms: of the blocks that the width reaches, (n,), per batch.
        errors_ms: differences below which two of the latencies tie, (n,).
        aligned: the widths at the end of a step; all of them where there is no staircase.
        chosen: the aligned widths nearest to the stage's options; the options themselves where nothing steps.
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
        """Whether some widths are better than their neighbours; if not, all are as good."""
        return self.aligned != self.widths


def sweep(
    prepared: PreparedJob,
    profile: HardwareProfile,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    step: int | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> list[WidthSweep]:
    """One sweep a stage of the job's space, measured on the profile in fp32.

    What is measured is every block that the width reaches: the stage's own and the first after it, whose hidden channels
    are a multiple of the width. All other dimensions have their middle options, and the inputs are real images as the
    (untrained) layers before the stage leave them: no kernel looks at the values of weights.

    Args:
        on_progress: told (widths measured so far, of how many in all stages).
        step: between widths; by default the least power of two that gives at most `MAX_WIDTHS` of them.
        on_wait: told in a sentence when another measurement must be waited for.

    Raises:
        EvaluationError: the job's family has no stages of widths, the step is below 1, a block cannot be measured, or the
            machine that answers has become another.
        ProfileError, WorkerError: nothing can be measured on the profile.
    """
    family = prepared.supernets.family
    if not isinstance(family, MobileCNNFamily):
        raise EvaluationError(
            f"a sweep varies the widths of the stages of {MobileCNNFamily.name}, and the job's family is {family.name}"
        )
    stages = family.spec.stages
    widths = [swept_widths(stage.width, step) for stage in stages]
    total, done = sum(map(len, widths)), 0
    found = []
    what, machines = f"profile {profile.name}", Machines()
    with open_profiler(profile, seed=prepared.config.seed, on_wait=on_wait) as profiler:
        for s, stage in enumerate(stages):
            on_progress(done, total)
            (examples,) = prepared.data.timed_batches(profile)  # the family is one of images
            images = torch.from_numpy(examples)
            deployments = [_deployment(family, s, width, images, prepared.config.seed) for width in widths[s]]
            latency, errors = _measure(profiler, deployments, what, f"stage {s}", machines)
            found.append(_swept(s, stage, widths[s], latency, errors))
            done += len(widths[s])
        on_progress(done, total)
    return found


def swept_widths(options: Sequence[int], step: int | None = None) -> tuple[int, ...]:
    """Widths from half of the smallest option to the next multiple of 16 above the largest, by steps, ascending.

    All are multiples of the step. The last is a whole number of vectors, so that the widths before it are compared with
    one that is fast.

    Raises:
        EvaluationError: the step is below 1, or above all widths.
    """
    low, high = max(1, options[0] // 2), min((options[-1] // _VECTOR + 1) * _VECTOR, MAX_WIDTH)
    if step is None:
        step = 1
        while high // step - (low - 1) // step > MAX_WIDTHS:
            step *= 2
    if not 1 <= step <= high:
        raise EvaluationError(f"expected a step between widths from 1 to {high}, got {step}")
    return tuple(range(-(-low // step) * step, high + 1, step))


def nearest(aligned: Sequence[int], options: Sequence[int]) -> tuple[int, ...]:
    """The aligned widths that are nearest to some option, the narrower of two as near; fewer where options share one."""
    return tuple(sorted({min(aligned, key=lambda width: (abs(width - option), width)) for option in options}))


def to_json(sweeps: Sequence[WidthSweep]) -> list[dict[str, Any]]:
    """What `nas profile --sweep --json` prints of the stages."""
    return [
        {
            "stage": found.stage,
            "options": list(found.spec.width),
            "widths": list(found.widths),
            "latency_ms": list(found.latency_ms),
            "errors_ms": list(found.errors_ms),
            "stepped": found.stepped,
            "aligned": list(found.aligned),
            "chosen": list(found.chosen),
        }
        for found in sweeps
    ]


def job_snippet(sweeps: Sequence[WidthSweep]) -> str:
    """The stages for the job file, in YAML, with the chosen widths; says which stages have no steps."""
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


def _swept(
    s: int, stage: StageSpec, widths: tuple[int, ...], latency: NDArray[np.float64], errors: NDArray[np.float64]
) -> WidthSweep:
    aligned = step_ends(widths, latency.tolist(), errors.tolist())
    chosen = stage.width if aligned == widths else nearest(aligned, stage.width)
    return WidthSweep(s, stage, widths, tuple(latency.tolist()), tuple(errors.tolist()), aligned, chosen)


def _deployment(family: MobileCNNFamily, s: int, width: int, images: torch.Tensor, seed: int) -> Deployment:
    """The blocks that the width of stage `s` reaches, with what reaches them of the images."""
    torch.manual_seed(seed)
    network = _middle(family, s, width).eval()
    before = nn.Sequential(network.stem, *list(network.stages)[:s])
    after = list(network.stages)[s + 1][0] if s + 1 < len(network.stages) else network.head  # type: ignore[index]
    with torch.no_grad():
        inputs = before(images)
    model = lower(nn.Sequential(*network.stages[s], after).eval(), tuple(inputs.shape[1:]))  # type: ignore[misc]
    return Deployment.single(model, {INPUT: inputs.numpy()})


def _middle(family: MobileCNNFamily, s: int, width: int) -> MobileCNN:
    """The network of the middle options, with one stage's width in place of its own."""
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
        image_size=family.image_size,
        channels=family.channels,
        n_classes=family.n_classes,
    )
    network = fixed.build(fixed.space.largest)
    assert isinstance(network, MobileCNN)
    return network


def _measure(
    profiler: LatencyProfiler, deployments: Sequence[Deployment], profile: str, stage: str, machines: Machines
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latencies and errors in ms, (n,) each, comparable with one another.

    More than one session holds are measured in several, the first and the last deployment in each: a session's figures
    are scaled by what these two took in the first one, since a machine drifts between sessions.
    """
    latency, errors = np.zeros(len(deployments)), np.zeros(len(deployments))
    first: NDArray[np.float64] | None = None
    for batch in _batches(len(deployments)):
        results = list(profiler.measure([deployments[i] for i in batch]))
        told = [_figure(result, f"{profile}: {stage}") for result in results]
        for measured in told:
            machines.check(profile, measured.environment)
        found = np.array([measured.latency_ms for measured in told])
        anchors = found[[0, -1]]
        first = anchors if first is None else first
        scale = float(np.exp(np.mean(np.log(first / anchors))))
        for i, measured in zip(batch, told, strict=True):
            if latency[i] == 0:  # an anchor keeps its first figure
                latency[i] = scale * measured.latency_ms
                errors[i] = latency[i] * measured.resolution
    return latency, errors


def _batches(n: int) -> Iterator[list[int]]:
    """Indices of what is measured together: runs of neighbours, each between the first and the last of all."""
    inner = range(1, n - 1)
    size = _TOGETHER - _ANCHORS
    for start in range(0, max(1, len(inner)), size):
        yield sorted({0, *inner[start : start + size], n - 1})


def _figure(result: LatencyMeasurement | LatencyFailure, what: str) -> LatencyMeasurement:
    if isinstance(result, LatencyFailure):
        raise EvaluationError(f"{what}: {result.message}")
    return result
