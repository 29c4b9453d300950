"""The composition root: makes the objects of a job: data, family, supernet, and what its training needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas.engine.process_memory import LARGE_BYTES, release_free_memory
from nas.errors import JobError
from nas.jobs.build.checkpoints import (
    check_outputs,
    check_training_data,
    find_checkpoint,
    named_checkpoint,
    training_digest,
)
from nas.jobs.build.family import find_family, find_sharing, with_rate_of_family
from nas.jobs.build.head import with_head
from nas.jobs.build.job_data import JobData, load_job_data
from nas.jobs.build.original import check_class_order, with_original
from nas.jobs.build.plugin_strategy import plugin_strategy
from nas.jobs.build.pretrained import ExpertStart, Pretrained, load_pretrained, pretrained_weights, without_experts
from nas.jobs.build.serving import Serving, find_serving, served_memory
from nas.jobs.build.user_model import family_of, load_model
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH
from nas.jobs.evaluation.served_memory import ServedMemory
from nas.jobs.resolve.references import check_parts
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema.supernet import PARTITION
from nas.jobs.schema.training import TrainingConfig, own_teacher
from supernets.data import DataSet, OnProgress, batches, no_progress
from supernets.data.targets import NO_LABELS
from supernets.errors import CheckpointError
from supernets.families.decoder.activations import activation_importance, measure_activations
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.single_network import SingleFamily
from supernets.networks.capture.captured_model import CapturedModel
from supernets.networks.family_program import without_weights
from supernets.sharing.base import Family, Supernet, TrainingStrategy
from supernets.sharing.chain import ChainSharing
from supernets.sharing.removal import removal_importance
from supernets.sharing.sorting import importance, orders, taylor_importance
from supernets.sharing.spec import SharingSpec
from supernets.space import Architecture, SearchSpace
from supernets.training.checkpoint import Checkpoint, make_supernet, weights_digest
from supernets.training.recalibration import Extraction
from supernets.training.strategies.attentive import AttentiveStrategy
from supernets.training.strategies.differentiable import DifferentiableStrategy
from supernets.training.strategies.instatune import InstaTuneStrategy
from supernets.training.strategies.progressive import ProgressiveStrategy
from supernets.training.strategies.relaxation import Relaxation
from supernets.training.strategies.single_phase import (
    LargestStrategy,
    SandwichStrategy,
    SinglePathStrategy,
    SortedStrategy,
    Teacher,
)
from supernets.training.strategies.smoe_dropout import SMoEDropoutStrategy
from supernets.training.training_loop import TrainingSettings


@dataclass(frozen=True, eq=False, repr=False)
class TeacherNetwork:
    """A frozen network that a job's subnets learn from: the largest of another trained supernet, or the model that the job's
    own is made of.

    Attributes:
        weights_digest: Digest of its supernet's weights, or of the model's.
    """

    network: nn.Module
    weights_digest: str


_BFLOAT16 = re.compile(r"\b(avx512_bf16|amx_bf16|bf16)\b")
"""The flags by which Linux lists the instructions that multiply in bfloat16."""


def find_device(
    training: TrainingConfig, *, source: str, cpu_information: Path = Path("/proc/cpuinfo")
) -> torch.device:
    """The device of a training: an accelerator where the job allows it and torch finds one.

    Raises:
        JobError: the job asks for an accelerator that torch does not find, or for bfloat16 on a CPU that lacks it.
    """
    wanted, available = training.device, torch.cuda.is_available()
    if wanted == "cuda" and not available:
        message = f"{source}: training.device: torch finds no CUDA device here; use auto or cpu"
        raise JobError(message, code="job.no-accelerator")
    if wanted != "cpu" and available:
        return torch.device("cuda")
    if training.precision == "bfloat16":
        cpu_text = cpu_information.read_text() if cpu_information.is_file() else ""
        if not _BFLOAT16.search(cpu_text):
            message = "this CPU has no instructions for bfloat16 (AVX512-BF16, AMX), which would be slower than float32"
            raise JobError(f"{source}: training.precision: {message}; use auto", code="job.no-bfloat16")
    return torch.device("cpu")


@dataclass(frozen=True, eq=False, repr=False)
class BuiltJob:
    """A job's data and its family of networks, with what the weights of its supernet begin as, found to fit one another.

    Attributes:
        checkpoint: Checkpoint of the trained supernet that is searched; None where the job trains one.
        parent: checkpoint of the supernet of the network that is fine-tuned.
        pretrained: the network that the supernet starts from.
        model: the user's, captured, that the supernet is made of.
    """

    job: ResolvedJob
    data: JobData
    family: Family
    sharing: SharingSpec
    checkpoint: Checkpoint | None
    parent: Checkpoint | None
    pretrained: Pretrained | None
    model: CapturedModel | None

    @cached_property
    def space(self) -> SearchSpace:
        """The space of candidates: the family's networks, in each of the variants."""
        return self.job.variants.space(self.family.space)

    @cached_property
    def serving(self) -> Serving | None:
        """How its language models are served, and timed; None for other networks. Raises `JobError` as `find_serving`."""
        return find_serving(self.data, self.family)

    def memory(self, supernet: Supernet) -> ServedMemory | None:
        """The memory of its language models; None for other networks. Raises `JobError` as `served_memory`."""
        return served_memory(self.serving, supernet, self.job)

    @cached_property
    def training_data(self) -> DataSet:
        """The data with the labels that networks are trained on, where these are the original's outputs."""
        task, data = self.data.task, self.data.dataset
        return (
            data if data.targets != NO_LABELS else replace(data, train=task.examples(task.metrics[0].name, data.train))
        )

    def current(self) -> Supernet:
        """The trained supernet that the job names, else a new one."""
        return self._new() if self.checkpoint is None else self.checkpoint.supernet

    def outline(self) -> Supernet:
        """A supernet for sizes and costs alone: the trained one that the job names, else one that may have no weights."""
        if self.checkpoint is not None:
            return self.checkpoint.supernet
        return without_weights(partial(make_supernet, self.family, self.sharing))

    def untrained(self) -> Supernet:
        """A new supernet at the beginning of its training, whose experts are merged and units sorted where the job says so."""
        supernet, texts = self._new(), self.data.calibration.split(CALIBRATION_BATCH)
        if (merging := cast(ChainSharing, supernet.sharing).merging) is not None:
            merging.fit(supernet.sharing.template, supernet.extract(supernet.space.largest), texts)
        match self.job.config.supernet.sort:
            case "weights":
                supernet.sort(orders(importance(supernet)))
            case "taylor":
                task = self.data.task
                shown = batches(
                    task.examples(task.metrics[0].name, self.data.calibration),
                    self.job.config.training.batch_size,
                    generator=None,
                )
                supernet.sort(orders(taylor_importance(supernet, shown, task.loss)))
            case "activations":
                largest = supernet.extract(supernet.space.largest)
                if isinstance(largest, Decoder):
                    supernet.sort(orders(activation_importance(largest, measure_activations(largest, texts))))
                else:
                    supernet.sort(orders(removal_importance(supernet, texts)))
        return supernet

    def _new(self) -> Supernet:
        """A new supernet, initialised by the job's seed.

        Its weights are those of the parent's network or of the pretrained network, where the job names one. A run that has a
        checkpoint keeps no pretrained weights: the checkpoint replaces them.
        """
        torch.manual_seed(self.job.config.seed)
        weights: Mapping[str, torch.Tensor] | None = None
        if isinstance(self.family, SingleFamily) and self.parent is not None:
            weights = self._recalibrated(self.parent.supernet, self.family.network).state_dict()
        elif self.pretrained is not None and self.pretrained.weights is not None:
            weights, state = self._cached_pretrained_weights if self.family.has_experts else self._pretrained_weights()
            torch.set_rng_state(state)  # as after the first time
        supernet = make_supernet(self.family, self.sharing, pretrained=weights)
        if weights is not None and sum(tensor.nbytes for tensor in weights.values()) > LARGE_BYTES:
            weights = None
            release_free_memory()
        return supernet

    @cached_property
    def _cached_pretrained_weights(self) -> tuple[Mapping[str, torch.Tensor], torch.Tensor]:
        """`_pretrained_weights`, computed once: dividing MLPs into experts takes minutes."""
        return self._pretrained_weights()

    def _pretrained_weights(self) -> tuple[Mapping[str, torch.Tensor], torch.Tensor]:
        """The tensors that the supernet begins with, and the state of torch's generator after they were made."""
        network = None if self.pretrained is None else self.pretrained.network()
        assert network is not None
        torch.manual_seed(self.job.config.seed)
        partition = self.job.config.supernet.partition or PARTITION
        start = ExpertStart(partition, self.data.calibration.split(CALIBRATION_BATCH), self.job.config.seed)
        return pretrained_weights(network, self.family, start), torch.get_rng_state()

    def strategy(self) -> TrainingStrategy:
        """The strategy that the job's training section names."""
        training, space = self.job.config.training, self.family.space
        distill = self._distill
        alone: Literal["frozen", "none"] = "frozen" if distill == "frozen" else "none"
        match training.strategy:
            case "sandwich":
                return SandwichStrategy(space, training.random_subnets, distill, training.largest_epochs)
            case "single-path":
                return SinglePathStrategy(space, alone)
            case "largest":
                return LargestStrategy(space, alone)
            case "smoe-dropout":
                return SMoEDropoutStrategy(space, alone)
            case "sorted":
                return SortedStrategy(space, training.micro_batches, alone)
            case "progressive":
                return ProgressiveStrategy(self.family, distill)
            case "attentive":
                macs = partial(_macs, self._new())
                return AttentiveStrategy(
                    space, macs, training.random_subnets, training.candidates, training.pick, distill
                )
            case "differentiable":
                return DifferentiableStrategy(space, Relaxation(self.outline()), training.target, alone)
            case "instatune":
                return InstaTuneStrategy(
                    space,
                    training.random_subnets,
                    training.label_weight,
                    training.temperature,
                    teacher_epochs=(training.teacher_epochs or training.epochs) if distill == "frozen" else 0,
                    sort=training.sort,
                )
            case name:
                if (ref := self.job.plugin(key := "training.strategy")) is None:
                    raise ValueError(f"the shipped strategy {name} is not made here")
                settings, passed_object = training.settings, self.job.objects.get(key)
                return plugin_strategy(
                    ref, self.family, distill=distill, settings=settings, passed_object=passed_object
                )

    @property
    def _distill(self) -> Teacher:
        """The teacher of the subnets; a model with a fresh layer does not know the data's classes and teaches nobody."""
        training = self.job.config.training
        if training.distill == "original" and self.model is not None and self.model.fresh:
            return own_teacher(training.strategy)
        match training.distill:
            case "teacher" | "original":
                return "frozen"
            case strategy_teacher:
                return strategy_teacher

    @property
    def notes(self) -> tuple[str, ...]:
        """The changes of the user's model and their consequences, one sentence each."""
        if self.model is None:
            return ()
        if self.job.config.training.distill == "original" and self._distill != "frozen":
            taught = {"largest": "the largest network teaches instead", "none": "nothing is distilled"}[self._distill]
            text = (
                f"training.distill: original: {self.model.fresh[0]} is fresh, so that the model cannot teach; {taught}"
            )
            return (*self.model.notes, text)
        return self.model.notes

    def settings(self) -> TrainingSettings:
        """The job's training settings."""
        job, training = self.job.config, self.job.config.training
        return TrainingSettings(
            training.epochs,
            training.batch_size,
            training.learning_rate,
            training.weight_decay,
            divergence=training.divergence,
            shift=training.augment.shift,
            flip=training.augment.flip,
            calibration_images=job.calibration_images,
            keep=training.keep,
            threads=training.threads,
            seed=job.seed,
            clip_norm=training.clip_norm,
            top_k=training.top_k,
            accumulate=training.accumulate,
            activation_checkpointing=training.activation_checkpointing,
            precision=training.precision,
            balance_loss=training.balance_loss,
            router_z_loss=training.router_z_loss,
            entropy_loss=training.entropy_loss,
            parameters=training.parameters,
        )

    def device(self) -> torch.device:
        """The device of the training, as of `find_device`."""
        return find_device(self.job.config.training, source=self.job.source)

    @cached_property
    def teacher(self) -> TeacherNetwork | None:
        """The network that the job's subnets learn from; None without one, and where nothing is trained.

        Raises:
            JobError, CheckpointError: it is unknown or unfinished, or was trained on other data.
        """
        training, key = self.job.config.training, "training.teacher"
        if self.checkpoint is not None or self._distill != "frozen":
            return None
        if training.teacher is None:
            return self._original()
        where = f"{self.job.source}: {key}"
        checkpoint = find_checkpoint(self.job.runs, training.teacher, training.teacher_path, where=where)
        check_outputs(checkpoint, self.family, source=training.teacher, key=key)
        check_training_data(checkpoint, self.data.dataset, key=key)
        supernet = checkpoint.supernet
        return TeacherNetwork(self._recalibrated(supernet, supernet.space.largest), checkpoint.weights_digest)

    def _original(self) -> TeacherNetwork:
        """The model, or the pretrained network, that the supernet is made of."""
        if self.model is not None:
            network, digest = self._new(), weights_digest(self.model.tensors)
        elif self.pretrained is not None:
            original, digest = self.pretrained.original(str(self.job.config.supernet.pretrained))
            family = without_experts(original, self.family) or self.family
            network = make_supernet(family, pretrained=pretrained_weights(original, family))
        else:
            raise ValueError("a job without a teacher or a model is refused when it is read")
        return TeacherNetwork(network.extract(network.space.largest), digest)

    def _recalibrated(self, supernet: Supernet, network: Architecture) -> nn.Module:
        return Extraction(supernet, self.data.calibration.split(CALIBRATION_BATCH))(network)


def build_job(job: ResolvedJob, *, on_progress: OnProgress = no_progress, prove: bool = True) -> BuiltJob:
    """The objects of a job: data, checkpoint, pretrained network and family, found to fit one another.

    Hardware profiles, lookup tables and the teacher are read when they are first used.

    Args:
        on_progress: called about once a second while the data are read.
        prove: False to leave out the proof of a model's axes, where no network of this job is used.

    Raises:
        JobError, DataError, CheckpointError, SpaceError: the job cannot be done, and why.
    """
    check_parts(job)
    job = with_rate_of_family(job)
    _ = job.plugins  # names are found before data are read
    origin = named_checkpoint(job)
    pretrained, user_model = load_pretrained(job), load_model(job)
    trained_on = training_digest(origin, job.run)
    data = load_job_data(job, pretrained=pretrained, model=user_model, trained_on=trained_on, on_progress=on_progress)
    if pretrained is not None and data.dataset.vocabulary is not None:
        try:
            pretrained = pretrained.with_vocabulary(data.dataset.vocabulary)
        except CheckpointError as error:
            raise JobError(f"{job.source}: supernet: {error}", code="job.unfit-data") from None
    if origin is not None:
        check_training_data(origin, data.dataset, key="supernet.from")
    n_outputs = data.task.n_outputs(data.dataset)
    model = None if user_model is None else user_model.captured(data.dataset, n_outputs, prove=prove)
    data = with_original(data, model)
    check_class_order(data)
    family: Family
    if model is not None:
        family = family_of(model, job)
    else:
        family = find_family(job, data, n_outputs=n_outputs, checkpoint=origin, pretrained=pretrained)
    data = with_head(data, family)
    checkpoint, parent = (None, origin) if job.config.supernet.trains else (origin, None)
    sharing = find_sharing(job, family, checkpoint)
    return BuiltJob(job, data, family, sharing, checkpoint, parent, pretrained, model)


def _macs(supernet: Supernet, networks: Sequence[Architecture]) -> NDArray[Any]:
    """Multiply-accumulates of networks, (n,)."""
    return np.asarray(supernet.costs(networks).macs.sum(axis=1), dtype=np.float64)
