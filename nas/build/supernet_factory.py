"""Makes a job's supernet and what its training needs: strategy, settings, teacher, device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from nas.build.checkpoints import check_outputs, check_training_data, find_checkpoint
from nas.build.family import pretrained_weights
from nas.build.job_data import JobData
from nas.build.pretrained import Pretrained
from nas.build.training import find_device, make_settings, make_strategy
from nas.config import SearchJob
from nas.evaluation.scoring import CALIBRATION_BATCH
from nas.store.folder import RunsFolder
from supernets.base import Family, Supernet, TrainingStrategy
from supernets.checkpoint import Checkpoint, make_supernet
from supernets.families.single import SingleFamily
from supernets.loop import TrainingSettings
from supernets.recalibration import recalibrate
from supernets.sharing.spec import SharingSpec


@dataclass(frozen=True, eq=False, repr=False)
class TeacherNetwork:
    """A frozen network that a job's subnets learn from: the largest of another trained supernet.

    Attributes:
        weights_digest: of its supernet.
    """

    network: nn.Module
    weights_digest: str


@dataclass(frozen=True, eq=False, repr=False)
class SupernetFactory:
    """A job's family of networks, with what its weights begin as.

    Attributes:
        checkpoint: of the trained supernet that is searched; None where the job trains one.
        parent: checkpoint of the supernet of the network that is fine-tuned.
        pretrained: the network that the supernet starts from.
        source: name of the job file in errors.
    """

    config: SearchJob
    data: JobData
    runs: RunsFolder
    family: Family
    sharing: SharingSpec
    checkpoint: Checkpoint | None
    parent: Checkpoint | None
    pretrained: Pretrained | None
    source: str

    def current(self) -> Supernet:
        """The trained supernet that the job names, else a new one."""
        return self.untrained() if self.checkpoint is None else self.checkpoint.supernet

    def untrained(self) -> Supernet:
        """A new supernet before training, initialised by the job's seed.

        Its weights are those of the parent's network or of the pretrained network, where the job names one. A run that has a
        checkpoint keeps no pretrained weights: the checkpoint replaces them.
        """
        torch.manual_seed(self.config.seed)
        weights: Mapping[str, torch.Tensor] | None = None
        if isinstance(self.family, SingleFamily) and self.parent is not None:
            network = self.parent.supernet.extract(self.family.network)
            weights = self._recalibrated(network).state_dict()
        elif self.pretrained is not None and self.pretrained.network is not None:
            weights = pretrained_weights(self.pretrained.network, self.family)
        return make_supernet(self.family, self.sharing, pretrained=weights)

    def strategy(self) -> TrainingStrategy:
        """The job's training strategy."""
        return make_strategy(self.config.training, self.family, self.untrained)

    def settings(self) -> TrainingSettings:
        """The job's training settings."""
        return make_settings(self.config)

    def device(self) -> torch.device:
        """The device of the training.

        Raises:
            JobError: the job asks for an accelerator that torch does not find.
        """
        return find_device(self.config.training, source=self.source)

    def teacher(self) -> TeacherNetwork | None:
        """The network that the job's subnets learn from; None without one, and where nothing is trained.

        Raises:
            JobError, CheckpointError: it is unknown or unfinished, or was trained on other data.
        """
        return self._teacher

    @cached_property
    def _teacher(self) -> TeacherNetwork | None:
        training, key = self.config.training, "training.teacher"
        if training.teacher is None or self.checkpoint is not None:
            return None
        where = f"{self.source}: {key}"
        checkpoint = find_checkpoint(self.runs, training.teacher, training.teacher_path, where=where)
        check_outputs(checkpoint, self.family, source=training.teacher, key=key)
        check_training_data(checkpoint, self.data.dataset, key=key)
        network = checkpoint.supernet.extract(checkpoint.supernet.space.largest)
        return TeacherNetwork(self._recalibrated(network), checkpoint.weights_digest)

    def _recalibrated(self, network: nn.Module) -> nn.Module:
        return recalibrate(network, self.data.calibration.split(CALIBRATION_BATCH))
