"""A user's model as a supernet: of a job, captured for its data and stored with the run; and of a module at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nas.engine.store.folder import RunFolder
from nas.errors import JobError
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import SearchJob
from supernets.data import DataSet, TextFormat
from supernets.errors import CaptureError, CheckpointError, SpaceError
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.captured_model import (
    CapturedModel,
    capture_model,
    captured_for,
    check_operations,
    load_capture,
)
from supernets.networks.capture.classifier import with_classes, with_outputs
from supernets.networks.capture.model_names import FRACTIONS, is_function
from supernets.networks.capture.model_proof import check_model
from supernets.networks.capture.opening import open_model
from supernets.networks.capture.space import Granularity, SpaceOptions
from supernets.networks.capture.torchvision_dense import ONE_STAGE
from supernets.networks.capture.user_model import TokenInputs, UserModel, own_model
from supernets.sharing.base import Supernet
from supernets.sharing.sorting import sort_by_importance
from supernets.training.checkpoint import make_supernet

_SHORT = 0.7
"""Sentences of at most this share of the most tokens are noted."""
_BOXES, _MASKS = "boxes", "masks"
"""Kinds of labels of detectors and segmenters."""
_PREPROCESSING = ("image_size", "channels", "mean", "std")


@dataclass(frozen=True, eq=False, repr=False)
class JobModel:
    """The model that a job's supernet is made of: opened, and captured for the job's data.

    Attributes:
        model: The model as its library or the user's function makes it, or captured.
        run: the folder of the run that keeps it, captured for the run's data; None where it is not kept yet.
    """

    config: SearchJob
    model: UserModel | CapturedModel
    run: RunFolder | None
    source: str

    def fixed_tokenizer(self) -> dict[str, Any]:
        """The tokenizer that the model reads sentences by; empty for a function's module, for which one is trained.

        Raises:
            JobError: the model reads images, or its tokenizer is not known.
        """
        where = f"{self.source}: supernet.model"
        if self.run is not None:
            return {"tokenizer": self.run.model_tokenizer}
        model = self.model
        if isinstance(model, UserModel) and model.tokens is not None and model.tokens.tokenizer is not None:
            return {"tokenizer": model.tokens.tokenizer}
        if isinstance(model, UserModel) and model.tokens is None and is_function(model.name):
            return {}
        reads = model.program.of_tokens if isinstance(model, CapturedModel) else model.tokens is not None
        if not reads:
            message = f"{model.name} takes images, and data.name: {self.config.data.name} is of sentences"
            raise JobError(f"{where}: {message}; take a model of sentences", code="job.unfit-data")
        if self.config.data.tokenizer is None:
            message = f"{model.name} comes without its tokenizer; give the path of its tokenizer.json in data.tokenizer"
            raise JobError(f"{where}: {message}", code="job.missing-key")
        return {}

    def fixed(self) -> dict[str, Any]:
        """The options of images that the model fixes; those that it does not know are left out."""
        preprocessing = self.model.preprocessing
        options: dict[str, Any] = {
            **{key: getattr(preprocessing, key) for key in _PREPROCESSING},
            **preprocessing.resizing,
        }
        if isinstance(self.model, CapturedModel):
            options |= _sizes(self.model, source=self.source)
        elif self.config.data.image_size is not None:
            del options["image_size"]  # another size than its default may do
        return {key: value for key, value in options.items() if value is not None}

    def captured(self, data: DataSet, n_outputs: int | None, *, prove: bool) -> CapturedModel:
        """The model as data, with an output for each class.

        Args:
            n_outputs: Number of outputs; None for those that it has.
            prove: Whether to prove its axes.

        Raises:
            JobError: it cannot be captured with inputs of these data, or has other outputs.
        """
        if self.run is not None and isinstance(self.model, CapturedModel):
            return self.model
        where = f"{self.source}: supernet.model"
        _check_targets(self.model, data, where)
        adapted, seed = self, self.config.seed
        try:
            if n_outputs is not None:
                adapted = replace(self, model=with_classes(self.model, n_outputs, seed=seed))
            text = data.format if isinstance(data.format, TextFormat) else None
            model = adapted._of_images(data, where) if text is None else adapted._of_sentences(data, text, where)
            check_operations(model)
            if n_outputs is not None and model.dense is None:
                model = with_outputs(model, n_outputs, seed=seed, of_pixels=data.targets == _MASKS)
            if prove:
                check_model(model, _options(self.config))
        except CaptureError as error:
            raise JobError(f"{where}: {error}", code=error.code) from error
        return model

    def _of_images(self, data: DataSet, where: str) -> CapturedModel:
        size, model = data.images.image_size, self.model
        shape = (data.images.channels, size, size)
        if isinstance(model, UserModel):
            if model.tokens is not None:
                message = (
                    f"{model.name} takes sentences, and data.name: {data.name} is of images; take a model of images"
                )
                raise JobError(f"{where}: {message}", code="job.unfit-data")
            model = capture_model(model, model.example(shape))
        if model.input_shape != shape or model.program.of_tokens:
            captured_shape = " x ".join(map(str, model.input_shape))
            raise JobError(
                f"{where}: {model.name} was captured for inputs of {captured_shape}, and the images are "
                f"{' x '.join(map(str, shape))}; change data.image_size and data.channels, or capture it again",
                code="job.unfit-data",
            )
        return model

    def _of_sentences(self, data: DataSet, text: TextFormat, where: str) -> CapturedModel:
        """The model for sentences of ``data.max_tokens``; shorter ones are padded in it."""
        model = self.model
        if isinstance(model, UserModel):
            tokens = model.tokens or TokenInputs(text.vocabulary, text.padding)
            _check_tokens(tokens, text, f"{where}: {model.name}")
            tokens = replace(tokens, padding=text.padding)
            model = capture_model(
                replace(model, tokens=tokens), replace(model, tokens=tokens).example((text.max_tokens,))
            )
        program = model.program
        if model.input_shape != (text.max_tokens,) or program.padding != text.padding:
            shape = " x ".join(map(str, model.input_shape))
            raise JobError(
                f"{where}: {model.name} was captured for inputs of {shape} that are padded with {program.padding}, and the "
                f"sentences have {text.max_tokens} tokens and the padding {text.padding}; change data.max_tokens and "
                "data.tokenizer, or capture it again",
                code="job.unfit-data",
            )
        longest = max(int(part.lengths().max()) for part in (data.train, data.validation, data.test))
        if longest > _SHORT * text.max_tokens:
            return model
        note = f"sentences are padded to data.max_tokens, {text.max_tokens}, and the longest has {longest}; fewer are faster"
        return replace(model, notes=(*model.notes, note))


def _check_targets(model: UserModel | CapturedModel, data: DataSet, where: str) -> None:
    """Raises `JobError` unless a detector or segmenter has data whose labels it learns, and such data such a model."""
    wanted = None if model.dense is None else _BOXES if model.dense.is_detector else _MASKS
    if wanted is not None and data.targets != wanted:
        raise JobError(
            f"{where}: {model.name} learns {wanted}, and the labels of data.name: {data.name} are {data.targets}; take data "
            f"with {wanted} and their task, or another model",
            code="job.unfit-data",
        )
    if data.targets == _BOXES and wanted is None:
        raise JobError(
            f"{where}: the labels of data.name: {data.name} are boxes, and {model.name} is no detector of torchvision; take "
            f"one of {', '.join(ONE_STAGE)}, or the family detector",
            code="job.unfit-data",
        )


def _check_tokens(inputs: TokenInputs, text: TextFormat, where: str) -> None:
    """Raises `JobError` unless a model reads what a data set's tokenizer makes."""
    if text.vocabulary > inputs.vocabulary:
        fault = f"has a vocabulary of {inputs.vocabulary} tokens, and the tokenizer one of {text.vocabulary}"
        raise JobError(f"{where} {fault}; give the model's own tokenizer in data.tokenizer", code="job.unfit-data")
    if inputs.padding is not None and inputs.padding != text.padding:
        fault = f"pads with token {inputs.padding}, and the tokenizer with {text.padding}"
        raise JobError(f"{where} {fault}; give the model's own tokenizer in data.tokenizer", code="job.unfit-data")
    if inputs.max_tokens is not None and text.max_tokens > inputs.max_tokens:
        fault = f"has {inputs.max_tokens} positions, and the sentences up to {text.max_tokens} tokens"
        raise JobError(f"{where} {fault}; set data.max_tokens to {inputs.max_tokens} or less", code="job.unfit-data")


def load_model(job: ResolvedJob) -> JobModel | None:
    """The model that the job's supernet is made of; None where it names none. A run that has begun keeps it captured.

    Raises:
        JobError: there is no such model, or its weights are of another one.
    """
    config, run, source = job.config, job.run, job.source
    supernet = config.supernet
    if (name := supernet.model) is None:
        return None
    try:
        if run is not None and (stored := stored_model(config, run, source=source)) is not None:
            return stored
        model = open_model(name, supernet.arguments, weights=supernet.weights, classifier=True, seed=config.seed)
    except CaptureError as error:
        raise JobError(f"{source}: supernet.model: {error}", code=error.code) from error
    except CheckpointError as error:
        raise JobError(f"{source}: supernet.weights: {error}", code=error.code) from error
    return JobModel(config, model, None, source)


def stored_model(config: SearchJob, run: RunFolder, *, source: str) -> JobModel | None:
    """The captured model that a run stores; None where it stores none.

    Raises:
        CaptureError: its file is damaged.
    """
    if not run.model_file.is_file():
        return None
    return JobModel(config, load_capture(run.model_file), run, source)


def family_of(model: CapturedModel, job: ResolvedJob) -> CapturedFamily:
    """The family of the captured model's subnets.

    Raises:
        JobError: nothing in it is elastic with the job's options.
    """
    try:
        return CapturedFamily(model.program, _options(job.config), tensors=model.tensors, head=model.head)
    except SpaceError as error:
        raise JobError(f"{job.source}: supernet: {error}", code=error.code) from None


def _options(config: SearchJob) -> SpaceOptions:
    """How a job's axes become choices."""
    supernet = config.supernet
    return SpaceOptions(supernet.granularity or "stage", supernet.widths or FRACTIONS, supernet.keep or ())


def _sizes(model: CapturedModel, *, source: str) -> dict[str, int]:
    """Channels and size of a captured model's images."""
    shape = model.input_shape
    if model.program.of_tokens or len(shape) != 3 or shape[1] != shape[2] or len(model.program.inputs) != 1:
        shape_text = " x ".join(map(str, shape))
        text = f"{model.name} takes {shape_text}; expected one input of square images, channels x size x size"
        raise JobError(f"{source}: supernet.model: {text}", code="job.unfit-data")
    return {"channels": shape[0], "image_size": shape[1]}


def image_shape_for(name: str, size: int) -> tuple[int, int]:
    """The channels and the size of images for a model: the size that is wanted if the model takes it, else its own.

    Args:
        size: Height and width that are wanted, in pixels.

    Raises:
        CaptureError: there is no such model.
    """
    model = open_model(name)
    if isinstance(model, CapturedModel):
        return model.input_shape[0], model.input_shape[-1]
    preprocessing = model.preprocessing
    channel_options = (3, 1) if preprocessing.channels is None else (preprocessing.channels,)
    wanted = [(n, side) for side in (size, preprocessing.image_size) if side is not None for n in channel_options]
    return next((shape for shape in wanted if _takes(model.module, (shape[0], shape[1], shape[1]))), wanted[0])


def _takes(module: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(2, *shape))
    except Exception:  # a model may fail in any way for images of another size
        return False
    return True


def supernet_of(
    module: nn.Module | str,
    example: Tensor | None = None,
    *,
    granularity: Granularity = "stage",
    widths: Sequence[float] = FRACTIONS,
    keep: Sequence[str] = (),
    sort: bool = True,
    prove: bool = True,
) -> Supernet:
    """The supernet of a module: its largest subnet is the module, with its weights and units sorted by importance.

    Args:
        module: The module, or the name of a model as jobs have it, e.g. the path of an ONNX file.
        example: an input, with a batch of at least 2; None for a random one, where the model's own shape is known.
        granularity: one choice for each layer, for similar layers of a stage, or for all layers.
        widths: Widths of layers, as ascending fractions of the module's; the last one is 1.
        keep: patterns of axes and layers that stay as they are.
        sort: True to keep the units with the largest weights in narrower layers; False to keep the first ones.
        prove: True to prove the axes by permutations, which runs the module a few times in double precision.

    Raises:
        CaptureError: there is no such model, its forward cannot be captured, or the proof of its axes does not hold.
        SpaceError: nothing in it is elastic.
    """
    model = open_model(module) if isinstance(module, str) else own_model(module)
    if isinstance(model, UserModel) and example is not None:
        captured = capture_model(model, example)
    else:
        captured = captured_for(model, None if example is None else tuple(example.shape[1:]))
    options = SpaceOptions(granularity, tuple(widths), tuple(keep))
    family = CapturedFamily(captured.program, options, tensors=captured.tensors, head=captured.head)
    if prove:
        check_model(captured, options, elastic=family.elastic, example=example)
    supernet = make_supernet(family)
    if sort:
        sort_by_importance(supernet)
    return supernet
