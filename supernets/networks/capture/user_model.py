"""A user's model, and how its inputs are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

from supernets.errors import CaptureError
from supernets.networks.capture.memory import check_example

if TYPE_CHECKING:
    from supernets.networks.capture.torchvision_dense import DenseModel

RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's filters by their numbers, as in a folder's preprocessor_config.json."""
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_TOKENS = 19
"""The length of example sentences: no usual size of a layer."""


@dataclass(frozen=True)
class Preprocessing:
    """How a model's images are made; None where its package has no record of it.

    Attributes:
        mean, std: Mean and standard deviation of each channel, for pixels from 0 to 1.
        interpolation: Interpolation of resizing, e.g. ``bicubic``.
        crop: the share of a resized image's side that is cut out of its centre; 1 for the whole square.
        squeezed: True if both sides are resized to the square, in other proportions.
    """

    image_size: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    crop: float | None = None
    squeezed: bool = False

    @property
    def resizing(self) -> dict[str, Any]:
        """Its ``crop`` and ``interpolation``, for the options of image files; what they cannot do is left out."""
        options: dict[str, Any] = {}
        if self.crop is not None and 0 < self.crop <= 1:
            options["crop"] = self.crop
        if self.interpolation in RESAMPLING.values():
            options["interpolation"] = self.interpolation
        return options

    def notes(self) -> tuple[str, ...]:
        """How image files are resized for the model, where that is not the default."""
        texts, resizing = [], self.resizing
        crop, interpolation = resizing.get("crop", 1), resizing.get("interpolation", "bilinear")
        if crop < 1 or interpolation != "bilinear":
            part = f"the central {crop:.1%} of the side is" if crop < 1 else "the central square is"
            texts.append(
                f"image files are resized by {interpolation} interpolation, and {part} taken, as the model's own "
                "preprocessing does; data.interpolation and data.crop change it"
            )
        for key, value in (("interpolation", self.interpolation), ("crop", self.crop)):
            if value is not None and key not in resizing:
                texts.append(f"the model's own preprocessing has the {key} {value}, which image files here cannot have")
        if self.squeezed:
            texts.append(
                "the model's own preprocessing squeezes images into a square; here the central square is taken"
            )
        return tuple(texts)

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` reads it."""
        values = {key: value for key, value in vars(self).items() if key != "squeezed"}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Raises `KeyError`, `TypeError` or `ValueError` for data that `to_json` has not written."""
        sizes = (data["image_size"], data["channels"])
        if not all(size is None or (type(size) is int and 0 < size <= 2**16) for size in sizes):
            raise ValueError(f"sizes {sizes}")
        mean, std = (None if data[key] is None else tuple(map(float, data[key])) for key in ("mean", "std"))
        crop, interpolation = data.get("crop"), data.get("interpolation")  # files of earlier versions lack them
        return cls(
            sizes[0],
            sizes[1],
            mean,
            std,
            None if interpolation is None else str(interpolation)[:100],
            None if crop is None else float(crop),
        )


NO_PREPROCESSING = Preprocessing()


@dataclass(frozen=True)
class TokenInputs:
    """How a model reads sentences of token ids.

    Attributes:
        vocabulary: the number of different tokens.
        padding: the token that fills up short sentences at their ends; None where there is none.
        masked: True if its forward takes an ``attention_mask``, which is made of the padding.
        max_tokens: Largest number of tokens of a sentence; None where it is not known.
        tokenizer: the file of its tokenizer; None where there is none.
    """

    vocabulary: int
    padding: int | None = None
    masked: bool = False
    max_tokens: int | None = None
    tokenizer: Path | None = None


class Original(Protocol):
    """A file that a module was read from."""

    def check(self, module: Any, x: Tensor, mask: Tensor | None = None, /) -> tuple[str, ...]:
        """Compares its outputs for an example with the module's; notes on them.

        Args:
            mask: of tokens: 1 for those that are no padding.

        Raises:
            CaptureError: they differ.
        """
        ...


@dataclass(frozen=True)
class UserModel:
    """A user's model, in float32.

    Attributes:
        name: Name as the user wrote it.
        tokens: how it reads sentences; None for a model of images.
        notes: Changes that were made to the model, one sentence each.
        fresh: its layers whose weights are random beside trained ones.
        input_shape: the shape of an example where its file has it, without the batch.
        original: the file that the module was read from, which it is compared with; None for a module of torch.
        dense: facts of a detector or segmenter of torchvision; None for other models.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing = NO_PREPROCESSING
    tokens: TokenInputs | None = None
    notes: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None
    original: Original | None = None
    dense: DenseModel | None = None

    def call(self, module: nn.Module, x: Tensor) -> Any:
        """The module's outputs for an input; the mask of sentences is made of their padding."""
        mask = self.mask(x)
        return module(x) if mask is None else module(x, attention_mask=mask)

    def mask(self, x: Tensor) -> Tensor | None:
        """The mask of sentences, 1 for tokens that are no padding; None where there is none."""
        if self.tokens is None or self.tokens.padding is None or not self.tokens.masked:
            return None
        return (x != self.tokens.padding).long()

    def check_original(self, x: Tensor) -> tuple[str, ...]:
        """Compares the module with the file that it was read from, where there is one; notes on them.

        Raises:
            CaptureError: their outputs differ.
        """
        return () if self.original is None else self.original.check(self.module, x, self.mask(x))

    def example(self, shape: tuple[int, ...] | None = None, *, batch_size: int = 2, seed: int = 0) -> Tensor:
        """A random input; of sentences, all but the first are padded.

        Args:
            shape: without the batch; None for the model's own.

        Raises:
            CaptureError: the model's own is not known.
        """
        generator = torch.Generator().manual_seed(seed)
        if self.tokens is not None:
            full_shape = (batch_size, *(shape or self.input_shape or (_TOKENS,)))
            check_example(full_shape, name=self.name, bytes_each=8)
            return random_tokens(full_shape, self.tokens.vocabulary, self.tokens.padding, generator)
        size, shape = self.preprocessing.image_size, shape or self.input_shape
        if shape is None and size is None:
            text = f"{self.name}: the size of its input is not known; give it as channels x height x width"
            raise CaptureError(text, code="capture.input-unknown")
        full_shape = (batch_size, *(shape or (self.preprocessing.channels or 3, size or 0, size or 0)))
        check_example(full_shape, name=self.name)
        return torch.randn(full_shape, generator=generator)


def random_tokens(shape: tuple[int, ...], vocabulary: int, padding: int | None, generator: torch.Generator) -> Tensor:
    """Random sentences (n, tokens) without the padding; all but the first end with a quarter of it."""
    if padding is None:
        return torch.randint(vocabulary, shape, generator=generator)
    ids = torch.randint(max(vocabulary - 1, 1), shape, generator=generator)
    ids += (ids >= padding).long()
    ids[1:, shape[1] - shape[1] // 4 :] = padding
    return ids


def of_images(name: str, module: nn.Module, preprocessing: Preprocessing, notes: tuple[str, ...] = ()) -> UserModel:
    return UserModel(name, module, preprocessing, notes=(*notes, *preprocessing.notes()))


def library(name: str) -> Any:
    if find_spec(name) is None:
        raise CaptureError(f"{name} is not installed; run: pip install {name}", code="capture.package-missing")
    return import_module(name)


def unusable(name: str, error: Exception, *, pretrained: bool = False) -> CaptureError:
    reason = (str(error).strip().splitlines() or [""])[0]
    remedy = "; name a file of its weights, or leave weights out to begin with random ones" if pretrained else ""
    text = f"{name} cannot be made: {type(error).__name__}: {reason}{remedy}"
    return CaptureError(text, code="capture.model-unusable")


def own_model(module: nn.Module) -> UserModel:
    """A module of the user's as a model without preprocessing; `CaptureError` for an object that is no module."""
    if not isinstance(module, nn.Module):
        kind = f"the class {module.__name__}" if isinstance(module, type) else f"of the type {type(module).__name__}"
        raise CaptureError(f"the model is {kind}; expected a module of torch (torch.nn.Module), or a model's name")
    module = unwrapped(module)
    return UserModel(type(module).__name__, module)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module that torch.compile or a wrapper for several devices was given."""
    while True:
        if isinstance(module, _WRAPPERS):
            module = module.module
        elif type(module).__name__ == "OptimizedModule":  # its class is in a module that takes seconds to import
            module = cast(nn.Module, module._orig_mod)
        else:
            return module
