"""ViT as the `transformers` library lays it out, read into the family `vit-encoder` and written from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from supernets.families.shared.pretrained_transformer import (
    Layout,
    PretrainedConfig,
    PretrainedTransformer,
    mismatch,
    read_layers,
    read_sizes,
    write_network,
)
from supernets.families.shared.transformer_family import TransformerFamily
from supernets.families.vision_transformer.vision_transformer_family import ViTEncoderFamily
from supernets.families.vision_transformer.vision_transformer_spec import ViTEncoderSpec, vit_space_within
from supernets.networks.formats.model_folder import Settings, TensorFile, read_settings, unusable
from supernets.networks.formats.pretrained import CONFIG, PREPROCESSOR, WEIGHTS
from supernets.space import Architecture

_CLASS, _POSITIONS = "embeddings.cls_token", "embeddings.position_embeddings"
_MASK = "embeddings.mask_token"
"""The vector of patches that are hidden in pretraining, which classification does not use."""
_LAYOUT = Layout(
    kind="vit",
    noun="ViT",
    architecture="ViTForImageClassification",
    attention="attention.attention",
    norm1="layernorm_before",
    norm2="layernorm_after",
    outside={"embedding.patches": "embeddings.patch_embeddings.projection", "head.norm": "layernorm"},
)
_NEEDED: Mapping[str, tuple[object, ...]] = {"hidden_act": ("gelu",)}
"""Values of the configuration in the family's networks."""
_HALF = 0.5
"""The library's default mean and deviation."""


@dataclass(frozen=True, slots=True)
class ViTConfig(PretrainedConfig):
    """The sizes of a ViT, and the preprocessing of its images.

    Attributes:
        qkv_bias: whether queries, keys and values have biases.
        mean, std: mean and deviation of each channel, on the scale from 0 to 1; images are ``(pixel - mean) / std``.
    """

    other_files: ClassVar[tuple[str, ...]] = (PREPROCESSOR,)

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
            raise mismatch(f"{self.folder}: a {_LAYOUT.noun} is read into the family vit-encoder, not {family.name}")
        self.check_space(family.spec)
        if family.spec.patch != self.patch:
            raise mismatch(
                f"the space has patches of {family.spec.patch} pixels, and {self.folder} of {self.patch}; set patch to that"
            )
        if (family.image_size, family.channels) != (self.image_size, self.channels):
            raise mismatch(
                f"{self.folder} takes images of {self.image_size} pixels and {self.channels} channels, and the data's have "
                f"{family.image_size} and {family.channels}; set data.image_size and data.channels to its own, or omit both"
            )


def read_vit_config(folder: Path) -> ViTConfig:
    """The sizes of a pretrained network in a folder; raises `CheckpointError` as `read_settings` does."""
    settings = read_settings(folder, _LAYOUT.kind, _NEEDED, f"{CONFIG}, {WEIGHTS} and perhaps {PREPROCESSOR}")
    image_size, patch, channels = (settings.whole(key) for key in ("image_size", "patch_size", "num_channels"))
    if image_size % patch:
        raise unusable(f"{settings.path}: a patch_size of {patch} does not divide an image_size of {image_size}")
    if channels not in (1, 3):
        raise unusable(f"{settings.path}: num_channels is {channels}; expected 1 (grey) or 3 (colour)")
    mean, std = _normalisation(folder, channels)
    qkv_bias = settings.flag("qkv_bias", default=True)
    sizes = {"image_size": image_size, "channels": channels, "patch": patch}
    return ViTConfig(folder=folder, **sizes, qkv_bias=qkv_bias, mean=mean, std=std, **read_sizes(settings))


def _normalisation(folder: Path, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel on the scale from 0 to 1, from the folder's preprocessing."""
    try:
        settings = Settings.read(folder / PREPROCESSOR)
    except FileNotFoundError:
        return (_HALF,) * channels, (_HALF,) * channels
    factor = 255.0  # the library's value of a pixel of 1, before it normalises
    if settings.flag("do_rescale", default=True):
        (rescale,) = _numbers(settings, "rescale_factor", 1, default=1 / 255, above=0)
        factor *= rescale
    if not settings.flag("do_normalize", default=True):
        return (0.0,) * channels, (1 / factor,) * channels
    mean = _numbers(settings, "image_mean", channels, default=_HALF, above=-math.inf)
    std = _numbers(settings, "image_std", channels, default=_HALF, above=0)
    return tuple(number / factor for number in mean), tuple(number / factor for number in std)


def _numbers(settings: Settings, key: str, n: int, *, default: float, above: float) -> tuple[float, ...]:
    """The `n` numbers of a key; one number stands for `n` equal ones."""
    value = settings.data.get(key, default)
    numbers = value if isinstance(value, list) else [value] * n
    plain = all(
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number) for number in numbers
    )
    if not plain or len(numbers) != n or min(numbers) <= above:
        expected = "a finite number" if n == 1 else f"{n} finite numbers, one a channel"
        positive = "" if above < 0 else f", above {above}"
        raise unusable(f"{settings.path}: {key} is {value!r}; expected {expected}{positive}")
    return tuple(float(number) for number in numbers)


def read_vit(folder: Path, config: ViTConfig | None = None) -> PretrainedTransformer:
    """A pretrained ViT, with or without a classifier (``ViTModel``, ``ViTForImageClassification`` and the like).

    Its tensors may lack ``head.classifier``.

    Args:
        config: its sizes, where they are not to be read from the folder.

    Raises:
        CheckpointError: files are missing or damaged, or a tensor is missing or does not fit; the text names it.
    """
    config = config or read_vit_config(folder)
    file = TensorFile(folder, base=f"{_LAYOUT.kind}.")
    width, patch = config.width, config.patch
    positions = file.take(_POSITIONS, 1, 1 + (config.image_size // patch) ** 2, width)
    # In the family, the class token's vector is part of its position's, which is all that the library adds to it.
    first = positions[:, :1] + file.take(_CLASS, 1, 1, width)
    tensors = {"embedding.positions": torch.cat([first, positions[:, 1:]], dim=1)}
    for ours, shape in (("embedding.patches", (width, config.channels, patch, patch)), ("head.norm", (width,))):
        tensors |= file.pair(ours, _LAYOUT.outside[ours], *shape)
    tensors |= read_layers(file, config, _LAYOUT, qkv_bias=config.qkv_bias)
    tensors |= file.classifier(width)
    file.check_all_taken(unread=(_MASK,))
    return PretrainedTransformer(config, tensors)


def write_vit(
    folder: Path,
    family: ViTEncoderFamily,
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    *,
    class_names: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> None:
    """Writes a network as a folder that ``ViTForImageClassification.from_pretrained`` loads; see `write_network`.

    Args:
        mean, std: mean and deviation of each channel, by which its images are normalised, on the scale from 0 to 1.
    """
    config = {
        "image_size": family.image_size,
        "patch_size": family.spec.patch,
        "num_channels": family.channels,
        "qkv_bias": True,
        "layer_norm_eps": family.epsilon,
    }
    preprocessing = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": family.image_size, "width": family.image_size},
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
    write_network(
        folder,
        family,
        architecture,
        tensors,
        _LAYOUT,
        embeddings=_embeddings,
        config=config,
        class_names=class_names,
        preprocessing={PREPROCESSOR: json.dumps(preprocessing, indent=2)},
    )


def _embeddings(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    positions = tensors["embedding.positions"]
    return {_CLASS: torch.zeros(1, 1, positions.shape[2]), _POSITIONS: positions}  # the class token is in its position
