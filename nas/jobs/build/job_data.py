"""The data of a job: its parts, and its options from the job or from the preprocessing of the network that it starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hardware_profiles.base import HardwareProfile
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.errors import JobError, PluginError, UnknownNameError
from nas.jobs.build.pretrained import Pretrained, find_preprocessing, stored_vocabulary
from nas.jobs.build.task import task_for
from nas.jobs.build.user_model import JobModel, stored_model
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job
from nas.jobs.schema.data import NUMBERS, OF_IMAGES, OF_TEXT, DataConfig
from nas.jobs.schema.supernet import SupernetConfig
from nas.plugins import calling, check, construct, load
from nas.plugins.parts import require
from supernets.data import (
    BlockFormat,
    DataSet,
    DocumentOptions,
    ImageFormat,
    ImageOptions,
    KeptTokens,
    LabelledData,
    OnProgress,
    PairFormat,
    Part,
    RowOptions,
    Source,
    TextFormat,
    TextOptions,
    checked_source,
    data_set_of,
    head,
    images_of,
    load_data,
    no_progress,
    some_images,
    typical_batches,
)
from supernets.errors import CheckpointError, DataError
from supernets.tasks import CLASSIFICATION, Task

SPLIT_SEED = 0
"""Seed of the split. Not the job's: a search with another seed would evaluate on images that the supernet was trained on."""
_OF_TEXT, _OF_IMAGES, _OF_RESIZING = (
    ("tokenizer",),
    ("mean", "std", "image_size", "channels"),
    ("crop", "interpolation"),
)
"""Keys of a data section that a pretrained network fixes. A job with the first one of them needs no other source."""


@dataclass(frozen=True, eq=False, repr=False)
class JobData:
    """A data set with the parts of the job file that select from it."""

    dataset: DataSet
    job: ResolvedJob
    task: Task = CLASSIFICATION

    @property
    def of_text(self) -> bool:
        """True for sentences, False for other data."""
        return isinstance(self.dataset.format, TextFormat)

    @cached_property
    def calibration(self) -> Part:
        """The first examples of the training part, for batch-norm statistics and quantization."""
        return head(self.dataset.train, self.job.config.calibration_images)

    def some_images(self, n: int) -> list[Image.Image]:
        """At most `n` images as the data set's files have them, decoded, spread over it."""
        data = self.job.config.data
        channels = self.dataset.images.channels
        if (source := plugin_source(self.job)) is not None:
            return images_of(source, channels=channels, n=n)
        options: dict[str, Any] = {
            "image_column": data.image_column,
            "labelled": data.labels is None,
            "images": data.images,
        }
        return some_images(data.name, data.path, channels=channels, n=n, **options)

    def digests(self) -> dict[str, str]:
        """The digest of each part, by its name."""
        return {part: getattr(self.dataset, part).digest for part in ("train", "validation", "test")}

    def timed_batches(self, profile: HardwareProfile) -> tuple[NDArray[Any], ...]:
        """Validation examples that a profile's timed runs use: one batch, (batch, ...), for each call."""
        config = self.job.config
        if isinstance(self.dataset.format, BlockFormat):
            serving, ids = config.serving, self.dataset.validation.inputs.numpy()
            longest = self.dataset.blocks.block
            if isinstance(pairs := self.dataset.format, PairFormat):
                ids, longest = ids[:, : pairs.source], pairs.source
            shape = serving.batch or profile.batch_size, serving.prompt_tokens or longest
            return (np.resize(ids, shape),)  # prompts longer than a block continue with the next ones
        several = self.task.needs_head  # suppression takes longer where more is detected
        batches = typical_batches(
            self.dataset.validation, profile.batch_size, tokens=config.data.timed_tokens, several=several
        )
        return tuple(inputs.numpy() for inputs in batches)


def load_job_data(
    job: ResolvedJob,
    *,
    pretrained: Pretrained | None,
    model: JobModel | None = None,
    trained_on: str | None,
    on_progress: OnProgress = no_progress,
) -> JobData:
    """The data that a job names, preprocessed for the pretrained network that its supernet starts from.

    Args:
        model: the user's, whose preprocessing is used, too.
        trained_on: the digest of the training part of the job's trained supernet, if it has one: by it, images that
            version 0.1 resized in another way are recognised.
        on_progress: called about once a second while files are read.

    Raises:
        PluginError: the data set is a plug-in's, and cannot be loaded.
        JobError, CheckpointError: the preprocessing cannot be found, or does not fit what the job says.
        DataError: the data set is missing or malformed.
    """
    data, folder = job.config.data, None if pretrained is None else pretrained.config.folder
    parts: dict[str, Any] = {"seed": SPLIT_SEED, "validation": data.validation, "test": data.test}
    options: ImageOptions | TextOptions | RowOptions | DocumentOptions
    load: Callable[..., DataSet]
    if (examples := plugin_source(job)) is not None:
        options = _options_for(examples, job, pretrained=folder, model=model)
        load = partial(data_set_of, data.name, examples, **parts)
    else:
        targets = job.task_class.targets
        load = partial(load_data, data.name, path=data.path, on_progress=on_progress, targets=targets, **parts)
        if data.name == NUMBERS:
            options = RowOptions(label_column=data.label_column)
        elif data.of_documents:
            options = _document_options(job, pretrained=folder)
        else:
            options = _data_options(job, of_text=data.of_text, pretrained=folder, model=model)
    task, dataset = task_for(job, load(options=options))
    is_resized = examples is None and not data.of_boxes_or_masks
    if is_resized and isinstance(options, ImageOptions) and trained_on not in (None, dataset.train.digest):
        of_earlier, earlier = task_for(job, load(options=replace(options, as_in_0_1=True)))
        task, dataset = (of_earlier, earlier) if earlier.train.digest == trained_on else (task, dataset)
    _check_shift(job, dataset)
    return JobData(dataset, job, task)


def plugin_source(job: ResolvedJob) -> Source | None:
    """The labelled examples of a job's data set that is a plug-in's or was passed from Python; None for a shipped one.

    Raises:
        UnknownNameError, JobError: there is no such plug-in, or it does not take the settings.
        PluginError: it cannot be loaded, its code raises, or what it returns are no labelled examples.
    """
    if (ref := job.plugin("data.name")) is None:
        return None
    data_set: Any = job.objects["data.name"] if "data.name" in job.objects else load(ref)
    check(ref, data_set, LabelledData)
    if isinstance(data_set, type):
        data_set = construct(ref, data_set, settings=job.config.data.settings, key="data.settings")
    with calling(ref, "load"):
        examples = data_set.load()
    try:
        return checked_source(examples, str(ref))
    except DataError as error:
        raise PluginError(f"{ref}: load: {error}", code="plugin.contract") from None


def _check_shift(job: ResolvedJob, dataset: DataSet) -> None:
    """Raises `JobError` where images to train on may be shifted out of sight."""
    shift = job.config.training.augment.shift
    if (
        isinstance(dataset.format, ImageFormat)
        and job.config.supernet.trains
        and shift >= (size := dataset.format.image_size)
    ):
        fault = f"the images have {size} pixels a side; expected fewer pixels than that, e.g. {max(1, size // 8)}"
        raise JobError(f"{job.source}: training.augment.shift: {shift}, and {fault}", code="job.unfit-data")


def _options_for(
    examples: Source, job: ResolvedJob, *, pretrained: Path | None, model: JobModel | None
) -> ImageOptions | TextOptions:
    """The options of a plug-in's data, found to be for what it loaded."""
    of_others = OF_IMAGES if examples.of_text else OF_TEXT
    kind, other_kind = ("sentences", "images") if examples.of_text else ("images", "sentences")
    data = job.config.data
    if examples.of_text:
        require("text", f"{job.source}: data.name: {data.name}")
    for key in of_others:
        if getattr(data, key) is not None:
            message = f"is for data of {other_kind}, and {data.name} is of {kind}; remove it"
            raise JobError(f"{job.source}: data.{key}: {message}", code="job.conflict")
    return _data_options(job, of_text=examples.of_text, pretrained=pretrained, model=model)


def _data_options(
    job: ResolvedJob, *, of_text: bool, pretrained: Path | None, model: JobModel | None
) -> ImageOptions | TextOptions:
    """The options of a job's data, each from the first that has it: the job, its pretrained network, its trained supernet's.

    Args:
        pretrained: the folder with the preprocessing of the network that its supernet is made of.
    """
    data = job.config.data
    section_options = _section_options(data, _keys(of_text))
    fixed: Mapping[str, Any] = {}
    key = "supernet.from"
    if model is not None:
        fixed, key = _fixed_by_model(model, of_text=of_text), "supernet.model"
    elif pretrained is not None:
        key = "supernet.pretrained"
        fixed = _fixed_by(pretrained, job.config.supernet)
    elif len(section_options) < len(_keys(of_text)):
        fixed = _options_of_trained(job, of_text=of_text)
    options = {**fixed, **section_options, **_section_options(data, _OF_RESIZING)}
    labels: dict[str, Any] = {"labelled": data.labels is None, "examples": data.examples}
    if not of_text:
        _check_images(section_options, fixed, where=job.source, key=key)
        # Images with boxes or masks are letterboxed, whatever a pretrained network was trained with.
        keys = _OF_IMAGES if data.of_boxes_or_masks else (*_OF_IMAGES, *_OF_RESIZING)
        images: dict[str, Any] = {key: options.get(key) for key in keys}
        files: dict[str, Any] = {key: getattr(data, key) for key in ("image_column", "label_column", "images")}
        return ImageOptions(**images, **files, **labels, skip_unreadable=bool(data.skip_unreadable))
    text_options = _section_options(data, ("max_tokens", "vocabulary", "text_column", "label_column", "encoding"))
    return TextOptions(tokenizer=options.get("tokenizer"), **text_options, **labels)


def _document_options(job: ResolvedJob, *, pretrained: Path | None) -> DocumentOptions:
    """The options of a job's documents; the tokenizer as of sentences."""
    data = job.config.data
    tokenizer = data.tokenizer or pretrained
    fixed = {} if tokenizer is not None else _options_of_trained(job, of_text=True)
    keys = (
        "vocabulary",
        "documents",
        "text_column",
        "source_column",
        "target_column",
        "encoding",
        "separator",
        "choices",
    )
    section_options = _section_options(data, keys)
    options = {"tokenizer": tokenizer, **fixed, **section_options, "kept": _kept_tokens(job)}
    if options["tokenizer"] is not None:
        options.pop("vocabulary", None)
    return DocumentOptions(block=data.max_tokens or DocumentOptions().block, **options)


def _kept_tokens(job: ResolvedJob) -> KeptTokens | tuple[float, ...] | None:
    """The tokens that its networks have of a tokenizer's: those of the run, or of the run that it starts from, else the
    vocabularies that the job gives; None for all.

    Raises:
        JobError: a run that it starts from does not exist, or has the whole vocabulary where the job gives another one.
        CheckpointError: a run's file is damaged.
    """
    supernet = job.config.supernet
    runs = [] if job.run is None else [job.run]
    if (run_id := supernet.from_) is not None:
        try:
            origin = job.runs.get(run_id) if supernet.from_path is None else _run_of(supernet.from_path)
        except UnknownNameError as error:
            raise JobError(f"{job.source}: supernet.from: {error}", code=error.code) from None
        runs += [] if origin is None else [origin]
    for run in runs:
        if run.vocabulary_file.is_file():
            return stored_vocabulary(run)
    if supernet.vocabularies in ((), (1,)):
        return None
    if run_id is not None:
        problem = f"the networks of {run_id} have the whole vocabulary; remove it, or start from the pretrained network"
        raise JobError(f"{job.source}: supernet.space.vocabulary: {problem}", code="job.conflict")
    return supernet.vocabularies


def _keys(of_text: bool) -> tuple[str, ...]:
    """The keys of a data section that a pretrained network fixes."""
    return _OF_TEXT if of_text else _OF_IMAGES


def _fixed_by_model(model: JobModel, *, of_text: bool) -> dict[str, Any]:
    """The options of images, or the tokenizer, that the user's model fixes."""
    return model.fixed_tokenizer() if of_text else model.fixed()


def _section_options(data: DataConfig, keys: Sequence[str]) -> dict[str, Any]:
    """The options that a data section sets, by key."""
    return {key: value for key in keys if (value := getattr(data, key)) is not None}


def _fixed_by(folder: Path, supernet: SupernetConfig) -> dict[str, Any]:
    """The options that the pretrained network in a folder fixes for the family."""
    description = supernet.description
    if description.data in ("sentences", "texts"):
        return {"tokenizer": folder}
    config = description.pretrained_config(folder)
    return {key: getattr(config, key) for key in _OF_IMAGES}


def _check_images(section_options: Mapping[str, Any], fixed: Mapping[str, Any], *, where: str, key: str) -> None:
    """Raises `JobError` for images of other sizes than the network takes."""
    for name, unit in (("image_size", "pixels a side"), ("channels", "channels")):
        if name in section_options and section_options[name] != fixed.get(name, section_options[name]):
            message = f"{key} takes images of {fixed[name]} {unit}; write {fixed[name]}, or leave it out"
            raise JobError(f"{where}: data.{name}: {section_options[name]}, and {message}", code="job.unfit-data")


def _options_of_trained(job: ResolvedJob, *, of_text: bool) -> dict[str, Any]:
    """The options that the data of a job's trained supernet were read with; empty if it names no supernet, its data have the
    default options, or the supernet is a checkpoint outside of a run's folder."""
    supernet, source = job.config.supernet, job.source
    run_id = supernet.from_
    if run_id is None:
        return {}
    where = f"{source}: supernet.from"
    needed = "data.tokenizer" if of_text else "data.mean, data.std, data.image_size and data.channels"
    keys = _keys(of_text)
    run = _find_training_run(job.runs, run_id, supernet.from_path, first=keys[0], where=where, needed=needed)
    if run is None:
        return {}
    trained_job = load_job(run.job_file, stored=True)
    section_options = _section_options(trained_job.data, keys)
    section_options |= _section_options(trained_job.data, ("separator",) if of_text else _OF_RESIZING)
    if trained_job.supernet.model is not None:
        model = stored_model(trained_job, run, source=str(run.model_file))
        return {**({} if model is None else _fixed_by_model(model, of_text=of_text)), **section_options}
    if keys[0] not in section_options and trained_job.supernet.pretrained is None:
        return _section_options(trained_job.data, ("separator",))
    if job.config.data.asks_for_vocabulary:
        message = f"{run_id} was made of a network with a tokenizer, and none is trained; remove it"
        raise JobError(f"{source}: data.vocabulary: {message}", code="job.conflict")
    name = trained_job.supernet.pretrained
    if all(key in section_options for key in keys) or name is None:
        return section_options
    try:
        return _fixed_by(find_preprocessing(name, run), trained_job.supernet) | section_options
    except CheckpointError as error:
        missing_part = "tokenizer" if of_text else "preprocessing"
        message = f"{run_id} was made of {name}, whose {missing_part} is needed: {error}; or give {needed}"
        raise JobError(f"{where}: {message}", code="job.pretrained-unusable") from None


def _find_training_run(
    runs: RunsFolder, run_id: str, path: Path | None, *, first: str, where: str, needed: str
) -> RunFolder | None:
    """The run that first trained the supernet of a run; None if the path is of no run.

    Args:
        first: the key of the data that a run with it needs no other source for.
    """
    try:
        folder = runs.get(run_id) if path is None else _run_of(path)
    except UnknownNameError as error:
        raise JobError(f"{where}: {error} The preprocessing is in its job; or give {needed}", code=error.code) from None
    if folder is None:
        return None
    job = load_job(folder.job_file, stored=True)
    origin = job.supernet
    if (_section_options(job.data, [first]) and origin.model is None) or origin.from_ is None:
        return folder
    parent = RunsFolder(folder.path.parent)
    return _find_training_run(parent, origin.from_, origin.from_path, first=first, where=where, needed=needed)


def _run_of(path: Path) -> RunFolder | None:
    """The run of a folder, or of the checkpoint in it; None if it belongs to no run."""
    return next((folder for folder in map(RunFolder, (path, path.parent)) if folder.holds_a_run), None)
