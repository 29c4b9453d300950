"""Checks of a job file that need neither its data nor a library that is slow to import (no torch)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import nas.engine
from nas.engine.store.folder import RunsFolder
from nas.errors import JobError, NasError, Remedy, UnknownNameError
from nas.jobs.build.required_parts import check_parts
from nas.jobs.build.resolved_job import ResolvedJob
from nas.jobs.schema import SearchJob
from nas.jobs.schema.data import DOCUMENTS, NUMBERS, PAIRS, TABLE, TEXT
from nas.plugins.parts import require
from supernets.errors import CheckpointError, DataError
from supernets.networks.formats.pretrained import CONFIG, GGUF, HUB, WEIGHTS, find_pretrained

if TYPE_CHECKING:
    from nas.engine.store.run_facts import Kind

_ACCELERATORS = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")
"""Files in /dev of what torch calls a CUDA device: NVIDIA's drivers, those of its boards, WSL's, and AMD's."""


def check_references(config: SearchJob, runs: RunsFolder, *, source: str, replay: str | None = None) -> None:
    """Raises the error of the first name or path that stands for nothing: a profile, metric, lookup table, run or file.

    Raises `PartError` if an optional part of the installation is missing that the job needs.

    Args:
        source: name of the job file in errors.
        replay: the run whose measurements are reused.
    """
    check_parts(config, source=source)
    job = ResolvedJob(config, source)
    _ = job.metrics, job.lookup_tables
    _check_data(config, source=source)
    _check_pretrained(config, source=source)
    supernet, training = config.supernet, config.training
    _check_supernet(supernet.from_, supernet.from_path, runs, where=f"{source}: supernet.from")
    _check_supernet(training.teacher, training.teacher_path, runs, where=f"{source}: training.teacher")
    for i, run in enumerate(config.warm_start):
        _check_search(run, runs, where=f"{source}: warm_start[{i}]")
    if replay is not None:
        _check_search(replay, runs, where="replay")


def check_training(config: SearchJob, *, source: str, inline: bool = False) -> None:
    """Checks that this machine has what the job's training asks for; passes a job that names a trained supernet.

    Raises:
        JobError: fewer cores than threads, no accelerator, or several workers without Ray.
    """
    training = config.training
    if not config.supernet.trains:
        return
    if training.threads > (cores := len(os.sched_getaffinity(0))):
        message = f"{training.threads} threads, and this machine grants {cores} cores; lower it"
        raise JobError(f"{source}: training.threads: {message}", code="job.too-many-threads")
    if training.device == "cuda" and not any(_has_file(Path("/dev"), pattern) for pattern in _ACCELERATORS):
        message = "cuda, and this machine has no driver of a GPU (no /dev/nvidia*); use auto or cpu"
        raise JobError(f"{source}: training.device: {message}", code="job.no-accelerator")
    if inline and training.workers > 1:
        message = f"{training.workers} workers need Ray; run with Ray (not inline), or with one worker"
        raise JobError(f"{source}: training.workers: {message}", code="job.workers-need-ray")


def check_kind(job: SearchJob, kind: Kind, *, source: str) -> None:
    """Raises `JobError` for the training of a job that names a trained supernet."""
    if kind == "training" and not job.supernet.trains:
        text = f"{source}: supernet.from: names a trained supernet, so there is nothing to train; remove it"
        raise JobError(text, code="job.nothing-to-train")


def not_a_search(run: str, *, where: str) -> NasError:
    """The error of a run whose measurements are asked for, and that is a training."""
    text = f"{where} {run}: it is no search, so it has no measurements to take; name a search"
    return NasError(text, code="run.not-a-search", remedy=Remedy("runs"), parameter=where)


def _has_file(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None


def _check_data(config: SearchJob, *, source: str) -> None:
    data = config.data
    for key, path in data.paths.items():
        if not path.exists():
            raise DataError(f"{source}: data.{key}: {path} does not exist; correct the path", code="data.missing")
    if data.path is not None and data.name not in (TEXT, TABLE, NUMBERS, DOCUMENTS, PAIRS) and not data.path.is_dir():
        content = (
            "one folder of images for each class" if data.name == "image-folder" else "the four files of Fashion-MNIST"
        )
        remedy = "; unpack an archive first" if data.path.suffix in (".zip", ".tar", ".gz", ".tgz") else ""
        message = f"{data.path} is a file; expected a folder with {content}{remedy}"
        raise DataError(f"{source}: data.path: {message}", code="data.layout")


def _check_pretrained(config: SearchJob, *, source: str) -> None:
    name = config.supernet.pretrained
    if name is None or name.startswith(HUB):  # the hub is asked later, as it may take its time
        return
    try:
        folder = find_pretrained(name)
        if folder.suffix == GGUF and folder.is_file():
            require("gguf", f"{source}: supernet.pretrained: {folder.name}")
            return
        if not (folder / CONFIG).is_file():
            state = f"has no {CONFIG}" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
            expected = f"a pretrained model's folder with {CONFIG} and {WEIGHTS}, or a {GGUF} file of a language model"
            raise CheckpointError(f"{folder} {state}; expected {expected}; correct the path")
    except CheckpointError as error:
        raise JobError(f"{source}: supernet.pretrained: {error}", code="job.pretrained-unusable") from None


def _check_supernet(run_id: str | None, path: Path | None, runs: RunsFolder, *, where: str) -> None:
    if path is not None and not path.is_dir():
        state, expected = (
            "is a file" if path.exists() else "does not exist",
            "give a run, or the folder of a trained checkpoint",
        )
        raise CheckpointError(f"{where}: {path} {state}; {expected}", code="checkpoint.missing")
    if run_id is not None and path is None:
        _check_run(run_id, runs, where=where)


def _check_search(run: str, runs: RunsFolder, *, where: str) -> None:
    _check_run(run, runs, where=where)
    if nas.engine.StoredRun.open(runs, run).kind == "training":
        raise not_a_search(run, where=where)


def _check_run(run: str, runs: RunsFolder, *, where: str) -> None:
    try:
        runs.get(run)
    except UnknownNameError as error:
        raise JobError(f"{where}: {error}", code=error.code, parameter=where) from None
