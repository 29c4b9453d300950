"""Checks of a job that need neither its data nor a library that is slow to import (no torch)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import nas.engine
from hardware_profiles.base import HardwareProfile
from nas.engine.store.folder import RunsFolder
from nas.errors import JobError, NasError, Remedy, UnknownNameError
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import SearchJob
from nas.jobs.schema.data import COCO, PATHS, SEGMENTATION, VOC, YOLO
from nas.plugins.parts import require
from nas.search.algorithms import ALGORITHMS
from supernets.errors import CheckpointError, DataError
from supernets.networks.formats.pretrained import CONFIG, GGUF, HUB, WEIGHTS, find_pretrained

if TYPE_CHECKING:
    from nas.engine.store.run_facts import Kind

_ACCELERATORS = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")
"""Files in /dev of what torch calls a CUDA device: NVIDIA's drivers, those of its boards, WSL's, and AMD's."""


def check_references(job: ResolvedJob, *, replay: str | None = None) -> None:
    """Raises the error of the first name or path that stands for nothing: a profile, metric, lookup table, run or file.

    Raises `PartError` if an optional part of the installation is missing that the job needs.

    Args:
        replay: the run whose measurements are reused.
    """
    check_parts(job)
    _ = job.metrics, job.lookup_tables
    config, source = job.config, job.source
    _check_data(config, source=source)
    _check_pretrained(config, source=source)
    supernet, training = config.supernet, config.training
    _check_supernet(supernet.from_, supernet.from_path, job.runs, where=f"{source}: supernet.from")
    _check_supernet(training.teacher, training.teacher_path, job.runs, where=f"{source}: training.teacher")
    for i, run in enumerate(config.warm_start):
        _check_search(run, job.runs, where=f"{source}: warm_start[{i}]")
    if replay is not None:
        _check_search(replay, job.runs, where="replay")


def check_parts(job: ResolvedJob) -> None:
    """Raises `PartError` if a part is missing that every use of the job needs."""
    config = job.config
    if config.data.of_text or config.data.of_documents:
        require("text", f"{job.source}: data.name: {config.data.name}")
    entry = ALGORITHMS.get(config.search.algorithm)
    if entry is not None and entry.part:
        require(entry.part, f"{job.source}: search.algorithm: {config.search.algorithm}")


def check_ray(
    job: ResolvedJob, profiles: Sequence[HardwareProfile], *, inline: bool, address: str | None, workers: int
) -> None:
    """Raises `PartError` if Ray is missing and something explicitly asks for it.

    Args:
        profiles: Profiles on which networks are measured; empty for a training.
        inline: the user wants scoring in this process, so that the job's workers for it do not matter.
        address: Address of the cluster that the user wants to join; None to start one here.
        workers: Number of workers that train.
    """
    if address is not None:
        require("ray", f"address {address}", parameter="address")
    if workers > 1:
        require("ray", f"{job.source}: training.workers: {workers} workers")
    for profile in profiles:
        if profile.placement:
            where = f"{job.source}: the hardware profile {profile.name}"
            require("ray", f"{where}, which is measured on a node of a Ray cluster,")
    n_scoring = job.config.search.workers or 1
    if profiles and not inline and n_scoring > 1:
        require("ray", f"{job.source}: search.workers: {n_scoring} workers")


def check_training(job: ResolvedJob, kind: Kind, *, inline: bool = False) -> None:
    """Checks that there is something to train for a run of a kind, and that this machine has what the training asks for.

    Raises:
        JobError: a training of a trained supernet, fewer cores than threads, no accelerator, or several workers without Ray.
    """
    training, source = job.config.training, job.source
    if not job.config.supernet.trains:
        if kind == "training":
            text = f"{source}: supernet.from: names a trained supernet, so there is nothing to train; remove it"
            raise JobError(text, code="job.nothing-to-train")
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


def not_a_search(run: str, *, where: str) -> NasError:
    """The error of a run whose measurements are asked for, and that is a training."""
    text = f"{where} {run}: it is no search, so it has no measurements to take; name a search"
    return NasError(text, code="run.not-a-search", remedy=Remedy("runs"), parameter=where)


def _has_file(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None


_FILES = {COCO: (".json",), YOLO: (".yaml", ".yml")}
"""Suffixes of the files that the paths of some data sets of folders may lead to."""


def _check_data(config: SearchJob, *, source: str) -> None:
    data = config.data
    for key, path in data.paths.items():
        if not path.exists():
            raise DataError(f"{source}: data.{key}: {path} does not exist; correct the path", code="data.missing")
    folders = {
        "fashion-mnist": "a folder with the four files of Fashion-MNIST",
        "image-folder": "a folder with one folder of images for each class",
        **{name: PATHS[name] for name in (COCO, YOLO, VOC, SEGMENTATION)},
    }
    kind = _FILES.get(data.name, ())
    if data.path is not None and data.name in folders and not data.path.is_dir() and data.path.suffix not in kind:
        remedy = "; unpack an archive first" if data.path.suffix in (".zip", ".tar", ".gz", ".tgz") else ""
        message = f"{data.path} is a file; expected {folders[data.name]}{remedy}"
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
