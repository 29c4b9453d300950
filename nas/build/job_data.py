"""The data of a job, loaded: its three parts, the calibration part, and the examples that networks are timed on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from hardware_profiles.base import HardwareProfile
from nas.build.preprocessing import data_options
from nas.build.pretrained import Pretrained
from nas.config import SearchJob
from nas.store.folder import RunsFolder
from supernets.data import DataSet, Part, head, load_data, typical_batches

SPLIT_SEED = 0
"""Seed of the split. Not the job's: a search with another seed would evaluate on images that the supernet was trained on."""


@dataclass(frozen=True, eq=False, repr=False)
class JobData:
    """A data set with the parts of the job file that select from it."""

    dataset: DataSet
    config: SearchJob

    @cached_property
    def calibration(self) -> Part:
        """The first examples of the training part, for batch-norm statistics and quantization."""
        return head(self.dataset.train, self.config.calibration_images)

    def digests(self) -> dict[str, str]:
        """The digest of each part, by its name."""
        return {part: getattr(self.dataset, part).digest for part in ("train", "validation", "test")}

    def timed_batches(self, profile: HardwareProfile) -> tuple[NDArray[Any], ...]:
        """Validation examples that a profile's timed runs use: one batch, (batch, ...), for each call."""
        tokens = self.config.data.timed_tokens
        batches = typical_batches(self.dataset.validation, profile.batch_size, tokens=tokens)
        return tuple(inputs.numpy() for inputs in batches)


def load_job_data(config: SearchJob, runs: RunsFolder, *, pretrained: Pretrained | None, source: str) -> JobData:
    """The data that a job names, preprocessed for the pretrained network that its supernet starts from.

    Raises:
        JobError, CheckpointError: the preprocessing cannot be found, or does not fit what the job says.
        DataError: the data set is missing or malformed.
    """
    data, folder = config.data, None if pretrained is None else pretrained.config.folder
    dataset = load_data(
        data.name,
        path=data.path,
        options=data_options(config, runs, pretrained=folder, source=source),
        validation=data.validation,
        test=data.test,
        seed=SPLIT_SEED,
    )
    return JobData(dataset, config)
