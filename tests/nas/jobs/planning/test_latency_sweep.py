"""A sweep measures the blocks that depend on a width, comparably, and proposes widths for a job file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
import pytest
import yaml

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from nas.engine.store.folder import RunsFolder
from nas.errors import EvaluationError
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.planning.latency_sweep import WidthSweep, job_snippet, nearest, stages_json, sweep, swept_widths
from nas.jobs.recipes import read_recipe
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN, StageSpec
from supernets.families.convolutional.resnet_family import ResNetFamily
from supernets.families.convolutional.resnet_spec import RESNET
from supernets.families.vision_transformer.vision_transformer_family import ViTFamily
from supernets.families.vision_transformer.vision_transformer_spec import VIT
from supernets.networks.module_to_onnx import INPUT
from tests.errors import raises

PROFILE = HardwareProfile("cpu-1-thread-batch-4", batch_size=4)
STAGE = StageSpec(stride=1, depth=(1, 2), width=(12, 16), kernel=(3,), expand=(2, 3, 4))
NARROW = replace(
    MOBILE_CNN["digits"],
    stages=tuple(
        replace(stage, width=width)
        for stage, width in zip(MOBILE_CNN["digits"].stages, [(8, 14), (16, 28)], strict=True)
    ),
)
"""The space of the digits with few widths to sweep: each is traced twice, which takes most of the time of these tests."""


@pytest.fixture(scope="module")
def built_job(tmp_path_factory: pytest.TempPathFactory) -> BuiltJob:
    folder = tmp_path_factory.mktemp("sweep")
    path = folder / "digits-cnn.yaml"
    path.write_text(read_recipe("digits-cnn"))
    return build_job(ResolvedJob(load_job(path), RunsFolder(folder / "runs")))


def convolutions(deployment: Deployment) -> list[tuple[int, ...]]:
    """Shapes of the weights, in the order of the nodes."""
    graph = onnx.load_from_string(deployment.graphs[0].model).graph
    shapes = {w.name: tuple(w.dims) for w in graph.initializer}
    return [shapes[node.input[1]] for node in graph.node if node.op_type == "Conv"]


class Drifting:
    """A profiler whose latency is the rounded width, and whose sessions are 10 % slower than the previous one."""

    def __init__(self) -> None:
        self.sessions: list[list[Deployment]] = []
        self.fails = False
        self.replaced_after: int | None = None

    def measure(
        self, deployments: Iterable[Deployment], *, longer: bool = False
    ) -> Iterator[LatencyMeasurement | LatencyFailure]:
        self.sessions.append(list(deployments))
        for deployment in deployments:
            if self.fails:
                yield LatencyFailure("it does not run")
                continue
            hidden = convolutions(deployment)[-1][1]  # the last block reads the width, or expands it
            first = self.replaced_after is None or len(self.sessions) <= self.replaced_after
            cpu = "a board's" if first else "another board's"
            yield _measured(1.1 ** len(self.sessions) * -(-hidden // 16), 0.01, {"cpu": cpu})

    def close(self) -> None:
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None


def _measured(latency_ms: float, resolution: float, environment: dict[str, Any]) -> LatencyMeasurement:
    values: dict[str, Any] = dict.fromkeys(LatencyMeasurement.__dataclass_fields__)
    values |= {"latency_ms": latency_ms, "resolution": resolution, "environment": environment}
    return LatencyMeasurement(**values)


@dataclass(frozen=True)
class DriftingSweep:
    """A sweep in several sessions, each slower than the previous one, with what its profiler saw and what it reported."""

    sessions: list[list[Deployment]]
    reported: list[tuple[int, int]]
    stages: list[WidthSweep]


@pytest.fixture(scope="module")
def drifting_sweep(built_job: BuiltJob) -> DriftingSweep:
    profiler, reported = Drifting(), list[tuple[int, int]]()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("nas.jobs.planning.latency_sweep.MAX_BATCH", 5)
        patched.setattr("nas.jobs.planning.latency_sweep.open_profiler", lambda *args, **kwargs: profiler)
        family = MobileCNNFamily(NARROW, image_size=8, channels=1, n_classes=10)
        narrow = replace(built_job, family=family)
        stages = sweep(narrow, PROFILE, step=4, on_progress=lambda done, total: reported.append((done, total)))
    return DriftingSweep(profiler.sessions, reported, stages)


def test_a_sweep_measures_all_blocks_that_depend_on_the_width(drifting_sweep: DriftingSweep) -> None:
    first, second = drifting_sweep.stages
    assert (first.widths, second.widths) == (tuple(range(4, 17, 4)), tuple(range(8, 33, 4)))
    assert drifting_sweep.reported == [(0, 11), (4, 11), (11, 11)]
    # The space's middle options: depth 2, expand 2, widths 14 and 28; its stem has 8 channels, its head 64.
    of_stage = drifting_sweep.sessions[0][2]
    assert first.widths[2] == 12
    assert convolutions(of_stage) == [
        (16, 8, 1, 1), (16, 1, 3, 3), (12, 16, 1, 1),
        (24, 12, 1, 1), (24, 1, 3, 3), (12, 24, 1, 1),
        (24, 12, 1, 1), (24, 1, 5, 5), (28, 24, 1, 1),
    ]  # fmt: skip
    ((images,),) = (call.values() for call in of_stage.graphs[0].inputs)
    assert images.shape == (4, 8, 8, 8)
    assert images.std(axis=0).max() > 0.01  # real images differ
    of_last = drifting_sweep.sessions[1][1]
    assert convolutions(of_last)[-2:] == [(12, 24, 1, 1), (64, 12, 1, 1)]


def test_blocks_are_measured_completely_at_the_middle_resolution(
    built_job: BuiltJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = replace(STAGE, stride=2, squeeze=True, activation="hardswish")
    spec = replace(MOBILE_CNN["digits"], stages=(stage,), resolution=(4, 6, 8))
    profiler = Drifting()
    monkeypatch.setattr("nas.jobs.planning.latency_sweep.open_profiler", lambda *args, **kwargs: profiler)
    family = MobileCNNFamily(spec, image_size=8, channels=1, n_classes=10)
    sweep(replace(built_job, family=family), PROFILE, step=32)
    (graph, *_) = profiler.sessions[0][0].graphs
    assert [call[INPUT].shape for call in graph.inputs] == [(4, 8, 6, 6)]
    operations = [node.op_type for node in onnx.load_from_string(graph.model).graph.node]
    assert operations.count("HardSigmoid") == operations.count("GlobalAveragePool") == 2
    assert operations.count("HardSwish") == 4


def test_a_sweep_of_a_resnet_measures_its_bottlenecks(built_job: BuiltJob, monkeypatch: pytest.MonkeyPatch) -> None:
    profiler = Drifting()
    monkeypatch.setattr("nas.jobs.planning.latency_sweep.open_profiler", lambda *args, **kwargs: profiler)
    family = ResNetFamily(RESNET["digits"], image_size=8, channels=1, n_classes=10)
    first, second = sweep(replace(built_job, family=family), PROFILE, step=32)
    assert (first.widths, second.widths) == ((32,), (32, 64))
    # The middle options: depths 2 and 2, ratios 1 and 0.5, widths 32 and 48, a stem of 16 channels. A stage's first block
    # projects its shortcut, as does the first of the next stage; a convolution has its weights in the order of the calls.
    of_stage = sorted(convolutions(profiler.sessions[0][0]))
    block, further = [(32, 16, 1, 1), (32, 32, 3, 3), (32, 32, 1, 1)], [(32, 32, 1, 1), (32, 32, 3, 3), (32, 32, 1, 1)]
    after = [(24, 32, 1, 1), (24, 24, 3, 3), (48, 24, 1, 1), (48, 32, 1, 1)]
    assert of_stage == sorted([*block, (32, 16, 1, 1), *further, *after])
    last = onnx.load_from_string(profiler.sessions[1][0].graphs[0].model).graph
    assert {"Gemm", "MatMul"}.isdisjoint(node.op_type for node in last.node)  # the classifier is left out
    space = yaml.safe_load(job_snippet([first, second]))["supernet"]["space"]
    assert [(stage["stride"], stage["depth"], stage["expand"]) for stage in space["stages"]] == [
        (1, [1, 2], [0.5, 1.0]), (2, [1, 2, 3], [0.25, 0.5]),
    ]  # fmt: skip


def test_a_sweep_of_a_vit_measures_whole_networks(built_job: BuiltJob, tmp_path: Path) -> None:
    family = ViTFamily(VIT["digits"], image_size=8, channels=1, n_classes=10)
    (found,) = sweep(replace(built_job, family=family), PROFILE, step=24)
    assert (found.stage, found.widths, found.options) == (0, (24, 48), (16, 24, 32))
    assert min(found.latency_ms) > 0
    job = yaml.safe_load(read_recipe("digits-cnn"))
    job["supernet"] = {"family": "vit", "preset": "digits"} | yaml.safe_load(job_snippet([found]))["supernet"]
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    assert load_job(path).supernet.spec() == replace(VIT["digits"], width=found.chosen)


def test_families_without_free_widths_are_refused(built_job: BuiltJob) -> None:
    experts = replace(VIT["digits"], experts=(2, 4), active_experts=(1, 2))
    family = ViTFamily(experts, image_size=8, channels=1, n_classes=10)
    with raises("sweep.unsupported-family", "vit without experts", "calibrate"):
        sweep(replace(built_job, family=family), PROFILE)


def test_sessions_are_scaled_to_the_first(drifting_sweep: DriftingSweep) -> None:
    first, second = drifting_sweep.stages
    assert [len(session) for session in drifting_sweep.sessions] == [4, 5, 4]
    # In the second stage the head reads the width itself; its first session is the second of all.
    expected = 1.1**2 * np.ceil(np.array(second.widths) / 16)
    np.testing.assert_allclose(second.latency_ms, expected, rtol=1e-12)
    np.testing.assert_allclose(second.errors_ms, 0.01 * expected, rtol=1e-12)
    assert second.aligned == second.chosen == (16,)  # the last width may not be the end of its step
    # The next block's hidden channels are twice the width; so few widths show no steps, and the options stay.
    np.testing.assert_allclose(first.latency_ms, 1.1 * np.ceil(2 * np.array(first.widths) / 16), rtol=1e-12)
    assert (first.aligned, first.chosen) == (first.widths, (8, 14))


def test_a_block_that_does_not_run_is_an_error(built_job: BuiltJob, monkeypatch: pytest.MonkeyPatch) -> None:
    profiler = Drifting()
    profiler.fails = True
    monkeypatch.setattr("nas.jobs.planning.latency_sweep.open_profiler", lambda *args, **kwargs: profiler)
    with raises("latency.not-measured", "profile cpu-1-thread-batch-4", "stage 0", "it does not run"):
        sweep(built_job, PROFILE, step=24)


def test_a_replaced_machine_is_rejected(built_job: BuiltJob, monkeypatch: pytest.MonkeyPatch) -> None:
    profiler = Drifting()
    profiler.replaced_after = 1
    monkeypatch.setattr("nas.jobs.planning.latency_sweep.open_profiler", lambda *args, **kwargs: profiler)
    with pytest.raises(EvaluationError, match=r"cpu: was a board's, is another board's"):
        sweep(built_job, PROFILE, step=24)
    assert len(profiler.sessions) == 2  # the second stage has one of its own


def test_a_sweep_on_this_machine(built_job: BuiltJob) -> None:
    found = sweep(built_job, PROFILE, step=24)
    assert [s.widths for s in found] == [(24,), (24, 48)]
    for stage in found:
        assert min(stage.latency_ms) > 0
        assert all(0 < e < t for e, t in zip(stage.errors_ms, stage.latency_ms, strict=True))
    assert [row["widths"] for row in json.loads(json.dumps(stages_json(found)))] == [[24], [24, 48]]


def test_widths_range_from_half_the_least_to_the_vector_above_the_largest() -> None:
    assert swept_widths((12, 16)) == tuple(range(6, 33))
    assert swept_widths((48, 64, 80)) == tuple(range(24, 97, 2))
    assert swept_widths((1,)) == tuple(range(1, 17))
    assert swept_widths((64, 256)) == tuple(range(32, 273, 8))
    assert swept_widths((4000, 4096))[-1] == 4096  # the maximum of a stage
    assert swept_widths((48, 80), step=10) == (30, 40, 50, 60, 70, 80, 90)
    for step in (0, -1, 97):
        with raises("sweep.invalid-step", "from 1 to 96", f"got {step}"):
            swept_widths((48, 80), step=step)


def test_each_option_has_its_nearest_width() -> None:
    assert nearest((8, 16, 24, 32), (12, 16)) == (8, 16)  # the narrower of two at equal distance
    assert nearest((8, 16, 24, 32), (15, 17, 30)) == (16, 32)
    assert nearest((16,), (4, 8, 16)) == (16,)


@pytest.mark.parametrize("change", [{}, {"squeeze": True, "activation": "hardswish"}])
def test_the_snippet_is_a_valid_space_of_a_job(tmp_path: Path, change: dict[str, Any]) -> None:
    own = replace(STAGE, **change)
    stepped = WidthSweep(0, own, (6, 7, 8, 9, 10), (1.0, 1.0, 1.0, 2.0, 2.0), (0.1,) * 5, (8,), (8,))
    level = WidthSweep(1, own, (6, 7), (1.0, 1.0), (0.1,) * 2, (6, 7), (12, 16))
    text = job_snippet([stepped, level])
    assert text.count("# no steps") == 1
    job = yaml.safe_load(read_recipe("digits-cnn"))
    job["supernet"] |= yaml.safe_load(text)["supernet"]
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    spec = load_job(path).supernet.spec()
    assert spec is not None
    assert [stage.width for stage in spec.stages] == [(8,), (12, 16)]
    assert all((s.stride, s.depth, s.kernel, s.expand) == (1, (1, 2), (3,), (2, 3, 4)) for s in spec.stages)
    assert all((s.squeeze, s.activation) == (own.squeeze, own.activation) for s in spec.stages)
