"""Width sweeps: latency against the widths of a job's networks, and the widths at the ends of latency steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hardware_profiles.base import Deployment, HardwareProfile, LatencyProfiler
from hardware_profiles.latency_steps import step_ends
from hardware_profiles.measuring.profiler import MAX_BATCH
from hardware_profiles.profiler_factory import open_profiler
from nas.errors import EvaluationError
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.evaluation.environments import Environments
from nas.jobs.planning.latencies import measure_all
from supernets.errors import SpaceError
from supernets.families.convolutional.convolutional_family import ConvolutionalFamily
from supernets.families.convolutional.convolutional_spec import MAX_WIDTH
from supernets.families.shared.spec import Spec
from supernets.families.vision_transformer.vision_transformer_family import ViTFamily
from supernets.networks.module_to_onnx import INPUT, lower

MAX_WIDTHS = 48
"""Most widths of a stage, unless a step is given."""
_ANCHORS = 2
_VECTOR = 16
"""Float32 numbers in the longest vectors of current CPUs, a multiple of those of others (4, 8)."""


SweptFamily = ConvolutionalFamily | ViTFamily


@dataclass(frozen=True, slots=True)
class WidthSweep:
    """The widths of one stage, or of a whole transformer, with their latencies.

    Attributes:
        stage: index of the stage; 0 for a transformer, all of whose blocks have one width.
        spec: the stage, or the transformer, in the job.
        widths: measured, (n,), ascending.
        latency_ms: Latencies of the blocks that depend on the width, (n,), per batch.
        errors_ms: differences below which two of the latencies tie, (n,).
        aligned: the widths at the end of a step; all widths if there are no steps.
        chosen: the aligned widths nearest to the job's options, of those that its ratios admit; the options themselves if there
            are no steps.
    """

    stage: int
    spec: Spec
    widths: tuple[int, ...]
    latency_ms: tuple[float, ...]
    errors_ms: tuple[float, ...]
    aligned: tuple[int, ...]
    chosen: tuple[int, ...]

    @property
    def stepped(self) -> bool:
        """True if there are steps, so that some widths are better than their neighbours."""
        return self.aligned != self.widths

    @property
    def options(self) -> tuple[int, ...]:
        """The widths in the job."""
        return _options(self.spec)


def sweep(
    built_job: BuiltJob,
    profile: HardwareProfile,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    step: int | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> list[WidthSweep]:
    """One sweep per stage of the job's space, or one of its only width, measured on the profile in fp32.

    It measures every block that depends on the width: those of a stage and the first one after it (of a ResNet's last stage
    without the classifier); all of a transformer. All other dimensions have their middle options, and the inputs are outputs
    of the (untrained) previous layers for real images; no kernel depends on the values of weights.

    Args:
        on_progress: receives the numbers of measured widths and of all widths.
        step: between widths; by default the least power of two that gives at most `MAX_WIDTHS` widths.
        on_wait: receives a message when another measurement holds the host.

    Raises:
        EvaluationError: the family has no widths, the step is invalid, a block fails, or the machine was replaced.
        ProfileError, WorkerError: the profile cannot be measured.
    """
    family = built_job.family
    if not isinstance(family, SweptFamily) or family.has_experts:
        message = f"a sweep is of the widths of mobile-cnn, resnet or vit without experts, got {family.name}"
        advice = "measure single widths as ONNX models, or calibrate a profile, which measures all options"
        raise EvaluationError(f"{message}; {advice}", code="sweep.unsupported-family")
    swept = _swept_specs(family)
    widths = [swept_widths(_options(spec), step) for spec in swept]
    total, done = sum(map(len, widths)), 0
    sweeps = []
    environments = Environments()
    with open_profiler(profile, seed=built_job.job.config.seed, on_wait=on_wait) as profiler:
        for s, spec in enumerate(swept):
            on_progress(done, total)
            (examples,) = built_job.data.timed_batches(profile)  # images have one shape
            images = torch.from_numpy(examples)
            build = partial(_deployment, family, s, images, built_job.job.config.seed)
            latency, errors = _measure(profiler, build, widths[s], f"stage {s} on profile {profile.name}", environments)
            aligned = step_ends(widths[s], latency, errors)
            usable = [] if aligned == widths[s] else _admitted_widths(spec, aligned)
            chosen = nearest(usable, _options(spec)) if usable else _options(spec)
            sweeps.append(WidthSweep(s, spec, widths[s], latency, errors, aligned, chosen))
            done += len(widths[s])
        on_progress(done, total)
    return sweeps


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


def stages_json(sweeps: Sequence[WidthSweep]) -> list[dict[str, Any]]:
    """The stages in the output of `nas profile --sweep --json`."""
    keys = ("stage", "widths", "latency_ms", "errors_ms", "stepped", "aligned", "chosen")
    return [
        {key: getattr(width_sweep, key) for key in keys} | {"options": width_sweep.options} for width_sweep in sweeps
    ]


def job_snippet(sweeps: Sequence[WidthSweep]) -> str:
    """The stages, or the transformer, with the chosen widths as YAML for the job file; a comment marks those without steps."""
    lines = ["supernet:", "  space:"]
    for swept in sweeps:
        job_spec: Any = swept.spec
        spec = replace(job_spec, width=swept.chosen)
        remark = "" if swept.stepped else "  # no steps: every width is as good as its neighbours"
        if hasattr(spec, "head_size"):  # which would follow the width, if it were not given
            lines += [f"    width: {list(spec.width)}{remark}", f"    head_size: {spec.head_size}"]
            continue
        explicit_values = {f.name: getattr(spec, f.name) for f in fields(spec) if getattr(spec, f.name) != f.default}
        options = ", ".join(f"{name}: {_yaml(value)}" for name, value in explicit_values.items())
        lines += ["    stages:"] * (len(lines) == 2) + [f"      - {{{options}}}{remark}"]
    return "\n".join(lines)


def _yaml(value: Any) -> str:
    """A dimension's value in a job file."""
    return str(list(value)) if isinstance(value, tuple) else str(value).lower()


def _swept_specs(family: SweptFamily) -> tuple[Spec, ...]:
    """The specs that have a width: those of the stages, or that of the whole transformer."""
    specs: tuple[Spec, ...] = (family.spec,) if isinstance(family, ViTFamily) else family.spec.stages
    return specs


def _options(spec: Any) -> tuple[int, ...]:
    return cast(tuple[int, ...], spec.width)


def _admitted_widths(spec: Any, widths: Sequence[int]) -> list[int]:
    """The widths at which no two ratios of the spec give the same number of channels."""
    admitted = []
    for width in widths:
        with suppress(SpaceError):
            replace(spec, width=(width,))
            admitted.append(width)
    return admitted


def _deployment(family: SweptFamily, s: int, images: torch.Tensor, seed: int, width: int) -> Deployment:
    """The blocks that depend on the width of stage `s`, with their inputs for the images."""
    torch.manual_seed(seed)
    network: Any = _middle(family, s, width).eval()
    if isinstance(family, ViTFamily):
        return Deployment.single(lower(network, images), {INPUT: images.numpy()})
    stages = list(network.stages)
    # A convolution, if it is the head. A classifier reads what is pooled, and is left out.
    head = [network.head] if "head" in family.after_stages() else []
    after = [stages[s + 1][0]] if s + 1 < len(stages) else head
    with torch.no_grad():
        inputs = nn.Sequential(network.stem, *stages[:s])(images)
    model = lower(nn.Sequential(*stages[s], *after).eval(), inputs)
    return Deployment.single(model, {INPUT: inputs.numpy()})


def _middle(family: SweptFamily, s: int, width: int) -> nn.Module:
    """The network with all middle options but for the width of one stage, or of the transformer."""
    spec: Any = family.spec
    if isinstance(family, ViTFamily):
        fixed = _middle_of(spec, width=(width,))
    else:
        stages = tuple(
            _middle_of(stage, **({"width": (width,)} if i == s else {})) for i, stage in enumerate(spec.stages)
        )
        fixed = _middle_of(spec, stages=stages)
    make: Any = type(family)
    middle_family = make(fixed, image_size=family.image_size, channels=family.channels, n_classes=family.n_classes)
    return cast(nn.Module, middle_family.template())


def _middle_of(spec: Any, **fixed: Any) -> Any:
    """A spec with the middle option of each dimension that is not given."""
    values = {f.name: getattr(spec, f.name) for f in fields(spec)}
    return replace(spec, **{n: (v[len(v) // 2],) for n, v in values.items() if isinstance(v, tuple)} | fixed)


def _measure(
    profiler: LatencyProfiler,
    build: Callable[[int], Deployment],
    widths: Sequence[int],
    of: str,
    environments: Environments,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Latencies and errors in ms, comparable with each other.

    If they need several sessions, each includes the first and the last width, and its latencies are scaled by those of
    these two in the first session, since a machine drifts between sessions. Only the models of a session are in memory.

    Args:
        of: ``PART on profile NAME``.
    """
    latency, errors = [0.0] * len(widths), [0.0] * len(widths)
    first: NDArray[np.float64] | None = None
    for batch in _batches(len(widths)):
        results = measure_all(profiler, [build(widths[i]) for i in batch], [of] * len(batch))
        for result in results:
            environments.check(of.partition(" on ")[2], result.environment)
        latencies_ms = np.array([result.latency_ms for result in results])
        anchors = latencies_ms[[0, -1]]
        first = anchors if first is None else first
        scale = float(np.exp(np.mean(np.log(first / anchors))))
        for i, result in zip(batch, results, strict=True):
            if latency[i] == 0:  # an anchor keeps its first value
                latency[i] = scale * result.latency_ms
                errors[i] = latency[i] * result.resolution
    return tuple(latency), tuple(errors)


def _batches(n: int) -> Iterator[list[int]]:
    """Indices of the widths of each session: consecutive ones, between the first and the last of all."""
    inner = range(1, n - 1)
    size = MAX_BATCH - _ANCHORS
    for start in range(0, max(1, len(inner)), size):
        yield sorted({0, *inner[start : start + size], n - 1})
