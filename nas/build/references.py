"""Checks the names and paths of a job file before its data or a library that is slow to import are loaded (no torch)."""

from __future__ import annotations

from pathlib import Path

from nas.build.resolved_job import ResolvedJob
from nas.config import SearchJob
from nas.errors import JobError, UnknownNameError
from nas.store.folder import RunsFolder
from supernets.errors import CheckpointError, DataError
from supernets.pretrained import CONFIG, HUB, WEIGHTS, find_pretrained


def check_references(config: SearchJob, runs: RunsFolder, *, source: str, replay: str | None = None) -> None:
    """Raises the error of the first name or path that stands for nothing: a profile, metric, lookup table, run or file.

    Args:
        source: name of the job file in errors.
        replay: the run that ``--replay`` names.
    """
    job = ResolvedJob(config, source)
    _ = job.metrics, job.lookup_tables
    for key, path in config.data.paths.items():
        if not path.exists():
            raise DataError(f"{source}: data.{key}: {path} does not exist; correct the path", code="data.missing")
    _check_pretrained(config, source=source)
    supernet, training = config.supernet, config.training
    _check_supernet(supernet.from_, supernet.from_path, runs, where=f"{source}: supernet.from")
    _check_supernet(training.teacher, training.teacher_path, runs, where=f"{source}: training.teacher")
    for i, run in enumerate(config.warm_start):
        _check_run(run, runs, where=f"{source}: warm_start[{i}]")
    if replay is not None:
        _check_run(replay, runs, where="--replay")


def _check_pretrained(config: SearchJob, *, source: str) -> None:
    name = config.supernet.pretrained
    if name is None or name.startswith(HUB):  # the hub is asked later, as it may take its time
        return
    try:
        folder = find_pretrained(name)
        if not folder.exists():
            expected = f"a pretrained model's folder with {CONFIG} and {WEIGHTS}"
            raise CheckpointError(f"{folder} does not exist; expected {expected}; correct the path")
    except CheckpointError as error:
        raise JobError(f"{source}: supernet.pretrained: {error}", code="job.pretrained-unusable") from None


def _check_supernet(named: str | None, path: Path | None, runs: RunsFolder, *, where: str) -> None:
    if path is not None and not path.exists():
        expected = "give a run or a folder that `nas train` wrote"
        raise CheckpointError(f"{where}: {path} does not exist; {expected}", code="checkpoint.missing")
    if named is not None and path is None:
        _check_run(named, runs, where=where)


def _check_run(run: str, runs: RunsFolder, *, where: str) -> None:
    try:
        runs.get(run)
    except UnknownNameError as error:
        raise JobError(f"{where}: {error}", code=error.code) from None
