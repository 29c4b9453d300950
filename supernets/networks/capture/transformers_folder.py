"""Models in folders of the transformers library: weights, preprocessing, tokens, and a classifier where there is none."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from supernets.errors import CaptureError
from supernets.networks.capture.program import first_names
from supernets.networks.capture.user_model import (
    RESAMPLING,
    Preprocessing,
    TokenInputs,
    UserModel,
    library,
    of_images,
    unusable,
)
from supernets.networks.formats.pretrained import CONFIG, PREPROCESSOR, TOKENIZER

_CLASSIFIER = "ForSequenceClassification"


def of_transformers(folder: Path, arguments: dict[str, Any], *, classifier: bool) -> UserModel:
    """The model of a folder, with its weights where the folder has them.

    Args:
        arguments: Arguments of its configuration.
        classifier: True if an encoder of sentences gets a fresh classifier where it has none.

    Raises:
        CaptureError: the library is not installed, or the folder is of no model that it knows.
    """
    name = f"transformers:{folder}"
    transformers = library("transformers")
    if not (folder / CONFIG).is_file():
        raise CaptureError(
            f"{name}: the folder has no config.json; expected one of `save_pretrained`", code="capture.unknown-model"
        )
    try:
        with quiet_library(transformers):
            config = transformers.AutoConfig.from_pretrained(folder, **arguments)
            kind = getattr(transformers, (config.architectures or [""])[0], transformers.AutoModel)
            module, random = _loaded(transformers, kind, folder, config)
            if classifier and module.main_input_name == "input_ids" and _CLASSIFIER not in type(module).__name__:
                module, random = _loaded(transformers, transformers.AutoModelForSequenceClassification, folder, config)
    except Exception as error:  # of the library
        raise unusable(name, error) from error
    config.use_cache = False
    notes, fresh = _notes(random, of_all=len(list(module.parameters())))
    if module.main_input_name == "input_ids":
        return UserModel(name, module, tokens=_tokens(module, config, folder), notes=notes, fresh=fresh)
    return replace(of_images(name, module, _preprocessing(config, folder), notes), fresh=fresh)


@contextmanager
def quiet_library(transformers: Any) -> Iterator[None]:
    """Without the library's table of missing weights, which a note replaces, and without its progress bars."""
    logs = transformers.utils.logging
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if bars:
            logs.enable_progress_bar()


def _loaded(transformers: Any, kind: Any, folder: Path, config: Any) -> tuple[nn.Module, list[str] | None]:
    """The module, and its tensors that the folder has no weights of; None for all."""
    if any(folder.glob("*.safetensors")):
        module, loading_info = kind.from_pretrained(
            folder, config=config, use_safetensors=True, output_loading_info=True
        )
        return module, sorted(loading_info["missing_keys"])
    automatic = not (isinstance(kind, type) and issubclass(kind, nn.Module))
    return (kind.from_config(config) if automatic else kind(config)), None


def _notes(random: list[str] | None, *, of_all: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes, and the layers whose weights are random beside trained ones."""
    if random is None:
        return ("the folder has no weights (*.safetensors); they are random",), ()
    layers = tuple(dict.fromkeys(name.rpartition(".")[0] for name in random))
    if not layers:
        return (), ()
    some = first_names(layers, 5)
    return (f"the folder has no weights for {some} ({len(random)} of {of_all} tensors); they are fresh",), layers


def _tokens(module: nn.Module, config: Any, folder: Path) -> TokenInputs:
    file = folder / TOKENIZER
    return TokenInputs(
        vocabulary=config.vocab_size,
        padding=getattr(config, "pad_token_id", None),
        masked="attention_mask" in inspect.signature(module.forward).parameters,
        max_tokens=_max_tokens(module, config),
        tokenizer=file if file.is_file() else None,
    )


def _max_tokens(module: nn.Module, config: Any) -> int | None:
    """The most tokens of a sentence: positions that are learned; in kin of RoBERTa they begin after the padding's."""
    for path, submodule in module.named_modules():
        if path.endswith("position_embeddings") and isinstance(submodule, nn.Embedding):
            return submodule.num_embeddings - (0 if submodule.padding_idx is None else submodule.padding_idx + 1)
    n_positions = getattr(config, "max_position_embeddings", None)
    return n_positions if isinstance(n_positions, int) else None


def _preprocessing(config: Any, folder: Path) -> Preprocessing:
    size = getattr(config, "image_size", None)
    channels, file = getattr(config, "num_channels", 3), folder / PREPROCESSOR
    normalised: tuple[Any, Any] = (None, None)
    interpolation, crop = None, None
    if file.is_file():
        preprocessor = json.loads(file.read_bytes())
        if preprocessor.get("do_normalize", True) and preprocessor.get("image_mean") and preprocessor.get("image_std"):
            normalised = (tuple(preprocessor["image_mean"]), tuple(preprocessor["image_std"]))
        interpolation = RESAMPLING.get(preprocessor.get("resample"))
        crop = _cropped(preprocessor)
    size = size[0] if isinstance(size, list | tuple) else size
    return Preprocessing(size, channels, *normalised, interpolation, crop)


def _cropped(preprocessor: Mapping[str, Any]) -> float | None:
    """The share of the resized side that is cut out; None where nothing is."""
    size, crop_size = preprocessor.get("size"), preprocessor.get("crop_size")
    resized = size.get("shortest_edge") if isinstance(size, Mapping) else size
    side = crop_size.get("height") if isinstance(crop_size, Mapping) else crop_size
    return side / resized if preprocessor.get("do_center_crop") and side and resized else None
