"""The composition root: `prepare_job` makes every object of a job from its config."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from nas.build.checkpoints import check_training_data, named_checkpoint
from nas.build.family import find_family, find_sharing
from nas.build.job_data import JobData, load_job_data
from nas.build.pretrained import load_pretrained
from nas.build.resolved_job import ResolvedJob
from nas.build.supernet_factory import SupernetFactory
from nas.build.training import check_threads
from nas.config import SearchJob
from nas.store.folder import RunFolder, RunsFolder
from supernets.space import SearchSpace


@dataclass(frozen=True, eq=False, repr=False)
class PreparedJob:
    """A job with its data loaded and its supernet found; `nas.build.checks` checks the rest of it before a run is made."""

    job: ResolvedJob
    data: JobData
    supernets: SupernetFactory

    @property
    def config(self) -> SearchJob:
        """The job file's content."""
        return self.job.config

    @cached_property
    def space(self) -> SearchSpace:
        """The space of candidates: the family's networks, in each of the precisions."""
        return self.job.precisions.space(self.supernets.family.space)


def prepare_job(
    config: SearchJob, runs: RunsFolder, *, run: RunFolder | None = None, source: str = "job"
) -> PreparedJob:
    """The objects of a job: data, checkpoint, pretrained network and family, found to fit one another.

    Hardware profiles, lookup tables and the teacher are read when they are first used.

    Args:
        run: the run that the job belongs to, where it has begun; files that it keeps are read from there.
        source: name of the job file in errors.

    Raises:
        JobError, DataError, CheckpointError, SpaceError: the job cannot be done, and why.
    """
    check_threads(config.training, source=source)
    named = named_checkpoint(config.supernet, runs, source=source)
    pretrained = load_pretrained(config.supernet, run, source=source)
    data = load_job_data(config, runs, pretrained=pretrained, source=source)
    if named is not None:
        check_training_data(named, data.dataset, key="supernet.from")
    sizes = None if pretrained is None else pretrained.config
    family = find_family(config.supernet, data.dataset, checkpoint=named, pretrained=sizes, source=source)
    checkpoint, parent = (None, named) if config.supernet.trains else (named, None)
    supernets = SupernetFactory(
        config, data, runs, family,
        sharing=find_sharing(config.supernet, family, checkpoint=checkpoint, source=source),
        checkpoint=checkpoint, parent=parent, pretrained=pretrained, source=source,
    )  # fmt: skip
    return PreparedJob(ResolvedJob(config, source), data, supernets)
