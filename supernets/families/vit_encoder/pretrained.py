"""ViT as the `transformers` library lays it out, read into the family `vit-encoder` and written from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from supernets.errors import CheckpointError
from supernets.families.model_folder import Settings, TensorFile, read_settings, write_folder
from supernets.families.pretrained_transformer import (
    LayerNames,
    PretrainedConfig,
    PretrainedTransformer,
    layers_out,
    read_layers,
    read_sizes,
    renumbered,
    uniform_layers,
)
from supernets.families.transformer import TransformerFamily
from supernets.families.vit_encoder.family import ViTEncoderFamily
from supernets.families.vit_encoder.spec import ViTEncoderSpec, vit_space_within
from supernets.pretrained import CONFIG, PREPROCESSOR, WEIGHTS
from supernets.space import Architecture

_KIND, _NOUN = "vit", "ViT"
_CLASS, _POSITIONS = "embeddings.cls_token", "embeddings.position_embeddings"
_PATCHES = "embeddings.patch_embeddings.projection"
_NORM = "layernorm"
_MASK = "embeddings.mask_token"
"""Stands for patches that are hidden in the pretraining, and in no image that is classified."""
_NAMES = LayerNames("attention.attention", norm1="layernorm_before", norm2="layernorm_after")
_NEEDED: Mapping[str, tuple[object, ...]] = {"hidden_act": ("gelu",)}
"""Values of the configuration without which the networks would be others than the family's."""
_HALF = 0.5
"""The library's mean and deviation where a folder does not say."""


@dataclass(frozen=True, slots=True)
class ViTConfig(PretrainedConfig):
    """The sizes of a ViT, and how its images come.

    Attributes:
        qkv_bias: whether queries, keys and values have biases.
        mean, std: of each channel, on the scale from 0 to 1; images are ``(pixel - mean) / std``.
    """

    examples_file: ClassVar[str] = PREPROCESSOR

    image_size: int
    channels: int
    patch: int
    qkv_bias: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def read(self, folder: Path) -> PretrainedTransformer:
        return read_vit(folder, self)

    def space(self) -> ViTEncoderSpec:
        return vit_space_within(**self.as_space(), patch=self.patch)

    def check_family(self, family: TransformerFamily) -> None:
        if not isinstance(family, ViTEncoderFamily):
            raise CheckpointError(f"{self.folder}: a {_NOUN} is read into the family vit-encoder, not {family.name}")
        self.check_space(family.spec)
        if family.spec.patch != self.patch:
            raise CheckpointError(
                f"the space has patches of {family.spec.patch} pixels, and {self.folder} of {self.patch}; let patch be "
                f"{self.patch}, or leave space and preset out"
            )
        if (family.image_size, family.channels) != (self.image_size, self.channels):
            raise CheckpointError(
                f"{self.folder} takes images of {self.image_size} pixels a side and {self.channels} channels, and the "
                f"data's have {family.image_size} and {family.channels}; set data.image_size to {self.image_size} and "
                f"data.channels to {self.channels}, or leave both out"
            )


def read_vit_config(folder: Path) -> ViTConfig:
    """The sizes of a pretrained network in a folder.

    Raises:
        CheckpointError: there is none, it cannot be read, or it is of another kind.
    """
    settings = read_settings(folder, _KIND, _NEEDED, f"{CONFIG}, {WEIGHTS} and perhaps {PREPROCESSOR}")
    image_size, patch, channels = (settings.whole(key) for key in ("image_size", "patch_size", "num_channels"))
    if image_size % patch:
        raise CheckpointError(
            f"{settings.path}: a patch_size of {patch} does not divide an image_size of {image_size}; expected one that does"
        )
    if channels not in (1, 3):
        raise CheckpointError(
            f"{settings.path}: num_channels is {channels}; images here have 1 (grey) or 3 (colour): take another network"
        )
    mean, std = _normalisation(folder, channels)
    qkv_bias = settings.flag("qkv_bias", default=True)
    sizes = {"image_size": image_size, "channels": channels, "patch": patch}
    return ViTConfig(folder=folder, **sizes, qkv_bias=qkv_bias, mean=mean, std=std, **read_sizes(settings))


def _normalisation(folder: Path, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel on the scale from 0 to 1, as the folder's preprocessing has them."""
    try:
        settings = Settings(folder / PREPROCESSOR)
    except FileNotFoundError:
        return (_HALF,) * channels, (_HALF,) * channels
    factor = 255.0
    """What the library makes of a pixel of 1, before it normalises."""
    if settings.flag("do_rescale", default=True):
        (rescale,) = _numbers(settings, "rescale_factor", 1, default=1 / 255, above=0)
        factor *= rescale
    if not settings.flag("do_normalize", default=True):
        return (0.0,) * channels, (1 / factor,) * channels
    mean = _numbers(settings, "image_mean", channels, default=_HALF, above=-math.inf)
    std = _numbers(settings, "image_std", channels, default=_HALF, above=0)
    return tuple(number / factor for number in mean), tuple(number / factor for number in std)


def _numbers(settings: Settings, key: str, n: int, *, default: float, above: float) -> tuple[float, ...]:
    """So many numbers; one number stands for as many equal ones."""
    value = settings.data.get(key, default)
    numbers = value if isinstance(value, list) else [value] * n
    plain = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in numbers)
    if not plain or len(numbers) != n or min(numbers) <= above:
        expected = "a finite number" if n == 1 else f"{n} finite numbers, one a channel"
        positive = "" if above < 0 else f", above {above}"
        raise CheckpointError(f"{settings.path}: {key} is {value!r}; expected {expected}{positive}")
    return tuple(float(one) for one in numbers)


def read_vit(folder: Path, config: ViTConfig | None = None) -> PretrainedTransformer:
    """A pretrained ViT, with or without a classifier (``ViTModel``, ``ViTForImageClassification`` and the like).

    Its tensors may lack ``head.classifier``.

    Args:
        config: its sizes, where they are not to be read from the folder.

    Raises:
        CheckpointError: files are missing or damaged, or a tensor is missing or does not fit; the text names it.
    """
    config = config or read_vit_config(folder)
    file = TensorFile(folder, noun=_NOUN, base=f"{_KIND}.")
    width, patch = config.width, config.patch
    positions = file.take(_POSITIONS, 1, 1 + (config.image_size // patch) ** 2, width)
    # The class token's vector is part of its position's here, which is all that the library adds to it.
    first = positions[:, :1] + file.take(_CLASS, 1, 1, width)
    tensors = {"embedding.positions": torch.cat([first, positions[:, 1:]], dim=1)}
    for ours, theirs, shape in (
        ("embedding.patches", _PATCHES, (width, config.channels, patch, patch)),
        ("head.norm", _NORM, (width,)),
    ):
        tensors |= {f"{ours}.{kind}": tensor for kind, tensor in file.pair(theirs, *shape).items()}
    tensors |= read_layers(file, config, _NAMES, qkv_bias=config.qkv_bias)
    classifier = file.classifier(width)
    file.check_all_taken(unread=(_MASK,))
    classes = len(classifier["head.classifier.bias"]) if classifier else None
    return PretrainedTransformer(config, tensors | classifier, classes)


def write_vit(
    folder: Path, family: ViTEncoderFamily, architecture: Architecture, tensors: Mapping[str, Tensor], *,
    class_names: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...],
) -> None:  # fmt: skip
    """Writes a network as a folder that ``ViTForImageClassification.from_pretrained`` loads.

    Args:
        folder: made where it is not there.
        tensors: of the extracted network, by the family's names.
        mean, std: that its images are normalised by, on the scale from 0 to 1.

    Raises:
        ExportError: the library has no such ViT: heads or hidden channels differ by layer, or the heads do not make up the
            width.
    """
    layers = uniform_layers(family, architecture, noun=_NOUN)
    tensors = renumbered(tensors, {number: i for i, number in enumerate(family.kept(architecture))})
    positions = tensors["embedding.positions"]
    out = {
        _CLASS: torch.zeros(1, 1, layers["hidden_size"]),  # part of its position's
        _POSITIONS: positions,
        **layers_out(tensors, layers["num_hidden_layers"], _NAMES),
    }
    for ours, theirs in (("embedding.patches", _PATCHES), ("head.norm", _NORM)):
        out |= {f"{theirs}.{kind}": tensors[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": _KIND,
        "hidden_act": "gelu",
        **layers,
        "image_size": family.image_size,
        "patch_size": family.spec.patch,
        "num_channels": family.channels,
        "qkv_bias": True,
        "layer_norm_eps": family.epsilon,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    write_folder(folder, config, out, tensors, class_names=class_names)
    preprocessing = _preprocessing(family.image_size, mean, std)
    (folder / PREPROCESSOR).write_text(json.dumps(preprocessing, indent=2), encoding="utf-8")


def _preprocessing(image_size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Any]:
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": image_size, "width": image_size},
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
