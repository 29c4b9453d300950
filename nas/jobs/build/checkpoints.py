"""Finds the trained supernets that a job names, and checks that they fit its data."""

from __future__ import annotations

from pathlib import Path

from nas.engine.store.folder import RunFolder, RunsFolder
from nas.errors import JobError, Remedy, UnknownNameError, attach_remedy
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job
from supernets.data import DataSet, TextFormat
from supernets.errors import CheckpointError
from supernets.families.captured.captured_family import CapturedFamily
from supernets.sharing.base import Family
from supernets.training.checkpoint import Checkpoint, has_checkpoint, load_checkpoint, read_progress

_RESUMABLE = frozenset({"checkpoint.damaged", "checkpoint.missing", "checkpoint.unfinished"})
"""Codes of checkpoints that their run trains, or finishes, when it is resumed."""


def named_checkpoint(job: ResolvedJob) -> Checkpoint | None:
    """The finished checkpoint that ``supernet.from`` names, as of `find_checkpoint`; None where it names none."""
    supernet = job.config.supernet
    if supernet.from_ is None:
        return None
    return find_checkpoint(job.runs, supernet.from_, supernet.from_path, where=f"{job.source}: supernet.from")


def find_checkpoint(runs: RunsFolder, run: str, path: Path | None, *, where: str) -> Checkpoint:
    """A finished checkpoint, of a run or in a folder.

    Args:
        run: the run's id, used where there is no path.
        path: Path of a checkpoint's folder, or of a run's folder; None to take that of `run`.
        where: file and key that name it, for errors: ``job.yaml: supernet.from``.

    Raises:
        JobError: there is no such run.
        CheckpointError: there is no checkpoint, it is damaged, or its training is not finished.
    """
    try:
        folder = _checkpoint_folder(runs, run) if path is None else path
    except UnknownNameError as error:
        raise JobError(f"{where}: {error}", code=error.code) from None
    if (folder / "checkpoint").is_dir():  # a run's folder given as a path
        folder = folder / "checkpoint"
    try:
        checkpoint = load_checkpoint(folder)
        if not checkpoint.finished:
            done = "trained for {epoch} of {epochs} epochs".format_map(checkpoint.progress)
            raise CheckpointError(f"{folder}: {done}; resume its run first", code="checkpoint.unfinished")
    except CheckpointError as error:
        trainer = RunFolder(folder.parent)
        if error.code in _RESUMABLE and trainer.path.parent == runs.root and trainer.holds_a_run:
            attach_remedy(error, Remedy("resume", trainer.id))
        raise
    return checkpoint


def _checkpoint_folder(runs: RunsFolder, run: str) -> Path:
    """The checkpoint's folder of a run: its own, or that of the supernet that it searched."""
    run_folder = runs.get(run)
    if has_checkpoint(run_folder.checkpoint):
        return run_folder.checkpoint
    supernet = load_job(run_folder.job_file, stored=True).supernet
    if supernet.trains or supernet.from_ is None:
        return run_folder.checkpoint  # reading it reports that there is none
    return _checkpoint_folder(runs, supernet.from_) if supernet.from_path is None else supernet.from_path


def training_digest(checkpoint: Checkpoint | None, run: RunFolder | None) -> str | None:
    """The digest of the training part of a checkpoint, or of the one in a run's folder; None without either."""
    if checkpoint is not None:
        return str(checkpoint.progress["data"]["digest"])
    if run is None or not has_checkpoint(run.checkpoint):
        return None
    return str(read_progress(run.checkpoint)["data"]["digest"])


def check_training_data(checkpoint: Checkpoint, data: DataSet, *, key: str) -> None:
    """Raises `CheckpointError` if the checkpoint that a key of the job names was trained on other examples than the job's."""
    trained_on, ours = checkpoint.progress["data"], data.train
    if trained_on["digest"] != ours.digest:
        noun = data.format.noun
        keys = "data.tokenizer" if isinstance(data.format, TextFormat) else "data.image_size, channels, mean and std"
        raise CheckpointError(
            f"{key}: the checkpoint was trained on other {noun}s ({trained_on['name']}, {trained_on['digest']}) than this "
            f"job's training part ({data.name}, {ours.digest}), and this job's validation {noun}s may be among them; copy the "
            f"data section of the job that trained it, shares included (of a checkpoint outside of its run's folder that "
            f"started from a pretrained network, add that network's {keys})",
            code="checkpoint.other-data",
        )


def check_outputs(checkpoint: Checkpoint, family: Family, *, source: str, key: str) -> None:
    """Raises `CheckpointError` if a checkpoint's networks take other inputs than the job's, or have other classes.

    Args:
        source: the checkpoint's name in the job file, under `key`.
    """
    checkpoint_inputs, job_inputs = _inputs_of(checkpoint.supernet.family), _inputs_of(family)
    if checkpoint_inputs != job_inputs:
        why = f"is for {checkpoint_inputs}, and the job's networks for {job_inputs}; name one that was trained on this data set"
        raise CheckpointError(f"{key}: {source} {why}", code="checkpoint.other-data")


def _inputs_of(family: Family) -> str:
    """The inputs of a family as words of a message."""
    inner = family.plain(family.space.largest)[0]
    if isinstance(inner, CapturedFamily):
        sizes, n = inner.example().shape[1:], inner.n_outputs
        if inner.source.of_tokens:
            return f"sentences of {' x '.join(map(str, sizes))} tokens and {n} classes"
        return f"{' x '.join(map(str, sizes))} images of {n} classes"
    plain = inner.to_json()
    if "image_size" in plain:
        return "{channels} x {image_size} x {image_size} images of {n_classes} classes".format_map(plain)
    if "features" in plain:
        return "rows of {features} numbers and {n_classes} outputs".format_map(plain)
    if "n_classes" in plain:
        return "sentences of {vocabulary} different tokens and {n_classes} classes".format_map(plain)
    return "texts of {vocabulary} different tokens".format_map(plain)
