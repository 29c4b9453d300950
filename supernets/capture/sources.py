"""Finds a user's model by name: of torchvision, of timm, of a folder of transformers, or of a function of the user's."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supernets.capture.memory import check_example
from supernets.capture.model_names import is_function
from supernets.errors import CaptureError

_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
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
    """

    image_size: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    crop: float | None = None

    def notes(self) -> tuple[str, ...]:
        """What of it the preprocessing of image data does differently; empty where nothing is."""
        own = [f"resizes by {self.interpolation} interpolation"] if self.interpolation not in (None, "bilinear") else []
        if self.crop is not None and self.crop < 1:
            own.append(f"cuts out the central {self.crop:.1%} of the resized side")
        if not own:
            return ()
        here = "here images are resized by bilinear interpolation, and the whole central square is taken"
        return (f"the model's own preprocessing {' and '.join(own)}; {here}",)

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
class UserModel:
    """A user's model, in float32.

    Attributes:
        name: as the user wrote it.
        vocabulary: the number of tokens that it reads; None for a model of images.
        notes: what was changed on the way, one sentence each.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing = NO_PREPROCESSING
    vocabulary: int | None = None
    notes: tuple[str, ...] = ()

    def example(self, shape: tuple[int, ...] | None = None, *, batch_size: int = 2, seed: int = 0) -> Tensor:
        """A random input.

        Args:
            shape: without the batch; None for the model's own.

        Raises:
            CaptureError: the model's own is not known.
        """
        generator = torch.Generator().manual_seed(seed)
        if self.vocabulary is not None:
            own = (batch_size, *(shape or (_TOKENS,)))
            check_example(own, name=self.name, bytes_each=8)
            return torch.randint(self.vocabulary, own, generator=generator)
        size = self.preprocessing.image_size
        if shape is None and size is None:
            text = f"{self.name}: the size of its input is not known; give it, e.g. --input 3x224x224"
            raise CaptureError(text, code="capture.input-unknown")
        own = (batch_size, *(shape or (self.preprocessing.channels or 3, size or 0, size or 0)))
        check_example(own, name=self.name)
        return torch.randn(own, generator=generator)


def open_model(
    name: str, arguments: Mapping[str, Any] | None = None, *, pretrained: bool = False, seed: int = 0
) -> UserModel:
    """The model of a name, made by the library's or the user's function.

    Args:
        name: ``torchvision:NAME``, ``timm:NAME``, ``transformers:FOLDER`` or ``package.module:function``.
        arguments: of the function.
        pretrained: load the library's own weights, from its cache or from the internet.
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
                model = _of_transformers(Path(own), given)
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
    return UserModel(model.name, model.module.float(), model.preprocessing, model.vocabulary, (*model.notes, note))


def _library(name: str) -> Any:
    if find_spec(name) is None:
        raise CaptureError(f"{name} is not installed; run: pip install {name}", code="capture.package-missing")
    return import_module(name)


def _failed(name: str, error: Exception, *, pretrained: bool = False) -> CaptureError:
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
    models = _library("torchvision").models
    known = models.list_models()
    if own not in known:
        raise _unknown("torchvision", own, known)
    try:
        weights = models.get_model_weights(own)
        module = models.get_model(own, weights="DEFAULT" if pretrained else None, **arguments)
        transforms = weights.DEFAULT.transforms() if len(weights) else None
    except Exception as error:  # of the library, and of downloads
        raise _failed(name, error, pretrained=pretrained) from error
    size = getattr(transforms, "crop_size", None)
    size = size[0] if isinstance(size, list | tuple) else size
    mean, std = (getattr(transforms, key, None) for key in ("mean", "std"))
    normalised: tuple[Any, Any] = (tuple(mean), tuple(std)) if mean and std else (None, None)
    resized = getattr(transforms, "resize_size", None)
    resized = resized[0] if isinstance(resized, list | tuple) else resized
    interpolation = getattr(getattr(transforms, "interpolation", None), "value", None)
    crop = size / resized if size and resized else None
    return _of_images(name, module, Preprocessing(size, 3, *normalised, interpolation, crop))


def _of_timm(own: str, arguments: dict[str, Any], *, pretrained: bool) -> UserModel:
    name = f"timm:{own}"
    timm = _library("timm")
    known = timm.list_models()
    if own.partition(".")[0] not in known:
        raise _unknown("timm", own, known)
    try:
        module = timm.create_model(own, pretrained=pretrained, **arguments)
    except Exception as error:
        raise _failed(name, error, pretrained=pretrained) from error
    config = getattr(module, "pretrained_cfg", None) or {}
    channels, size, _ = config.get("input_size") or (3, None, None)
    mean, std = (None if config.get(key) is None else tuple(config[key]) for key in ("mean", "std"))
    crop, interpolation = config.get("crop_pct"), config.get("interpolation")
    return _of_images(name, module, Preprocessing(size, channels, mean, std, interpolation, crop))


def _of_images(name: str, module: nn.Module, preprocessing: Preprocessing, notes: tuple[str, ...] = ()) -> UserModel:
    return UserModel(name, module, preprocessing, notes=(*notes, *preprocessing.notes()))


def _of_transformers(folder: Path, arguments: dict[str, Any]) -> UserModel:
    """The model of a folder, with its weights where the folder has them."""
    name = f"transformers:{folder}"
    transformers = _library("transformers")
    if not (folder / "config.json").is_file():
        raise CaptureError(
            f"{name}: the folder has no config.json; expected one of `save_pretrained`", code="capture.unknown-model"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **arguments)
        kind = getattr(transformers, (config.architectures or [""])[0], transformers.AutoModel)
        stored = any(folder.glob("*.safetensors"))
        if stored:
            module = kind.from_pretrained(folder, config=config, use_safetensors=True)
        else:
            module = kind.from_config(config) if kind is transformers.AutoModel else kind(config)
    except Exception as error:
        raise _failed(name, error) from error
    config.use_cache = False
    notes = () if stored else ("the folder has no weights (*.safetensors); they are random",)
    if module.main_input_name == "input_ids":
        return UserModel(name, module, vocabulary=config.vocab_size, notes=notes)
    size = getattr(config, "image_size", None)
    channels, preprocessor = getattr(config, "num_channels", 3), folder / "preprocessor_config.json"
    normalised: tuple[Any, Any] = (None, None)
    interpolation, crop = None, None
    if preprocessor.is_file():
        found = json.loads(preprocessor.read_bytes())
        if found.get("do_normalize", True) and found.get("image_mean") and found.get("image_std"):
            normalised = (tuple(found["image_mean"]), tuple(found["image_std"]))
        interpolation = _RESAMPLING.get(found.get("resample"))
        crop = _cropped(found)
    size = size[0] if isinstance(size, list | tuple) else size
    return _of_images(name, module, Preprocessing(size, channels, *normalised, interpolation, crop), notes)


def _cropped(preprocessor: Mapping[str, Any]) -> float | None:
    """The share of the resized side that is cut out; None where nothing is."""
    size, cut = preprocessor.get("size"), preprocessor.get("crop_size")
    resized = size.get("shortest_edge") if isinstance(size, Mapping) else size
    side = cut.get("height") if isinstance(cut, Mapping) else cut
    return side / resized if preprocessor.get("do_center_crop") and side and resized else None


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
            raise _failed(name, error) from error
    if not isinstance(found, nn.Module):
        raise CaptureError(
            f"{name} returned {type(found).__name__}; expected a torch.nn.Module", code="capture.model-unusable"
        )
    return unwrapped(found)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module that torch.compile or a wrapper for several devices was given."""
    while True:
        inner = module.module if isinstance(module, _WRAPPERS) else getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner
