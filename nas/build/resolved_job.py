"""The composition root: turns a job's config into objects, checked against this machine."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import check_machine, load_profile
from hardware_profiles.errors import PrecisionError, ProfileError
from hardware_profiles.lookup_table import LookupTable
from hardware_profiles.lookup_table_file import load_lookup, profile_of
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.quantize import check_precision
from nas.build.checkpoints import check_images, check_outputs, load_trained
from nas.build.family import find_family, find_sharing, pretrained_weights
from nas.build.preprocessing import data_options
from nas.build.pretrained import load_pretrained
from nas.build.training import find_device, make_settings, make_strategy
from nas.config import SearchJob
from nas.errors import JobError
from nas.evaluation.environments import Machines
from nas.evaluation.features import LatencyFeatures, architecture_features, feature_layout
from nas.evaluation.measured import Measured, Timed
from nas.evaluation.scoring import Scoring
from nas.problem.objectives import EXACT_METRICS, Constraint, Evaluation, Objective, metrics_of
from nas.problem.precision import Precisions, exact_value
from nas.search.base import SearchAlgorithm
from nas.search.guided.models import FeatureSource
from nas.search.registry import Task, make_algorithm
from nas.store.folder import RunFolder, RunsFolder
from supernets.base import Family, Supernet, TrainingStrategy
from supernets.checkpoint import Checkpoint, make_supernet
from supernets.data import DataSet, Part, head, load_data, typical_batches
from supernets.families.nested import NestedFamily
from supernets.families.single import SingleFamily
from supernets.recalibration import recalibrate
from supernets.sharing.spec import PLAIN
from supernets.space import Architecture
from supernets.trainer import TrainingSettings

_OF_TIME = frozenset({"latency_ms", "throughput"})
"""Metrics that the latencies of blocks tell about."""
SPLIT_SEED = 0
"""Of the data's split: not the job's seed, or a search with another one would see images that were trained on."""


class Prepared:
    """A job checked against this machine, its data loaded: whatever can be wrong with it is found here.

    Args:
        run: whose job it is, where that has begun: what it keeps is taken from there.

    Raises:
        JobError, DataError, ProfileError, CheckpointError, SpaceError: the job cannot be done, and why.
    """

    def __init__(self, job: SearchJob, runs: RunsFolder, *, run: RunFolder | None = None, source: str = "job") -> None:
        self.job, self._runs, self._source = job, runs, source
        cores = len(os.sched_getaffinity(0))
        if job.training.threads > cores:
            raise JobError(
                f"{source}: training.threads: asked for {job.training.threads}, this machine grants {cores} cores"
            )
        named = self._load_from()
        self.checkpoint: Checkpoint | None = None if job.supernet.trains else named
        """Of the trained supernet that is searched; None where the job trains one."""
        self._origin = named if job.supernet.trains else None
        """Of the supernet one of whose networks is trained further."""
        self.pretrained = load_pretrained(job.supernet, run, source=source)
        sizes = None if self.pretrained is None else self.pretrained.config
        data = job.data
        self.data: DataSet = load_data(
            data.name,
            path=data.path,
            options=data_options(job, runs, pretrained=None if sizes is None else sizes.folder, source=source),
            validation=data.validation,
            test=data.test,
            seed=SPLIT_SEED,
        )
        if named is not None:
            check_images(named, self.data, key="supernet.from")
        self.family: Family = find_family(job.supernet, self.data, checkpoint=named, pretrained=sizes, source=source)
        self.sharing = find_sharing(job.supernet, self.family, checkpoint=self.checkpoint, source=source)
        self.precisions = Precisions(job.precisions)
        self.space = self.precisions.space(self.family.space)
        """Of candidates: the family's networks, in each of the precisions."""

    @cached_property
    def profiles(self) -> list[HardwareProfile]:
        """The job's hardware profiles, read when they are first needed: training and exporting do without.

        Raises:
            JobError: one is unknown, its file is missing or malformed, or two share a name.
        """
        profiles = []
        for i, name in enumerate(self.job.hardware):
            try:
                profiles.append(load_profile(name))
            except ProfileError as error:
                raise JobError(f"{self._source}: hardware[{i}]: {error}") from None
        for i, profile in enumerate(profiles):
            if profile.name in (earlier.name for earlier in profiles[:i]):
                raise JobError(
                    f"{self._source}: hardware[{i}]: a second profile named {profile.name!r}; rename it in its file"
                )
        return profiles

    @cached_property
    def lookup_tables(self) -> dict[str, Path]:
        """The job's lookup tables by the profile that each is of; only files that hold one of a profile of the job.

        Raises:
            LookupTableError: a file is missing, damaged, unfinished, or was measured otherwise.
            JobError: it is of no profile of the job, or two are of one.
        """
        found: dict[str, Path] = {}
        for i, path in enumerate(self.job.lookup_tables):
            where = f"{self._source}: lookup_tables[{i}]"
            name = profile_of(path)
            profile = next((p for p in self.profiles if p.name == name), None)
            if profile is None:
                known = ", ".join(p.name for p in self.profiles)
                raise JobError(f"{where}: {path} is of profile {name!r}, and the job measures on {known}; remove it")
            if name in found:
                raise JobError(f"{where}: a second table of profile {name!r}, after {found[name]}; keep one")
            load_lookup(path, profile=profile, environment=None)
            found[name] = path
        return found

    @cached_property
    def objectives(self) -> list[Objective]:
        """The job's objectives."""
        return self.job.parsed_objectives([p.name for p in self.profiles], source=self._source)

    @cached_property
    def constraints(self) -> list[Constraint]:
        """What the job's networks must keep."""
        return self.job.parsed_constraints([p.name for p in self.profiles], source=self._source)

    @property
    def figures(self) -> list[Objective]:
        """What is measured of every candidate: the objectives, and the figures that constraints alone are on."""
        return metrics_of(self.objectives, self.constraints)

    def check_trainable(self) -> None:
        """Raises unless what the training needs is here: its teacher, its device, an epoch for each of its phases.

        Raises:
            JobError, CheckpointError, TrainingError: it is not.
        """
        if self.checkpoint is None:
            self.teacher, self.device  # noqa: B018  reading them is the check
            self.strategy().phases(self.job.training.epochs)

    def check_measurable(self) -> dict[str, Mapping[str, Any]]:
        """The environment of each profile, by its name; raises unless each can be measured in every precision.

        Each profile's machine is asked; for those on Ray nodes, a cluster must be connected. The objectives and lookup tables
        are checked, too.

        Raises:
            ProfileError: a machine does not have what its profile asks for, or is not there.
            JobError: an objective or a constrained figure is unknown, no network of the space keeps a constraint, a
                provider does not run a precision, or a lookup table is of another space.
            LookupTableError: a table is damaged, or of another profile, machine or precision.
        """
        self.objectives, self.lookup_tables  # noqa: B018  reading them is the check
        self._check_screening()
        self._check_keepable()
        found = {}
        for profile in self.profiles:
            check_machine(profile)
            for precision in self.precisions.names:
                try:
                    check_precision(precision, profile.provider)
                except PrecisionError as error:
                    raise JobError(f"{self._source}: precisions: profile {profile.name}: {error}") from None
            with open_profiler(profile) as profiler:
                found[profile.name] = environment = profiler.environment()
            if (path := self.lookup_tables.get(profile.name)) is not None:
                self._check_table(path, load_lookup(path, profile=profile, environment=environment))
        return found

    def _check_keepable(self) -> None:
        """Refuses bounds on computed costs that are beyond the smallest and the largest network's."""
        exact = [c for c in self.constraints if c.metric.metric in EXACT_METRICS]
        if not exact:
            return
        supernet = self.untrained() if self.checkpoint is None else self.checkpoint.supernet
        ends = [self.space.smallest, self.space.largest]  # every cost grows with every choice
        for constraint in exact:
            figure = constraint.metric
            low, high = _exact_values(supernet, self.precisions, figure.metric, ends).tolist()
            for key, bound, broken in (
                ("max", constraint.maximum, constraint.maximum is not None and constraint.maximum < low),
                ("min", constraint.minimum, constraint.minimum is not None and constraint.minimum > high),
            ):
                if broken:
                    raise JobError(
                        f"{self._source}: constraints.{figure.name}.{key}: no network of the space keeps {bound:g}: "
                        f"theirs are from {low:g} (the smallest) to {high:g} (the largest); change it, or the space"
                    )

    def _check_screening(self) -> None:
        few, images = self.job.search.screen_images, len(self.data.validation.labels)
        where = f"{self._source}: search.screen_images"
        if few is not None and all(figure.metric != "accuracy" for figure in self.figures):
            raise JobError(f"{where}: the job takes no accuracy, so there is nothing to screen by; remove it")
        if few is not None and few >= images:
            raise JobError(f"{where}: expected fewer than the {images} validation images, got {few}; a tenth is plenty")

    def _check_table(self, path: Path, table: LookupTable) -> None:
        if table.source != self.space_digest:
            raise JobError(
                f"{self._source}: lookup_tables: {path} is of another space ({table.source}) than the job's "
                f"({self.space_digest}); calibrate with this job"
            )
        for precision in self.precisions.names:
            if precision not in table.fits:
                raise JobError(
                    f"{self._source}: lookup_tables: {path} has no fit for {precision}, only for "
                    f"{', '.join(table.fits)}; calibrate with this job, into the same file"
                )

    @property
    def space_digest(self) -> str:
        """Tells families, spaces and image sizes apart."""
        text = json.dumps(self.family.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def conditions(self, *, measured: bool) -> dict[str, Any]:
        """What figures must share to be put together: space, data, supernet and (where `measured`) profiles, JSON-able."""
        data, checkpoint = self.data, self.checkpoint
        supernet: dict[str, Any] = {} if self.sharing == PLAIN else {"sharing": self.sharing.to_json()}
        supernet |= asdict(self.settings()) | self.job.training.recipe
        if self.pretrained is not None:
            supernet["pretrained"] = self.pretrained.digest
        if self._origin is not None:
            supernet["origin"] = self._origin.weights_digest
        found: dict[str, Any] = {
            "space": self.family.space.to_json(),
            "family": _of_family(self.family),
            "data": {part: getattr(data, part).digest for part in ("train", "validation", "test")},
            "calibration_images": self.job.calibration_images,
            "supernet": supernet if checkpoint is None else {"weights": checkpoint.weights_digest},
        }
        if measured:
            found["profiles"] = {profile.name: asdict(profile) for profile in self.profiles}
            if self.job.data.of_text:
                found["timed_tokens"] = self.job.data.timed_tokens
        return cast(dict[str, Any], json.loads(json.dumps(found)))

    @property
    def device(self) -> torch.device:
        """What the job trains on.

        Raises:
            JobError: it asks for an accelerator that torch does not see.
        """
        return find_device(self.job.training, source=self._source)

    @property
    def teacher(self) -> nn.Module | None:
        """The frozen network that the job's subnets learn from: the largest of another trained supernet.

        Raises:
            JobError, CheckpointError: it is unknown or unfinished, or was trained on other images.
        """
        return None if self._teacher is None else self._teacher[0]

    @property
    def teacher_weights(self) -> str | None:
        """The digest of the weights that the teacher is of."""
        return None if self._teacher is None else self._teacher[1]

    @cached_property
    def _teacher(self) -> tuple[nn.Module, str] | None:
        source, key = self.job.training.teacher, "training.teacher"
        if source is None or self.checkpoint is not None:
            return None
        checkpoint = load_trained(self._runs, source, self.job.training.teacher_path, where=f"{self._source}: {key}")
        check_outputs(checkpoint, self.family, source=source, key=key)
        check_images(checkpoint, self.data, key=key)
        network = checkpoint.supernet.extract(checkpoint.supernet.space.largest)
        return recalibrate(network, self.calibration.split(250)), checkpoint.weights_digest

    def _load_from(self) -> Checkpoint | None:
        named = self.job.supernet
        if named.from_ is None:
            return None
        return load_trained(self._runs, named.from_, named.from_path, where=f"{self._source}: supernet.from")

    def untrained(self) -> Supernet:
        """The supernet as it is before training: initialised by the job's seed, or made of the pretrained network (unless its
        run has a checkpoint, whose weights take the place of these), or of the one that is trained further."""
        torch.manual_seed(self.job.seed)
        weights: Mapping[str, torch.Tensor] | None = None
        if isinstance(self.family, SingleFamily) and self._origin is not None:
            network = self._origin.supernet.extract(self.family.network)
            weights = recalibrate(network, self.calibration.split(250)).state_dict()
        elif self.pretrained is not None and self.pretrained.network is not None:
            weights = pretrained_weights(self.pretrained.network, self.family)
        return make_supernet(self.family, self.sharing, pretrained=weights)

    def strategy(self) -> TrainingStrategy:
        """The job's training strategy."""
        return make_strategy(self.job.training, self.family, self.untrained)

    def settings(self) -> TrainingSettings:
        """The job's training settings."""
        return make_settings(self.job)

    def algorithm(self, supernet: Supernet, earlier: Sequence[Evaluation] = ()) -> SearchAlgorithm:
        """The job's search algorithm, over this supernet's space; `earlier` figures are other runs'."""
        exact = {
            o.name: partial(_exact_values, supernet, self.precisions, o.metric)
            for o in self.figures
            if o.metric in EXACT_METRICS
        }
        search = self.job.search
        task = Task(
            self.space, self.objectives, self.job.seed, constraints=self.constraints,
            features=self._features(supernet), exact=exact, tune_seconds=search.tune_seconds,
            earlier=earlier,
        )  # fmt: skip
        return make_algorithm(search.algorithm, task)

    def _features(self, supernet: Supernet) -> dict[str, FeatureSource]:
        """Analytic features by the name of each figure that is modelled; with block latencies where there are some."""
        plain = partial(architecture_features, supernet, precisions=self.precisions)
        costs = FeatureSource(plain, feature_layout(len(self.family.blocks), self.space))
        found = {o.name: costs for o in self.figures if o.metric not in EXACT_METRICS}
        for profile in self.profiles:
            if (path := self.lookup_tables.get(profile.name)) is not None:
                table = load_lookup(path, profile=profile, environment=None)
                rows = LatencyFeatures(supernet, table, self.precisions)
                timed = [o.name for o in self.figures if o.profile == profile.name and o.metric in _OF_TIME]
                found |= dict.fromkeys(timed, FeatureSource(rows, rows.layout))
        return found

    def evaluator(
        self, supernet: Supernet, weights: str, part: Part, scoring: Scoring, *,
        screen_images: int | None = None, seed: int, note: Callable[[str], None], machines: Machines,
    ) -> Measured:  # fmt: skip
        """What measures this supernet's subnets, with accuracy on one part of the data."""
        profiles = {
            profile.name: Timed(
                open_profiler(profile, seed=seed, on_wait=note, levels=machines.levels(profile.name)),
                self.examples(profile),
            )
            for profile in self.profiles
        }
        return Measured(
            scoring, supernet.cost, profiles,
            n_images=len(part.labels), weights=weights, data=part.digest, screen_images=screen_images, machines=machines,
        )  # fmt: skip

    def examples(self, profile: HardwareProfile) -> tuple[NDArray[Any], ...]:
        """What a profile's timed runs go through, one call each: batches of real inputs, (batch, ...), from the validation
        part."""
        size, tokens = profile.batch_size, self.job.data.timed_tokens
        return tuple(inputs.numpy() for inputs in typical_batches(self.data.validation, size, tokens=tokens))

    @cached_property
    def calibration(self) -> Part:
        """Of the training part, for batch-norm statistics: always the same first examples."""
        return head(self.data.train, self.job.calibration_images)


def _of_family(family: Family) -> dict[str, Any]:
    """What its networks are made of beyond what the space tells: fixed sizes, strides, activations."""
    plain, nested = family.to_json(), isinstance(family, NestedFamily)
    network = {"network": plain["network"]} if isinstance(family, SingleFamily) else {}
    while "of" in plain:
        plain = plain["of"]
    return {"family": plain["family"], "nested": nested, **network, **plain["spec"]}


def _exact_values(
    supernet: Supernet, precisions: Precisions, metric: str, candidates: Sequence[Architecture]
) -> NDArray[np.float64]:
    split = [precisions.split(candidate) for candidate in candidates]
    table = supernet.costs([network for network, _ in split])
    figures = getattr(table, metric).sum(axis=1).tolist()
    pairs = zip(figures, split, strict=True)
    return np.array([exact_value(metric, figure, precision) for figure, (_, precision) in pairs], dtype=np.float64)
