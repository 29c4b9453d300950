"""How a job's examples are to come: as it says, or as the network takes them that its supernet is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.build.pretrained import find_preprocessing
from nas.config import SearchJob, load_job
from nas.config.data import VOCABULARY, DataConfig
from nas.errors import JobError, UnknownNameError
from nas.store.folder import RunFolder, RunsFolder
from supernets.data import ImageOptions, TextOptions
from supernets.errors import CheckpointError
from supernets.families.registry import FAMILIES

_OF_TEXT, _OF_IMAGES = ("tokenizer",), ("mean", "std", "image_size", "channels")
"""The keys of a data section that networks are particular about. A job that gives the first one is not looked behind."""


def data_options(
    job: SearchJob, runs: RunsFolder, *, pretrained: Path | None, source: str
) -> ImageOptions | TextOptions:
    """How a job's examples are to come, by the first that says so: the job, its pretrained network, its trained supernet's.

    Args:
        pretrained: the folder that tells what examples the network takes that its supernet is made of.

    Raises:
        JobError: what its trained supernet was made of is gone; or the network takes other examples than the job says.
        CheckpointError: the folder cannot be read.
    """
    data, own = job.data, _given(job.data)
    taken: Mapping[str, Any] = {}
    if pretrained is not None:
        taken = _inputs(pretrained, job.supernet.family)
    elif len(own) < len(_keys(data)):
        taken = _of_trained(job, runs, source=source)
    wanted = {**taken, **own}
    if not data.of_text:
        _check_images(own, taken, where=source, key="supernet.from" if pretrained is None else "supernet.pretrained")
        return ImageOptions(**{key: wanted.get(key) for key in _OF_IMAGES})
    default = TextOptions()
    return TextOptions(
        tokenizer=wanted.get("tokenizer"),
        max_tokens=data.max_tokens or default.max_tokens,
        vocabulary=data.vocabulary or default.vocabulary,
        text_column=data.text_column,
        label_column=data.label_column,
        encoding=data.encoding or default.encoding,
    )


def _keys(data: DataConfig) -> tuple[str, ...]:
    return _OF_TEXT if data.of_text else _OF_IMAGES


def _given(data: DataConfig) -> dict[str, Any]:
    """What a data section says itself."""
    return {key: value for key in _keys(data) if (value := getattr(data, key)) is not None}


def _inputs(folder: Path, family: str) -> dict[str, Any]:
    """What the pretrained network in a folder takes, read into a family."""
    description = FAMILIES[family]
    if description.data == "sentences":
        return {"tokenizer": folder}
    config = description.pretrained_config(folder)
    return {key: getattr(config, key) for key in _OF_IMAGES}


def _check_images(own: Mapping[str, Any], taken: Mapping[str, Any], *, where: str, key: str) -> None:
    """Refuses images of other sizes than the network takes."""
    for name, what in (("image_size", "pixels a side"), ("channels", "channels")):
        if name in own and own[name] != taken.get(name, own[name]):
            raise JobError(
                f"{where}: data.{name}: {own[name]}, and {key} takes images of {taken[name]} {what}; write {taken[name]}, or "
                "leave it out"
            )


def _of_trained(job: SearchJob, runs: RunsFolder, *, source: str) -> dict[str, Any]:
    """What the examples of a job's trained supernet were read with; empty where it names no supernet, its examples were taken
    as they are, or the supernet is a checkpoint outside of a run's folder.

    Raises:
        JobError: a run or a network that it was made of is gone; or the job asks for another vocabulary.
    """
    named = job.supernet.from_
    if named is None:
        return {}
    where, needed = f"{source}: supernet.from", _needed(job.data)
    run = _run_that_made(runs, named, job.supernet.from_path, where=where, needed=needed)
    if run is None:
        return {}
    made = load_job(run.job_file)
    own = _given(made.data)
    first = _keys(made.data)[0]
    if first not in own and made.supernet.pretrained is None:
        return {}
    if job.data.vocabulary not in (None, VOCABULARY):
        raise JobError(
            f"{source}: data.vocabulary: {named} was made of a network with a tokenizer, and none is trained; remove it"
        )
    if len(own) == len(_keys(made.data)) or made.supernet.pretrained is None:
        return own
    try:
        return _inputs(find_preprocessing(made.supernet.pretrained, run), made.supernet.family) | own
    except CheckpointError as error:
        what = "tokenizer" if made.data.of_text else "preprocessing"
        raise JobError(
            f"{where}: {named} was made of {made.supernet.pretrained}, whose {what} is needed: {error}; or give {needed}"
        ) from None


def _needed(data: DataConfig) -> str:
    return "data.tokenizer" if data.of_text else "data.mean, data.std, data.image_size and data.channels"


def _run_that_made(runs: RunsFolder, named: str, path: Path | None, *, where: str, needed: str) -> RunFolder | None:
    """A run, or the one whose supernet it goes on from; None where the path is of no run."""
    try:
        folder = runs.get(named) if path is None else _run_of(path)
    except UnknownNameError as error:
        raise JobError(f"{where}: {error}; its job tells how examples come: give {needed} in its place") from None
    if folder is None:
        return None
    job = load_job(folder.job_file)
    further = job.supernet
    if _keys(job.data)[0] in _given(job.data) or further.from_ is None:
        return folder
    return _run_that_made(RunsFolder(folder.path.parent), further.from_, further.from_path, where=where, needed=needed)


def _run_of(path: Path) -> RunFolder | None:
    """The folder of the run that a path is, or whose checkpoint it is; None where it belongs to no run."""
    return next((folder for folder in map(RunFolder, (path, path.parent)) if folder.holds_a_run), None)
