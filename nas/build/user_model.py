"""A user's model by its name in a command or a job: opened with its weights, captured, inspected."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from nas.config.strict_yaml import parse_mapping
from nas.errors import JobError
from supernets.base import Supernet
from supernets.capture.captured_model import CapturedModel, capture_model, load_capture, own_model, with_tensors
from supernets.capture.model_names import FRACTIONS, HUB, is_file
from supernets.capture.model_proof import check_model
from supernets.capture.program import is_constant
from supernets.capture.sources import open_model
from supernets.capture.space import Granularity, SpaceOptions
from supernets.capture.user_model import UserModel
from supernets.capture.weights import matching, read_weights
from supernets.checkpoint import make_supernet
from supernets.families.captured.family import CapturedFamily
from supernets.pretrained import find_weights
from supernets.sorting import sort_by_importance

_SHAPE = re.compile(r"[1-9]\d{0,6}(x[1-9]\d{0,6})*")


def opened(
    name: str, arguments: Mapping[str, Any] | None = None, *, weights: str | None = None, classifier: bool = False,
    seed: int = 0,
) -> UserModel:  # fmt: skip
    """The model of a name that is no file, with its weights.

    Args:
        weights: a file, ``package:NAME``, or `HUB`.

    Raises:
        CaptureError: there is no such model, or the weights are of another one.
        CheckpointError: the package of the weights is not installed, or has no single file of them.
    """
    model = open_model(name, arguments, pretrained=weights == HUB, classifier=classifier, seed=seed)
    if weights not in (None, HUB):
        module = model.module
        module.load_state_dict(matching(module.state_dict(), read_weights(find_weights(weights)), source=weights))
    return model


def loaded(path: Path, *, weights: str | None = None) -> CapturedModel:
    """The model of a captured file, with other weights where some are named.

    Raises:
        CaptureError: it cannot be read, or the weights are of another model.
        CheckpointError: as of `opened`.
    """
    model = load_capture(path)
    if weights is None:
        return model
    if weights == HUB:
        raise JobError(
            f"{path}: weights: {HUB} are those of a library's model, and this is a file; name a file of weights",
            code="job.conflict",
        )
    tensors, state = model.tensors, model.state or {name for name in model.tensors if not is_constant(name)}
    own = {name: tensor for name, tensor in tensors.items() if name in state}
    others = {*model.program.aliases, *state}  # parts of the model that its forward does not run
    found = read_weights(find_weights(weights))
    return with_tensors(model, matching(own, found, source=weights, others=others))


def input_of(text: str | None) -> tuple[int, ...] | None:
    """The size of an input as users write it, ``3x224x224``.

    Raises:
        JobError: it is malformed.
    """
    if text is None:
        return None
    if _SHAPE.fullmatch(text) is None:
        raise JobError(
            f"--input {text}: expected sizes, e.g. 3x224x224, or the number of tokens", code="job.invalid-value"
        )
    return tuple(map(int, text.split("x")))


def image_shape_for(name: str, size: int) -> tuple[int, int]:
    """The channels and the size of images for a model: the size that is wanted if the model takes it, else its own.

    Args:
        size: in pixels.

    Raises:
        CaptureError: there is no such model.
    """
    if is_file(name):
        shape = load_capture(Path(name)).input_shape
        return shape[0], shape[-1]
    model = open_model(name)
    own = model.preprocessing
    known = (3, 1) if own.channels is None else (own.channels,)
    wanted = [(n, side) for side in (size, own.image_size) if side is not None for n in known]
    return next((shape for shape in wanted if _takes(model.module, (shape[0], shape[1], shape[1]))), wanted[0])


def _takes(module: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(2, *shape))
    except Exception:  # a model may fail in any way for images of another size
        return False
    return True


def space_options(*, granularity: str, keep: Sequence[str], widths: Sequence[float] | None = None) -> SpaceOptions:
    """The options of a command.

    Raises:
        JobError: there is no such granularity.
    """
    if granularity not in get_args(Granularity):
        known = ", ".join(get_args(Granularity))
        raise JobError(f"--granularity {granularity}: expected one of {known}", code="job.invalid-value")
    options = SpaceOptions(granularity=cast(Granularity, granularity), keep=tuple(keep))
    return options if widths is None else SpaceOptions(options.granularity, tuple(widths), options.keep)


def arguments_of(text: str | None) -> dict[str, Any]:
    """The arguments of a model's function as users write them, ``{num_classes: 10}``.

    Raises:
        JobError: they are malformed.
    """
    if text is None:
        return {}
    return parse_mapping(text, source="--arguments", what="mapping from arguments to values, e.g. {num_classes: 10}")


def captured(
    name: str, weights: str | None, input_shape: str | None, arguments: Mapping[str, Any] | None = None
) -> CapturedModel:
    """The model of a command's arguments, captured; raises `CaptureError` or `JobError`.

    Args:
        arguments: of the function that makes the model.
    """
    if is_file(name):
        if arguments:
            raise JobError(
                "--arguments are those of a function that makes a model, and this is a file; leave them out",
                code="job.conflict",
            )
        return _of_file(name, weights, input_shape)
    model = opened(name, arguments, weights=weights)
    return capture_model(model, model.example(input_of(input_shape)))


def supernet_of(
    module: nn.Module, example: Tensor, *, granularity: Granularity = "stage", widths: Sequence[float] = FRACTIONS,
    keep: Sequence[str] = (), sort: bool = True,
) -> Supernet:  # fmt: skip
    """The supernet of a module: its largest subnet is the module, with its weights and units sorted by importance.

    Args:
        example: an input, with a batch of at least 2.
        granularity: one choice for each layer, for similar layers of a stage, or for all layers.
        widths: of layers, as ascending fractions of the module's; the last one is 1.
        keep: patterns of axes and layers that stay as they are.
        sort: whether narrower layers have the units with the largest weights; else the first ones.

    Raises:
        CaptureError: the module's forward cannot be captured, or the proof of its axes does not hold.
        SpaceError: nothing in it is elastic.
    """
    found = capture_model(own_model(module), example)
    options = SpaceOptions(granularity, tuple(widths), tuple(keep))
    family = CapturedFamily(found.program, options, tensors=found.tensors)
    check_model(found, options, adopted=family.adopted)
    supernet = make_supernet(family)
    if sort:
        sort_by_importance(supernet)
    return supernet


def _of_file(name: str, weights: str | None, input_shape: str | None) -> CapturedModel:
    model = loaded(Path(name), weights=weights)
    if input_of(input_shape) not in (None, model.input_shape):
        own = "x".join(map(str, model.input_shape))
        raise JobError(
            f"--input {input_shape}: {name} was captured with {own}; capture the model again with the other size",
            code="job.conflict",
        )
    return model
