"""The composition root: turns a job's config into objects, and drives trainings, searches and what is made of them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import check_machine, load_profile
from hardware_profiles.errors import ProfilingError
from hardware_profiles.transport import LocalProfiler
from nas.config import SearchJob, load_job
from nas.display import Display, Silent
from nas.errors import EvaluationError, JobError, NasError
from nas.evaluation.base import Evaluator
from nas.evaluation.cached import Cached
from nas.evaluation.features import architecture_features, feature_layout
from nas.evaluation.measured import Measured, Timed
from nas.evaluation.subnets import CALIBRATION_BATCH, InlineScoring, Scoring
from nas.loop import Budget, finalists, measure_again
from nas.loop import search as run_search
from nas.objectives import EXACT_METRICS, Measurement, Request
from nas.reader import Kind, Run
from nas.search.base import SearchAlgorithm
from nas.store.base import RunStatus, RunStore
from nas.store.folder import RunFolder, RunsFolder
from nas.store.sql import SqlStore
from predictors.errors import PredictorError
from supernets.base import Family, Supernet, TrainingStrategy
from supernets.checkpoint import Checkpoint, load_checkpoint, make_supernet
from supernets.data import DataSet, Part, head, load_data
from supernets.errors import CheckpointError, SupernetError
from supernets.families.mobile_cnn import MobileCNNFamily
from supernets.space import Architecture
from supernets.strategies.sandwich import SandwichStrategy
from supernets.strategies.single_path import SinglePathStrategy
from supernets.trainer import TrainingSettings
from supernets.trainer import train as train_supernet

USER_ERRORS = (NasError, SupernetError, ProfilingError, PredictorError)
"""What is told to the user as a message; anything else is a fault of ours and keeps its traceback."""

SPLIT_SEED = 0
"""Of the data's split: not the job's seed, or a search with another one would see images that were trained on."""


@dataclass(frozen=True)
class How:
    """How a job is run, as opposed to what it is.

    Attributes:
        inline: score in this process, without Ray.
        address: a running Ray cluster to join; None starts one here.
        replay: another run of the same supernet whose measurements are taken where it has them.
        retry_failures: measure again what failed before; `resume` sets it for a run that ended as failed.
    """

    runs: RunsFolder = field(default_factory=lambda: RunsFolder(Path("runs")))
    inline: bool = False
    address: str | None = None
    replay: str | None = None
    display: Display = field(default_factory=Silent)
    retry_failures: bool = False


class Prepared:
    """A job checked against this machine, its data loaded: whatever can be wrong with it is found here.

    Raises:
        JobError, DataError, ProfileError, CheckpointError, SpaceError: the job cannot be done, and why.
    """

    def __init__(self, job: SearchJob, runs: RunsFolder, *, source: str = "job") -> None:
        self.job, self._runs = job, runs
        self.profiles: list[HardwareProfile] = [load_profile(name) for name in job.hardware]
        for profile in self.profiles:
            check_machine(profile)
        self.objectives = job.parsed_objectives([p.name for p in self.profiles], source=source)
        cores = len(os.sched_getaffinity(0))
        if job.training.threads > cores:
            raise JobError(
                f"{source}: training.threads: asked for {job.training.threads}, this machine grants {cores} cores"
            )
        self.checkpoint: Checkpoint | None = self._load_from()
        data = job.data
        self.data: DataSet = load_data(
            data.name,
            path=data.path,
            image_size=data.image_size,
            channels=data.channels,
            validation=data.validation,
            test=data.test,
            seed=SPLIT_SEED,
        )
        if self.checkpoint is not None:
            self._check_data(self.checkpoint)
        self.family = self._family()

    def _load_from(self) -> Checkpoint | None:
        source = self.job.supernet.from_
        if source is None:
            return None
        path = self.job.supernet.from_path
        folder = self._runs.get(source).checkpoint if path is None else path
        if (folder / "checkpoint").is_dir():  # a run's folder given as a path
            folder = folder / "checkpoint"
        checkpoint = load_checkpoint(folder)
        if not checkpoint.finished:
            done, epochs = checkpoint.progress["epoch"], checkpoint.progress["epochs"]
            raise CheckpointError(f"{folder}: trained for {done} of {epochs} epochs; finish it first with `nas resume`")
        return checkpoint

    def _check_data(self, checkpoint: Checkpoint) -> None:
        trained_on, ours = checkpoint.progress["data"], self.data.train
        if trained_on["digest"] != ours.digest:
            raise CheckpointError(
                f"supernet.from: it was trained on other images ({trained_on['name']}, {trained_on['digest']}) than this "
                f"job's training part ({self.data.name}, {ours.digest}); its validation images may be among them"
            )

    def _family(self) -> Family:
        supernet = self.job.supernet
        spec = supernet.spec()
        if self.checkpoint is not None:
            family = self.checkpoint.supernet.family
            if spec is not None and self._make_family(spec).to_json() != family.to_json():
                raise CheckpointError(
                    "supernet.from: the checkpoint is of another space than the job's; leave preset and space out, or "
                    "train a supernet of this space"
                )
            return family
        if spec is None:
            raise JobError("supernet: expected a preset, a space, or from")
        return self._make_family(spec)

    def _make_family(self, spec: Any) -> Family:
        match self.job.supernet.family:
            case "mobile-cnn":
                data = self.data
                return MobileCNNFamily(
                    spec, image_size=data.image_size, channels=data.channels, n_classes=data.n_classes
                )
            case other:
                assert_never(other)

    def untrained(self) -> Supernet:
        """The supernet as it is before training: initialised by the job's seed."""
        torch.manual_seed(self.job.seed)
        return make_supernet(self.family, self.job.supernet.sharing)

    def strategy(self) -> TrainingStrategy:
        """The job's training strategy."""
        training = self.job.training
        match training.strategy:
            case "sandwich":
                return SandwichStrategy(self.family.space, training.random_subnets, training.distill)
            case "single-path":
                return SinglePathStrategy(self.family.space)
            case other:
                assert_never(other)

    def settings(self) -> TrainingSettings:
        """The job's training settings."""
        training = self.job.training
        return TrainingSettings(
            epochs=training.epochs,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            shift=training.augment.shift,
            flip=training.augment.flip,
            calibration_images=self.job.calibration_images,
            threads=training.threads,
            seed=self.job.seed,
        )

    def algorithm(self, supernet: Supernet) -> SearchAlgorithm:
        """The job's search algorithm, over this supernet's space."""
        seed, space = self.job.seed, self.family.space
        match self.job.search.algorithm:
            case "random":
                from nas.search.random import RandomSearch

                return RandomSearch(space, seed=seed)
            case "nsga2":
                from nas.search.evolution import EvolutionSearch

                return EvolutionSearch(space, self.objectives, seed=seed)
            case "guided":
                from nas.search.guided import GuidedSearch

                exact = {
                    o.name: partial(_exact_figures, supernet, o.metric)
                    for o in self.objectives
                    if o.metric in EXACT_METRICS
                }
                return GuidedSearch(
                    space,
                    self.objectives,
                    seed=seed,
                    features=partial(architecture_features, supernet),
                    layout=feature_layout(len(self.family.blocks)),
                    exact=exact,
                )
            case other:
                assert_never(other)

    def evaluator(
        self, supernet: Supernet, weights: str, part: Part, scoring: Scoring, *, seed: int, note: Callable[[str], None]
    ) -> Measured:
        """What measures this supernet's subnets, with accuracy on one part of the data."""
        profiles = {
            profile.name: Timed(LocalProfiler(profile, seed=seed, on_wait=note), self.examples(profile))
            for profile in self.profiles
        }
        environment = {"torch": torch.__version__, "threads": 1, "machine": platform.machine()}
        return Measured(
            scoring, supernet.cost, profiles,
            n_images=len(part.labels), weights=weights, data=part.digest, environment=environment,
        )  # fmt: skip

    def examples(self, profile: HardwareProfile) -> NDArray[np.float32]:
        """Real images for a profile's batch, (batch, c, h, w), from the validation part."""
        images = self.data.validation.images
        index = np.resize(np.arange(len(images)), profile.batch_size)  # repeats them where there are too few
        return images[torch.from_numpy(index)].numpy()

    @cached_property
    def calibration(self) -> torch.Tensor:
        """The training images for batch-norm statistics: always the same first ones."""
        return head(self.data.train, self.job.calibration_images).images


def _exact_figures(supernet: Supernet, metric: str, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
    table = supernet.costs(architectures)
    return getattr(table, metric).sum(axis=1).astype(np.float64)  # type: ignore[no-any-return]


def export(
    runs: RunsFolder, run: str, path: Path, *, select: str | None = None, index: int | None = None
) -> dict[str, Any]:
    """Writes one member of a run's front as checked ONNX with its manifest and weights.

    Args:
        select: e.g. ``latency_ms<=1.0``: the most accurate that satisfies it.
        index: a member of the front by position; without either, the knee.

    Returns:
        What `nas export --json` prints.
    """
    from nas.export.bundle import export_bundle
    from nas.export.select import by_index, knee
    from nas.export.select import select as select_point

    opened = Run.open(runs, run)
    report = opened.report
    if select is not None:
        point = select_point(report, select)
    elif index is not None:
        point = by_index(report, index)
    else:
        point = knee(report)
    prepared = Prepared(opened.job, runs, source=str(opened.folder.job_file))
    checkpoint = prepared.checkpoint or load_checkpoint(opened.folder.checkpoint)
    with opened.store() as store:
        return export_bundle(
            point, path, report=report, store=store, checkpoint=checkpoint, data=prepared.data,
            calibration=prepared.calibration, calibration_batch=CALIBRATION_BATCH,
        )  # fmt: skip


def open_run(run: str, runs: Path | str = "runs") -> Run:
    """A run of a runs folder, for reading.

    Raises:
        UnknownNameError: there is none of this id.
    """
    return Run.open(RunsFolder(Path(runs)), run)


def train(job: SearchJob, how: How | None = None, *, source: str = "job") -> Run:
    """Trains the job's supernet and keeps it as a run."""
    return _start(job, how or How(), "training", source)


def search(job: SearchJob, how: How | None = None, *, source: str = "job") -> Run:
    """Trains the job's supernet (or takes the one that it names) and searches it."""
    return _start(job, how or How(), "search", source)


def resume(run: str, how: How | None = None) -> Run:
    """Goes on with a run where it stopped, whatever stopped it.

    Raises:
        NasError: the run is finished, or another live driver holds it.
    """
    how = how or How()
    folder = how.runs.get(run)
    store = SqlStore.open(folder.database, create=False, driver=True)
    try:
        if store.status() is RunStatus.FINISHED:
            raise NasError(f"run {run} is finished; there is nothing to resume")
        info = store.info()
        if "kind" not in info:
            raise NasError(
                f"run {run} was killed while it was being made, before anything was measured; start the job again"
            )
        prepared = Prepared(load_job(folder.job_file), how.runs, source=str(folder.job_file))
        how = replace(how, replay=info.get("replay"), retry_failures=store.status() is RunStatus.FAILED)
        return _drive(folder, store, prepared, info["kind"], how)
    finally:
        store.close()


def _start(job: SearchJob, how: How, kind: Kind, source: str) -> Run:
    if kind == "training" and job.supernet.from_ is not None:
        raise JobError(f"{source}: supernet.from: names a trained supernet, so there is nothing to train; remove it")
    if how.replay is not None:
        how.runs.get(how.replay)
    how.runs.check_writable()
    prepared = Prepared(job, how.runs, source=source)
    folder = how.runs.create(job.name, job.to_yaml())
    store = SqlStore.open(folder.database, create=True, driver=True)
    try:
        _describe(store, prepared, kind, how)
        return _drive(folder, store, prepared, kind, how)
    finally:
        store.close()


def _describe(store: RunStore, prepared: Prepared, kind: Kind, how: How) -> None:
    """The facts of a run that never change."""
    space = prepared.family.space
    facts: dict[str, Any] = {"name": prepared.job.name, "seed": prepared.job.seed}
    if prepared.checkpoint is None:
        facts["epochs"] = prepared.job.training.epochs
    if kind == "search":
        facts |= {
            "space": space.to_json(),
            "objectives": [o.name for o in prepared.objectives],
            "profiles": [p.name for p in prepared.profiles],
            "smallest": space.smallest.key,
            "largest": space.largest.key,
            "evaluations": prepared.job.search.evaluations,
            "algorithm": prepared.job.search.algorithm,
            "replay": how.replay,
        }
    for name, value in {**facts, "kind": kind}.items():  # the kind last: a run that has one has all of them
        store.set_info(name, value)


def _drive(folder: RunFolder, store: RunStore, prepared: Prepared, kind: Kind, how: How) -> Run:
    """Does what is left of a run, and records how it ended."""
    store.set_status(RunStatus.RUNNING)
    try:
        supernet, weights = _supernet(folder, store, prepared, how.display)
        store.set_info("weights", weights)
        if kind == "search":
            _search(store, prepared, supernet, weights, how)
    except KeyboardInterrupt:
        store.set_status(RunStatus.CANCELLED, reason=f"interrupted; go on with: nas resume {folder.id}")
        raise
    except USER_ERRORS as error:
        store.set_status(RunStatus.FAILED, reason=str(error))
        raise
    store.set_status(RunStatus.FINISHED, reason=str(store.info().get("stopped", "")))
    return Run(folder, how.runs)


def _supernet(folder: RunFolder, store: RunStore, prepared: Prepared, display: Display) -> tuple[Supernet, str]:
    """The trained supernet and the digest of its weights: the one that the job names, or trained (the rest of the way) here."""
    if prepared.checkpoint is not None:
        return prepared.checkpoint.supernet, prepared.checkpoint.weights_digest
    supernet, settings = prepared.untrained(), prepared.settings()

    def on_epoch(epoch: Any) -> None:
        store.set_info("epoch", epoch.epoch)
        display.epoch(epoch, settings.epochs)

    digest = train_supernet(
        supernet, prepared.data, prepared.strategy(), settings, folder.checkpoint,
        sharing=prepared.job.supernet.sharing, on_step=display.step, on_epoch=on_epoch,
    )  # fmt: skip
    return supernet, digest


def _search(store: RunStore, prepared: Prepared, supernet: Supernet, weights: str, how: How) -> None:
    job, data = prepared.job, prepared.data
    torch.set_num_threads(1)
    replayed = _replay_source(how, weights)
    measure = partial(prepared.evaluator, supernet, weights, seed=job.seed, note=how.display.note)
    with _scoring(prepared, supernet, how) as scoring, _closing(measure(data.validation, scoring)) as measured:
        evaluations = run_search(
            prepared.family.space,
            prepared.objectives,
            prepared.algorithm(supernet),
            _with_replay(measured, replayed),
            store,
            Budget(job.search.evaluations, job.search.minutes),
            batch=job.search.batch,
            retry_failures=how.retry_failures,
            on_progress=how.display.progress,
        )
    space = prepared.family.space
    chosen = finalists(evaluations, prepared.objectives, [space.smallest, space.largest])
    # Only now, with the search over, is the test part put before an evaluator.
    test = InlineScoring(supernet, prepared.calibration, data.test.images, data.test.labels)
    with _closing(measure(data.test, test)) as measured:
        measure_again(
            chosen, prepared.objectives, _with_replay(measured, replayed), store, on_progress=how.display.progress
        )


@contextmanager
def _closing(evaluator: Measured) -> Iterator[Measured]:
    try:
        yield evaluator
    finally:
        evaluator.close()


def _scoring(prepared: Prepared, supernet: Supernet, how: How) -> AbstractContextManager[Scoring]:
    """Scoring on the validation part: here, or by Ray actors."""
    part, job = prepared.data.validation, prepared.job
    if how.inline:
        return nullcontext(InlineScoring(supernet, prepared.calibration, part.images, part.labels))
    return _ray_scoring(prepared, supernet, how.address, job.search.workers)


@contextmanager
def _ray_scoring(prepared: Prepared, supernet: Supernet, address: str | None, workers: int | None) -> Iterator[Scoring]:
    from nas.evaluation.ray_pool import RayPool, available_cpus, start_ray, stop_ray

    start_ray(address)
    try:
        part = prepared.data.validation
        yield RayPool(
            supernet, prepared.calibration, part.images, part.labels,
            sharing=prepared.job.supernet.sharing, workers=min(workers or available_cpus(), available_cpus()),
        )  # fmt: skip
    finally:
        stop_ray()


Lookup = Callable[[Sequence[Request]], dict[Request, Measurement]]


def _replay_source(how: How, weights: str) -> Lookup | None:
    """Finds what another run measured on the same weights.

    Raises:
        EvaluationError: that run is of other weights.
    """
    if how.replay is None:
        return None
    store = SqlStore.open(how.runs.get(how.replay).database, create=False, driver=False)
    theirs = store.info().get("weights")
    if theirs != weights:
        store.close()
        raise EvaluationError(
            f"--replay {how.replay}: its measurements are of other weights ({theirs}) than this supernet's ({weights})"
        )

    def lookup(requests: Sequence[Request]) -> dict[Request, Measurement]:
        return {r: replace(m, samples=store.samples(r)) for r, m in store.find(requests).items()}

    return lookup


def _with_replay(measured: Measured, replayed: Lookup | None) -> Evaluator:
    return measured if replayed is None else Cached(measured, replayed, replay_failures=True)
