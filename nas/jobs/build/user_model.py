"""A user's model as a supernet, and the images that it takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.captured_model import CapturedModel, capture_model
from supernets.networks.capture.model_names import FRACTIONS
from supernets.networks.capture.model_proof import check_model
from supernets.networks.capture.opening import open_model
from supernets.networks.capture.space import Granularity, SpaceOptions
from supernets.networks.capture.user_model import own_model
from supernets.sharing.base import Supernet
from supernets.sharing.sorting import sort_by_importance
from supernets.training.checkpoint import make_supernet


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
    module: nn.Module,
    example: Tensor,
    *,
    granularity: Granularity = "stage",
    widths: Sequence[float] = FRACTIONS,
    keep: Sequence[str] = (),
    sort: bool = True,
) -> Supernet:
    """The supernet of a module: its largest subnet is the module, with its weights and units sorted by importance.

    Args:
        example: an input, with a batch of at least 2.
        granularity: one choice for each layer, for similar layers of a stage, or for all layers.
        widths: Widths of layers, as ascending fractions of the module's; the last one is 1.
        keep: patterns of axes and layers that stay as they are.
        sort: True to keep the units with the largest weights in narrower layers; False to keep the first ones.

    Raises:
        CaptureError: the module's forward cannot be captured, or the proof of its axes does not hold.
        SpaceError: nothing in it is elastic.
    """
    captured = capture_model(own_model(module), example)
    options = SpaceOptions(granularity, tuple(widths), tuple(keep))
    family = CapturedFamily(captured.program, options, tensors=captured.tensors)
    check_model(captured, options, elastic=family.elastic, example=example)
    supernet = make_supernet(family)
    if sort:
        sort_by_importance(supernet)
    return supernet
