"""Reads a network back from the folder or GGUF file that it was written to, to compare it with the original."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from supernets.errors import CheckpointError
from supernets.families.decoder.decoder_family import WORDS, DecoderFamily
from supernets.families.decoder.decoder_pretrained import described_decoder, read_tensors
from supernets.families.decoder.library_layout import FAMILY_ONLY_SUFFIXES
from supernets.families.decoder.writing import ATTENTION_ROUTER, SAME_SCALE, options_by_layer
from supernets.families.shared.pretrained_transformer import renumbered
from supernets.networks.family_program import outline
from supernets.networks.formats.gguf_file import open_gguf
from supernets.networks.formats.model_folder import Settings, read_config
from supernets.networks.formats.pretrained import CONFIG, GGUF
from supernets.space import Architecture


def read_back(path: Path, family: DecoderFamily, architecture: Architecture, network: nn.Module) -> nn.Module:
    """The network of a folder or a GGUF file to which `network` was written.

    Args:
        path: The folder, or the file.
        family, architecture: Those of the network.
        network: The network that was written.

    Raises:
        CheckpointError: the file cannot be read, or describes another network.
    """
    of_gguf = path.suffix == GGUF
    settings = Settings(path, open_gguf(path).settings) if of_gguf else read_config(path, CONFIG)
    config = described_decoder(path, settings)
    numbers = {number: i for i, number in enumerate(options_by_layer(family, architecture))}
    described = DecoderFamily(config.space(), tokens=1, **config.fixed)
    _check_described(path, family, described, numbers)
    state = network.state_dict()
    of_layers = tuple(f"layers.{number}." for number in numbers)
    written = {name: t for name, t in state.items() if not name.startswith("layers.") or name.startswith(of_layers)}
    unwritten = [name for name in state if name.endswith(FAMILY_ONLY_SUFFIXES) or ATTENTION_ROUTER in name]
    written = {name: tensor for name, tensor in written.items() if name not in unwritten}
    shapes = {name: tuple(tensor.shape) for name, tensor in renumbered(written, numbers).items()}
    tensors = read_tensors(path, config.kind, shapes, query_scale=config.query_scale)
    scale = family.embedding_scale / described.embedding_scale
    if not math.isclose(scale, 1, rel_tol=SAME_SCALE):
        tensors[WORDS] = tensors[WORDS] / scale
    tensors = renumbered(tensors, {i: number for number, i in numbers.items()})
    return family.standalone(outline(family), architecture, state | tensors)


_NUMBERS = ("vocabulary", "positions", "epsilon", "attention_cap", "logit_cap")
"""Numbers of a family that are the same in the files of its networks."""


def _check_described(path: Path, family: DecoderFamily, described: DecoderFamily, numbers: Mapping[int, int]) -> None:
    """Raises `CheckpointError` unless a file describes the family's numbers, to single precision.

    Args:
        path: The file, for the message.
        family: Family of the network that was written.
        described: The family that the file describes.
        numbers: The numbers of layers in the file by those in the family.
    """
    pairs: dict[str, tuple[Any, Any]] = {n: (getattr(described, n), getattr(family, n)) for n in _NUMBERS}
    scopes, scopes_described = family.scopes, described.scopes
    for number, i in numbers.items():
        scope, scope_written = scopes_described[str(i)], scopes[str(number)]
        # A window that is no shorter than texts changes nothing.
        windows = [0 if s.window >= family.positions else s.window for s in (scope, scope_written)]
        pairs[f"a window of layer {i}"] = windows[0], windows[1]
        pairs[f"rotary frequencies of layer {i}"] = scope.frequencies, scope_written.frequencies
    for name, (value, written) in pairs.items():
        if np.shape(value) != np.shape(written) or not np.allclose(value, written, rtol=1e-5, atol=0):
            raise CheckpointError(
                f"{path}: has {name} {value!r}, and {written!r} was written", code="pretrained.mismatch"
            )
