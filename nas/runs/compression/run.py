"""Makes a trained model smaller: runs the job, or finds the run that is there, and exports the network for some limits."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import nas.jobs
from nas.engine.store.base import RunStatus
from nas.engine.store.compatibility import check_compatibility
from nas.engine.store.folder import make_folder, write_atomically
from nas.engine.store.opening import is_held
from nas.errors import JobError, NasError, SelectionError
from nas.jobs.build.built_job import build_job
from nas.jobs.build.compatibility_facts import compatibility_facts
from nas.jobs.planning.estimate import timed_training
from nas.jobs.resolve.references import check_references, check_training
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob
from nas.results.export.export_paths import export_path
from nas.runs.compression.job import NORMALISATION, SOURCE, check_limits, compression_job, name_of
from nas.runs.driver import resume, start
from nas.runs.finetuning.job import finetuning_job
from nas.runs.finetuning.run import finetune
from nas.runs.run import Run
from supernets.networks.capture.captured_model import capture_model, save_capture
from supernets.networks.capture.user_model import own_model
from supernets.training.trainer import steps_per_epoch

_STEPS, _STEPS_S = 6, 10.0
"""Steps by which the time of an epoch is estimated, and seconds after which no further one begins."""


def compress(
    model: str | nn.Module,
    examples: Path | str | NDArray[np.uint8] | Sequence[str],
    limits: str | None = None,
    *,
    output: Path | str = ".",
    labels: bool = False,
    profile: str = "cpu-1-thread",
    metric: str | None = None,
    evaluations: int | None = None,
    weights: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    solve: bool = False,
    options: RunOptions | None = None,
) -> Run:
    """The run whose front has smaller versions of a trained model, made without training; with limits, one is exported.

    A module and examples from memory are written as files in the runs folder, so that the run can be resumed and exported as
    any other. Called again for the same model and examples, it returns the run that is there.

    Args:
        model: A module of torch, or a model as in ``supernet.model``.
        examples: A folder of images, a file or folder of sentences; or images (n, channels, side, side), uint8, or texts.
        limits: Limits for the network to export, e.g. ``latency_ms<=5``; None to export none.
        output: The ONNX file to write, or a folder in which it is named after run and network.
        labels, profile, metric, evaluations, weights, arguments, data_options: see `compression_job`; images of a module
            need its ``mean`` and ``std``, for pixels from 0 to 1, in `data_options`.
        solve: Whether the network that is best within the limits is solved for and measured first, see `Run.solve`.
        options: Folder of the runs and observer; None for the defaults.

    Raises:
        NasError, CaptureError, DataError: the model cannot be made smaller, or the examples cannot be used, and why.
    """
    options = replace(options or RunOptions(), inline=True)
    if solve and limits is None:
        raise SelectionError("solve: expected limits to solve for, as limits", code="selection.malformed")
    if limits is not None:
        export_path(Path(output), SOURCE, "0")
    if not isinstance(model, str | nn.Module):
        fault = f"model: is of the type {type(model).__name__}; expected a module of torch, or a model's name"
        raise JobError(fault, code="job.invalid-value", parameter="model")
    if isinstance(model, nn.Module) and not isinstance(examples, Path | str | np.ndarray):
        fault = (
            f"are of the type {type(examples).__name__}; expected a folder of images, or an array of numpy with images"
        )
        raise JobError(
            f"examples: {fault}; a model of texts is given by its name, e.g. transformers:FOLDER",
            code="job.invalid-value",
        )
    make_folder(options.runs.root)
    data = Path(examples) if isinstance(examples, Path | str) else _written_examples(examples, options.runs.root)
    if isinstance(model, nn.Module):
        if data_options is None or "mean" not in data_options:
            fault = "a module has no record of how its images are normalised; give their mean and std"
            raise JobError(
                f"data_options: {fault}, e.g. {NORMALISATION}", code="job.missing-key", parameter="data_options"
            )
        own_shape = examples.shape[1:3] if isinstance(examples, np.ndarray) else (3, None)
        channels, size = (
            data_options.get(key, n) for key, n in zip(("channels", "image_size"), own_shape, strict=True)
        )
        if size is None:
            fault = "image_size is missing; expected that of the module's images in a folder, e.g. {image_size: 224}"
            raise JobError(f"data_options: {fault}", code="job.missing-key", parameter="data_options")
        model = _written_model(model, (channels, size, size), options.runs.root)
    job = compression_job(
        model,
        data,
        labels=labels,
        profile=profile,
        metric=metric,
        evaluations=evaluations,
        weights=weights,
        arguments=arguments,
        data_options=data_options,
    )
    if limits is not None:
        check_limits(ResolvedJob(job, options.runs, SOURCE), limits, solve=solve)
    run, _ = compressed_run(job, options)
    if limits is not None:
        run.export(output, select=limits, solve=solve)
    return run


def _written_examples(examples: NDArray[np.uint8] | Sequence[str], root: Path) -> Path:
    """The folder of images, or the file of sentences, with these examples, which is named by their digest.

    Raises:
        JobError: they are neither images of bytes nor sentences of one line.
    """
    if isinstance(examples, np.ndarray):
        shape = " x ".join(map(str, examples.shape))
        is_square = examples.ndim == 4 and examples.shape[2] == examples.shape[3]
        if examples.dtype != np.uint8 or not is_square or examples.shape[1] not in (1, 3):
            fault = f"examples: {examples.dtype} of the shape {shape}; expected images (n, 1 or 3, side, side), uint8"
            raise JobError(f"{fault}, before they are normalised, or a list of texts", code="job.invalid-value")
        pixels = np.ascontiguousarray(examples)
        folder = root / f"examples-{hashlib.sha256(pixels.tobytes() + shape.encode()).hexdigest()[:16]}"
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=root) as temporary:
                part = Path(temporary) / folder.name
                part.mkdir()
                for i, image in enumerate(pixels):
                    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(
                        part / f"{i:06}.png"
                    )
                try:
                    part.rename(folder)
                except OSError:  # another call wrote the same examples meanwhile
                    if not folder.is_dir():
                        raise
        return folder
    if not all(isinstance(text, str) and text.strip() and len(text.splitlines()) == 1 for text in examples):
        raise JobError("examples: expected texts of one line each, or an array of images", code="job.invalid-value")
    content = "\n".join(examples).encode()
    path = root / f"examples-{hashlib.sha256(content).hexdigest()[:16]}.txt"
    if not path.is_file():
        write_atomically(path, content)
    return path


def _written_model(module: nn.Module, shape: tuple[int, ...], root: Path) -> str:
    """The file of a module, captured for images of a shape, which is named by the digest of its contents."""
    training = [part for part in module.modules() if part.training]
    try:
        captured = capture_model(own_model(module.eval()), torch.zeros(2, *shape))
    finally:
        for part in training:
            part.training = True
    name = name_of(type(module).__name__)
    with tempfile.TemporaryDirectory(
        prefix=f".{name}-", dir=root
    ) as temporary:  # another call may write one of this name
        path = Path(temporary) / f"{name}.capture"
        save_capture(path, captured)
        stored_path = root / f"{name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.capture"
        path.replace(stored_path)
    return str(stored_path)


def compressed_run(job: SearchJob, options: RunOptions) -> tuple[Run, bool]:
    """The finished run of a job, and whether it was there already: an equal job's run is continued, or taken as it is.

    Raises:
        NasError: the job cannot be done, or another process has its run.
    """
    for run in _runs_of(job, options):
        with run.store() as store:
            status = store.status()
        if status is RunStatus.FINISHED:
            return run, True
        if not is_held(run.folder):
            return resume(run.id, options), True
    resolved = ResolvedJob(job, options.runs, SOURCE, options.objects)
    check_references(resolved)
    check_training(resolved, "search", inline=options.inline)
    return start(resolved, options, "search"), False


def _runs_of(job: SearchJob, options: RunOptions) -> list[Run]:
    """The runs of an equal job on the same model and data, the latest first, with these data."""
    text = job.to_yaml()
    folders = [f for f in options.runs.list() if f.id.rpartition("-")[0] == job.name]
    runs = [Run(folder, options.runs) for folder in folders]
    runs = [run for run in runs[::-1] if nas.jobs.stored_job(run).to_yaml() == text]
    if not runs:
        return []
    # Files that changed do not say so: a function reads its weights from wherever it likes, and copies keep their times.
    built_job = build_job(ResolvedJob(job, options.runs, SOURCE, options.objects), prove=False)  # a run proved it
    facts_now = compatibility_facts(built_job, measured=True)
    return [replace(run, loaded_data=built_job.data) for run in runs if _is_of(run, facts_now)]


def _is_of(run: Run, facts_now: Mapping[str, Any]) -> bool:
    """Returns whether a run has begun, and with this model and data."""
    with run.store() as store:
        facts = store.facts()
    if facts is None:
        return False
    try:
        check_compatibility(f"run {run.id}", facts.compatibility, facts_now)
    except NasError:
        return False
    return True


def finetuned(run: Run, select: str | None, minutes: float, options: RunOptions) -> Run:
    """The run that distils one network of a run from the original for about some minutes, see `nas.finetune`.

    The number of epochs, at least one, follows from the time of a few steps.

    Args:
        run: A finished run of a compression.
        select: Limits of the network; None for the knee of the front.
        minutes: Time of the training.
        options: Options of the new run.

    Raises:
        NasError: there is no such network.
    """
    built_job = build_job(ResolvedJob(finetuning_job(run, epochs=1, select=select), options.runs, SOURCE))
    seconds, after = timed_training(built_job, n=_STEPS, limit_s=_STEPS_S)
    n_steps = steps_per_epoch(built_job.training_data, built_job.settings())
    epoch_seconds = float(np.mean(seconds)) * n_steps + after
    return finetune(run, options, epochs=max(1, int(60 * minutes / epoch_seconds)), select=select)
