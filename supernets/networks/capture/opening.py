"""Opens a user's model by its name, with weights: of a library, a folder of transformers, the user's function, or a file."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from supernets.errors import CaptureError
from supernets.networks.capture.captured_model import CapturedModel, load_capture, with_tensors
from supernets.networks.capture.model_names import HUB, is_file, is_onnx
from supernets.networks.capture.program import is_constant, product_text
from supernets.networks.capture.torchvision_dense import is_dense, open_dense
from supernets.networks.capture.transformers_folder import of_transformers
from supernets.networks.capture.user_model import Preprocessing, UserModel, library, of_images, unusable, unwrapped
from supernets.networks.formats.pretrained import find_weights
from supernets.networks.onnx_models.opening import open_onnx

_MOST = 10
"""Names, or differences, that an error lists."""
_WRAPPERS = ("state_dict", "model", "model_state_dict", "module")
_PREFIX = re.compile(r"(module|_orig_mod)\.")
"""Before the names of a network that `torch.nn.DataParallel` or `torch.compile` holds."""
_COUNT = "num_batches_tracked"


def open_model(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    weights: str | None = None,
    classifier: bool = False,
    seed: int = 0,
) -> UserModel | CapturedModel:
    """The model of a name, with its weights: a captured one where the name is that of a captured file.

    Args:
        name: ``torchvision:NAME``, ``timm:NAME``, ``transformers:FOLDER``, ``package.module:function``, or the path of a file:
            an ONNX model, or what `save_capture` wrote.
        arguments: Arguments of the function, or of an ONNX file (see `open_onnx`).
        weights: a file, ``package:NAME``, or `HUB` for the library's own, from its cache or from the internet; None for those
            of a captured file or a folder, and random ones of others.
        classifier: give an encoder of sentences that has no classifier a fresh one.
        seed: Seed of random weights; the state of torch's generator is kept.

    Raises:
        CaptureError: the library is not installed, there is no such model, or the weights are of another one.
        CheckpointError: the package of the weights is not installed, or has no single file of them.
    """
    if is_onnx(name):
        model = open_onnx(Path(name), arguments)
        if weights == HUB:
            raise _hub_error(name)
        return model if weights is None else _with_weights(model, weights)
    if is_file(name):
        if arguments:
            text = "arguments are those of a function that makes a model, and this is a file; leave them out"
            raise CaptureError(text, code="job.conflict", parameter="arguments")
        return _of_file(name, weights)
    source, _, model_name = name.partition(":")
    keywords, pretrained = dict(arguments or {}), weights == HUB
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, on initialisations
        torch.manual_seed(seed)
        match source:
            case "torchvision":
                model = _of_torchvision(model_name, keywords, pretrained=pretrained)
            case "timm":
                model = _of_timm(model_name, keywords, pretrained=pretrained)
            case "transformers":
                model = of_transformers(Path(model_name), keywords, classifier=classifier)
            case _ if pretrained:
                raise CaptureError(
                    f"{name}: weights: hub are those of a library's model, and this is a function; name a file of weights",
                    code="capture.weights-unusable",
                )
            case _:
                model = UserModel(name, _call_function(name, keywords))
    model = _in_single_precision(model)
    return model if weights is None or pretrained else _with_weights(model, weights)


def _with_weights(model: UserModel, weights: str) -> UserModel:
    """The model with the weights of a file."""
    module, unused = model.module, set[str]()
    expected, tensors = module.state_dict(), read_weights(find_weights(weights))
    if (dense := model.dense) is not None:
        tensors = dense.renamed({_plain(name, expected): tensor for name, tensor in tensors.items()}, expected)
        unused = {name for name in tensors if name.startswith(dense.unused)}
    module.load_state_dict(matching(expected, tensors, source=weights, optional_names=unused))
    return replace(model, original=None)


def _of_file(name: str, weights: str | None) -> CapturedModel:
    """The model of a captured file, with other weights where some are named."""
    path = Path(name)
    if path.is_dir() and name:
        text = f"{name} is a folder; expected transformers:{name} if the transformers library has written it, or a file"
        raise CaptureError(text, code="capture.unknown-model")
    if not name or not path.exists():
        names = _library_names(name)
        kinds = (
            "torchvision:NAME (as torchvision:resnet18), timm:NAME, transformers:FOLDER, package.module:function, or a file "
            "of an ONNX model or of a captured one"
        )
        remedy = f"did you mean {' or '.join(names)}?" if names else f"expected {kinds}"
        raise CaptureError(f"{name!r} is neither a file nor a model's name; {remedy}", code="capture.unknown-model")
    model = load_capture(path)
    if weights is None:
        return model
    if weights == HUB:
        raise _hub_error(str(path))
    state = model.state or {name for name in model.tensors if not is_constant(name)}
    expected = {name: tensor for name, tensor in model.tensors.items() if name in state}
    unused = {*model.program.aliases, *state}  # parts of the model that its forward does not run
    return with_tensors(
        model, matching(expected, read_weights(find_weights(weights)), source=weights, optional_names=unused)
    )


def _hub_error(name: str) -> CaptureError:
    text = f"{name}: weights: {HUB} are those of a library's model, and this is a file; name a file of weights"
    return CaptureError(text, code="job.conflict")


def _library_names(model: str) -> list[str]:
    """The full names of a model of installed libraries, or of those with the most similar names."""
    names_by_library = {}
    if find_spec("torchvision") is not None:
        names_by_library["torchvision"] = library("torchvision").models.list_models()
    if find_spec("timm") is not None:
        names_by_library["timm"] = library("timm").list_models()
    exact = [f"{source}:{model}" for source, names in names_by_library.items() if model in names]
    near = [
        f"{source}:{name}"
        for source, names in names_by_library.items()
        for name in get_close_matches(model, names, n=2, cutoff=0.7)
    ]
    return exact or near


def _in_single_precision(model: UserModel) -> UserModel:
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.module.parameters() if p.dtype != torch.float32}
    if not kinds:
        return model
    note = f"weights in {' and '.join(sorted(kinds))} were converted to float32"
    return replace(model, module=model.module.float(), notes=(*model.notes, note))


def _unknown(name: str, model: str, models: list[str]) -> CaptureError:
    near = get_close_matches(model, models, n=3, cutoff=0.4)
    remedy = (
        f"did you mean {', '.join(near)}?" if near else f"it has {len(models)} models, e.g. {', '.join(models[:3])}"
    )
    return CaptureError(f"{name}: there is no model {model[:80]}; {remedy}", code="capture.unknown-model")


def _of_torchvision(model: str, arguments: dict[str, Any], *, pretrained: bool) -> UserModel:
    name = f"torchvision:{model}"
    models = library("torchvision").models
    model_names = models.list_models()
    if model not in model_names:
        raise _unknown("torchvision", model, model_names)
    if is_dense(model):
        dense, module, preprocessing, notes = open_dense(model, arguments, pretrained=pretrained)
        return UserModel(name, module, preprocessing, notes=notes, dense=dense)
    try:
        weights = models.get_model_weights(model)
        module = models.get_model(model, weights="DEFAULT" if pretrained else None, **arguments)
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


def _of_timm(model: str, arguments: dict[str, Any], *, pretrained: bool) -> UserModel:
    name = f"timm:{model}"
    timm = library("timm")
    model_names = timm.list_models()
    if model.partition(".")[0] not in model_names:
        raise _unknown("timm", model, model_names)
    try:
        module = timm.create_model(model, pretrained=pretrained, **arguments)
    except Exception as error:
        raise unusable(name, error, pretrained=pretrained) from error
    config = getattr(module, "pretrained_cfg", None) or {}
    channels, size, _ = config.get("input_size") or (3, None, None)
    mean, std = (None if config.get(key) is None else tuple(config[key]) for key in ("mean", "std"))
    crop, interpolation = config.get("crop_pct"), config.get("interpolation")
    squeezed = config.get("crop_mode") == "squash"
    return of_images(name, module, Preprocessing(size, channels, mean, std, interpolation, crop, squeezed))


def _call_function(name: str, arguments: dict[str, Any]) -> nn.Module:
    """The result of the user's function."""
    path, _, attribute = name.partition(":")
    try:
        with redirect_stdout(sys.stderr):
            value: Any = import_module(path)
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
    for part in attribute.split("."):
        if not hasattr(value, part):
            has = [key for key, member in vars(value).items() if getattr(member, "__module__", None) == path]
            raise CaptureError(
                f"{name}: {path} has no {attribute}; it has {', '.join(has[:_MOST]) or 'no functions'}",
                code="capture.unknown-model",
            )
        value = getattr(value, part)
    if callable(value) and not isinstance(value, nn.Module):
        try:
            with redirect_stdout(sys.stderr):  # what a user's function prints is no data of a command
                value = value(**arguments)
        except Exception as error:
            raise unusable(name, error) from error
    if not isinstance(value, nn.Module):
        raise CaptureError(
            f"{name} returned {type(value).__name__}; expected a torch.nn.Module", code="capture.model-unusable"
        )
    return unwrapped(value)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file: safetensors, or what `torch.save` wrote of a state (no code in it is run).

    Raises:
        CaptureError: it is missing, or neither of these.
    """
    try:
        if path.suffix == ".safetensors":
            content: object = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CaptureError(f"{path}: there is no such file of weights", code="capture.weights-unusable") from None
    except (
        Exception
    ) as error:  # of either library, or pickle's UnpicklingError, which torch raises for code in the file
        raise _unreadable(path, error) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CaptureError(
            f"{path}: expected the tensors of a model by name (its state_dict)", code="capture.weights-unusable"
        )
    return {str(name): tensor for name, tensor in content.items()}


def matching(
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    optional_names: Collection[str] = (),
) -> dict[str, Tensor]:
    """The tensors for each expected one, of its type.

    Args:
        expected: Tensors of the model, by name in its state.
        tensors: Tensors of a file, by name; prefixes of wrappers are removed.
        source: Name of the file, for errors.
        optional_names: Further names that the file may have.

    Raises:
        CaptureError: the names or shapes differ; the first ten differences are listed.
    """
    accepted_names = {*expected, *optional_names}
    tensors = {_plain(name, accepted_names): tensor for name, tensor in tensors.items()}
    differences = [
        f"{name}: missing, expected {product_text(tensor.shape)}"
        for name, tensor in expected.items()
        if name not in tensors and not name.endswith(_COUNT)
    ]
    differences += [
        f"{name}: {product_text(tensors[name].shape)}, expected {product_text(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    differences += [
        f"{name}: {product_text(tensor.shape)}, the model has no such tensor"
        for name, tensor in tensors.items()
        if name not in accepted_names and not name.endswith(_COUNT)
    ]
    if differences:
        more = f"\n  and {len(differences) - _MOST} more" if len(differences) > _MOST else ""
        listed = "".join(f"\n  {text}" for text in differences[:_MOST])
        raise CaptureError(
            f"{source}: the weights are of another model ({len(differences)} differences); name the model that they were "
            f"saved from, with its arguments:{listed}{more}",
            code="capture.other-weights",
        )
    return {name: tensors[name].to(tensor.dtype) if name in tensors else tensor for name, tensor in expected.items()}


def _plain(name: str, accepted_names: Collection[str]) -> str:
    """A name without the prefixes of wrappers; a model's own module may be named like them."""
    while name not in accepted_names and (prefix := _PREFIX.match(name)):
        name = name[prefix.end() :]
    return name


def _unreadable(path: Path, error: Exception) -> CaptureError:
    reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    return CaptureError(
        f"{path}: cannot be read as weights ({reason}); expected a .safetensors file, or a state_dict that torch.save wrote",
        code="capture.weights-unusable",
    )
