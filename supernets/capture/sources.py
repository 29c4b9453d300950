"""Finds a user's model by name: of torchvision, of timm, of a folder of transformers, or of a function of the user's."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.capture.memory import check_example
from supernets.capture.model_names import is_function
from supernets.errors import CaptureError

RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's filters by their numbers, as in a folder's preprocessor_config.json."""
_TOKENS = 19
"""The length of example sentences: no usual size of a layer."""
_MOST = 10
"""Names that an error lists."""
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@dataclass(frozen=True)
class Preprocessing:
    """How a model's images are made; None where its package has no record of it.

    Attributes:
        mean, std: of each channel, for pixels from 0 to 1.
        interpolation: of resizing, e.g. ``bicubic``.
        crop: the share of a resized image's side that is cut out of its centre; 1 for the whole square.
        squeezed: whether both sides are resized to the square, in other proportions.
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
        found: dict[str, Any] = {}
        if self.crop is not None and 0 < self.crop <= 1:
            found["crop"] = self.crop
        if self.interpolation in RESAMPLING.values():
            found["interpolation"] = self.interpolation
        return found

    def notes(self) -> tuple[str, ...]:
        """How image files are resized for the model, where that is not the default."""
        found, own = [], self.resizing
        crop, interpolation = own.get("crop", 1), own.get("interpolation", "bilinear")
        if crop < 1 or interpolation != "bilinear":
            part = f"the central {crop:.1%} of the side is" if crop < 1 else "the central square is"
            found.append(
                f"image files are resized by {interpolation} interpolation, and {part} taken, as the model's own "
                "preprocessing does; data.interpolation and data.crop change it"
            )
        for key, value in (("interpolation", self.interpolation), ("crop", self.crop)):
            if value is not None and key not in own:
                found.append(f"the model's own preprocessing has the {key} {value}, which image files here cannot have")
        if self.squeezed:
            found.append(
                "the model's own preprocessing squeezes images into a square; here the central square is taken"
            )
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` reads it."""
        own = {
            "image_size": self.image_size, "channels": self.channels, "mean": self.mean, "std": self.std,
            "interpolation": self.interpolation, "crop": self.crop,
        }  # fmt: skip
        return {key: list(value) if isinstance(value, tuple) else value for key, value in own.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Raises `KeyError`, `TypeError` or `ValueError` for data that `to_json` has not written."""
        sizes = (data["image_size"], data["channels"])
        if not all(size is None or (type(size) is int and 0 < size <= 2**16) for size in sizes):
            raise ValueError(f"sizes {sizes}")
        mean, std = (None if data[key] is None else tuple(map(float, data[key])) for key in ("mean", "std"))
        crop, interpolation = data.get("crop"), data.get("interpolation")  # files of earlier versions lack them
        return cls(
            sizes[0], sizes[1], mean, std, None if interpolation is None else str(interpolation)[:100],
            None if crop is None else float(crop),
        )  # fmt: skip


NO_PREPROCESSING = Preprocessing()


@dataclass(frozen=True)
class TokenInputs:
    """How a model reads sentences of token ids.

    Attributes:
        vocabulary: the number of different tokens.
        padding: the token that fills up short sentences at their ends; None where there is none.
        masked: whether its forward takes an ``attention_mask``, which is made of the padding.
        most: tokens of a sentence; None where it is not known.
        tokenizer: the file of its tokenizer; None where there is none.
    """

    vocabulary: int
    padding: int | None = None
    masked: bool = False
    most: int | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True)
class UserModel:
    """A user's model, in float32.

    Attributes:
        name: as the user wrote it.
        tokens: how it reads sentences; None for a model of images.
        notes: what was changed on the way, one sentence each.
        fresh: its layers whose weights are random beside trained ones.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing = NO_PREPROCESSING
    tokens: TokenInputs | None = None
    notes: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    def call(self, module: nn.Module, x: Tensor) -> Any:
        """The module's outputs for an input; the mask of sentences is made of their padding."""
        if self.tokens is None or self.tokens.padding is None or not self.tokens.masked:
            return module(x)
        return module(x, attention_mask=(x != self.tokens.padding).long())

    def example(self, shape: tuple[int, ...] | None = None, *, batch_size: int = 2, seed: int = 0) -> Tensor:
        """A random input; of sentences, all but the first are padded.

        Args:
            shape: without the batch; None for the model's own.

        Raises:
            CaptureError: the model's own is not known.
        """
        generator = torch.Generator().manual_seed(seed)
        if self.tokens is not None:
            own = (batch_size, *(shape or (_TOKENS,)))
            check_example(own, name=self.name, bytes_each=8)
            return random_tokens(own, self.tokens.vocabulary, self.tokens.padding, generator)
        size = self.preprocessing.image_size
        if shape is None and size is None:
            text = f"{self.name}: the size of its input is not known; give it, e.g. --input 3x224x224"
            raise CaptureError(text, code="capture.input-unknown")
        own = (batch_size, *(shape or (self.preprocessing.channels or 3, size or 0, size or 0)))
        check_example(own, name=self.name)
        return torch.randn(own, generator=generator)


def random_tokens(shape: tuple[int, ...], vocabulary: int, padding: int | None, generator: torch.Generator) -> Tensor:
    """Random sentences (n, tokens) without the padding; all but the first end with a quarter of it."""
    if padding is None:
        return torch.randint(vocabulary, shape, generator=generator)
    ids = torch.randint(max(vocabulary - 1, 1), shape, generator=generator)
    ids += (ids >= padding).long()
    ids[1:, shape[1] - shape[1] // 4 :] = padding
    return ids


def open_model(
    name: str, arguments: Mapping[str, Any] | None = None, *, pretrained: bool = False, classifier: bool = False,
    seed: int = 0,
) -> UserModel:  # fmt: skip
    """The model of a name, made by the library's or the user's function.

    Args:
        name: ``torchvision:NAME``, ``timm:NAME``, ``transformers:FOLDER`` or ``package.module:function``.
        arguments: of the function.
        pretrained: load the library's own weights, from its cache or from the internet.
        classifier: give an encoder of sentences that has no classifier a fresh one.
        seed: of random weights; the state of torch's generator is kept.

    Raises:
        CaptureError: the library is not installed, or there is no such model.
    """
    library, _, own = name.partition(":")
    given = dict(arguments or {})
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, on initialisations
        torch.manual_seed(seed)
        match library:
            case "torchvision":
                model = _of_torchvision(own, given, pretrained=pretrained)
            case "timm":
                model = _of_timm(own, given, pretrained=pretrained)
            case "transformers":
                from supernets.capture.transformers_folder import of_transformers  # it takes its types from here

                model = of_transformers(Path(own), given, classifier=classifier)
            case _ if is_function(name) and pretrained:
                raise CaptureError(
                    f"{name}: weights: hub are those of a library's model, and this is a function; name a file of weights",
                    code="capture.weights-unusable",
                )
            case _ if is_function(name):
                model = UserModel(name, _called(name, given))
            case _:
                raise CaptureError(
                    f"{name} is neither a file nor a model's name; expected torchvision:NAME, timm:NAME, "
                    "transformers:FOLDER, package.module:function, or a file that `nas capture` wrote",
                    code="capture.unknown-model",
                )
    return _in_single_precision(model)


def _in_single_precision(model: UserModel) -> UserModel:
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.module.parameters() if p.dtype != torch.float32}
    if not kinds:
        return model
    note = f"weights in {' and '.join(sorted(kinds))} were converted to float32"
    return replace(model, module=model.module.float(), notes=(*model.notes, note))


def library(name: str) -> Any:
    if find_spec(name) is None:
        raise CaptureError(f"{name} is not installed; run: pip install {name}", code="capture.package-missing")
    return import_module(name)


def unusable(name: str, error: Exception, *, pretrained: bool = False) -> CaptureError:
    reason = (str(error).strip().splitlines() or [""])[0]
    remedy = "; name a file of its weights, or leave weights out to begin with random ones" if pretrained else ""
    text = f"{name} cannot be made: {type(error).__name__}: {reason}{remedy}"
    return CaptureError(text, code="capture.model-unusable")


def _unknown(name: str, own: str, known: list[str]) -> CaptureError:
    from difflib import get_close_matches

    near = get_close_matches(own, known, n=3, cutoff=0.4)
    remedy = f"did you mean {', '.join(near)}?" if near else f"it has {len(known)} models, e.g. {', '.join(known[:3])}"
    return CaptureError(f"{name}: there is no model {own[:80]}; {remedy}", code="capture.unknown-model")


def _of_torchvision(own: str, arguments: dict[str, Any], *, pretrained: bool) -> UserModel:
    name = f"torchvision:{own}"
    models = library("torchvision").models
    known = models.list_models()
    if own not in known:
        raise _unknown("torchvision", own, known)
    try:
        weights = models.get_model_weights(own)
        module = models.get_model(own, weights="DEFAULT" if pretrained else None, **arguments)
        transforms = weights.DEFAULT.transforms() if len(weights) else None
    except Exception as error:  # of the library, and of downloads
        raise unusable(name, error, pretrained=pretrained) from error
    size = getattr(transforms, "crop_size", None)
    size = size[0] if isinstance(size, list | tuple) else size
    mean, std = (getattr(transforms, key, None) for key in ("mean", "std"))
    normalised: tuple[Any, Any] = (tuple(mean), tuple(std)) if mean and std else (None, None)
    resized = getattr(transforms, "resize_size", None)
    resized = resized[0] if isinstance(resized, list | tuple) else resized
    interpolation = getattr(getattr(transforms, "interpolation", None), "value", None)
    crop = size / resized if size and resized else None
    return of_images(name, module, Preprocessing(size, 3, *normalised, interpolation, crop))


def _of_timm(own: str, arguments: dict[str, Any], *, pretrained: bool) -> UserModel:
    name = f"timm:{own}"
    timm = library("timm")
    known = timm.list_models()
    if own.partition(".")[0] not in known:
        raise _unknown("timm", own, known)
    try:
        module = timm.create_model(own, pretrained=pretrained, **arguments)
    except Exception as error:
        raise unusable(name, error, pretrained=pretrained) from error
    config = getattr(module, "pretrained_cfg", None) or {}
    channels, size, _ = config.get("input_size") or (3, None, None)
    mean, std = (None if config.get(key) is None else tuple(config[key]) for key in ("mean", "std"))
    crop, interpolation = config.get("crop_pct"), config.get("interpolation")
    squeezed = config.get("crop_mode") == "squash"
    return of_images(name, module, Preprocessing(size, channels, mean, std, interpolation, crop, squeezed))


def of_images(name: str, module: nn.Module, preprocessing: Preprocessing, notes: tuple[str, ...] = ()) -> UserModel:
    return UserModel(name, module, preprocessing, notes=(*notes, *preprocessing.notes()))


def _called(name: str, arguments: dict[str, Any]) -> nn.Module:
    """What the user's function returns."""
    path, _, own = name.partition(":")
    try:
        with redirect_stdout(sys.stderr):
            found: Any = import_module(path)
    except Exception as error:  # a user's module may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name and f"{path}.".startswith(f"{error.name}."):
            remedy = "install its package into the environment of nas, or name its folder in PYTHONPATH"
            raise CaptureError(
                f"{name}: there is no module {path} here; {remedy}", code="capture.unknown-model"
            ) from None
        fault = f"{type(error).__name__}: {error}"
        raise CaptureError(
            f"{name}: the module {path} cannot be imported: {fault}", code="capture.model-unusable"
        ) from error
    for part in own.split("."):
        if not hasattr(found, part):
            has = [key for key, one in vars(found).items() if getattr(one, "__module__", None) == path]
            raise CaptureError(
                f"{name}: {path} has no {own}; it has {', '.join(has[:_MOST]) or 'no functions'}",
                code="capture.unknown-model",
            )
        found = getattr(found, part)
    if callable(found) and not isinstance(found, nn.Module):
        try:
            with redirect_stdout(sys.stderr):  # what a user's function prints is no data of a command
                found = found(**arguments)
        except Exception as error:
            raise unusable(name, error) from error
    if not isinstance(found, nn.Module):
        raise CaptureError(
            f"{name} returned {type(found).__name__}; expected a torch.nn.Module", code="capture.model-unusable"
        )
    return unwrapped(found)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module that torch.compile or a wrapper for several devices was given."""
    while True:
        if isinstance(module, _WRAPPERS):
            module = module.module
        elif type(module).__name__ == "OptimizedModule":  # its class is in a module that takes seconds to import
            module = cast(nn.Module, module._orig_mod)
        else:
            return module
