"""Digests of networks' models, block keys and costs, and the file of those that an earlier version recorded.

``network_digests.json.gz``, which ``make_network_digests.py`` writes, has several networks of spaces of all families. This
module uses only functions that versions have in common: two versions that digest a network equally export it equally, find the
same entries in a table of block latencies, and report the same costs.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardware_profiles.runtime import run_model
from supernets.errors import LoweringError
from supernets.families.decoder.decoder_serving import IDS, PREFILL, STEP
from supernets.families.encoder_decoder.encoder_decoder_serving import SOURCE
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.sharing.base import Family, Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.space import Architecture
from supernets.tasks.language_modelling import LanguageModelling
from supernets.training.checkpoint import family_from_json, make_supernet

FILE = Path(__file__).parent / "network_digests.json.gz"
NETWORK, SCORED = "network", "scored"
"""Names of the model of a network's outputs and of that of tokens' losses; models of serving keep their own names."""
_LANGUAGE_FAMILIES = ("decoder", "encoder-decoder")
_BITS = 24
"""Of a weight before it is scaled: single precision holds them exactly."""
_DIGITS = 16
_N_OUTPUTS = 32
"""Number of a model's outputs that are recorded, evenly spaced."""


@dataclass(frozen=True)
class NetworkDigests:
    """What is recorded of a network.

    Attributes:
        architecture: its key.
        models: a digest of the serialised ONNX by the model's name.
        block_keys: of all blocks of the family, joined by spaces; "-" for a block that the network lacks. None if the version
            rejected the network, as it does encoder-decoders, whose encoder's norm is called several times.
        costs: parameters, multiply-accumulates and activation bytes.
        block_costs: a digest of the same three by block.
        outputs: by the model's name, some outputs in ONNX Runtime for fixed inputs, as base64 of float32; only where models of
            another version may differ in bytes.
    """

    architecture: str
    models: Mapping[str, str]
    block_keys: str | None
    costs: tuple[int, int, int]
    block_costs: str
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SpaceDigests:
    """What is recorded of a space: its family as in a checkpoint, and the networks, first the smallest and the largest."""

    family: Mapping[str, Any]
    networks: tuple[NetworkDigests, ...]


def read_digests() -> dict[str, SpaceDigests]:
    """The recorded spaces by name."""
    data = json.loads(gzip.decompress(FILE.read_bytes()))
    return {name: _space_from_json(space) for name, space in data["spaces"].items()}


def write_digests(spaces: Mapping[str, SpaceDigests], recorded_by: str) -> None:
    """Writes the file, equal bytes for equal contents.

    Args:
        recorded_by: the version.
    """
    data = {"recorded_by": recorded_by, "spaces": {name: asdict(space) for name, space in spaces.items()}}
    with FILE.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed:
        compressed.write(json.dumps(data, separators=(",", ":")).encode())


def _space_from_json(data: Mapping[str, Any]) -> SpaceDigests:
    networks = (NetworkDigests(**{**network, "costs": tuple(network["costs"])}) for network in data["networks"])
    return SpaceDigests(data["family"], tuple(networks))


def supernet_from_json(family: Mapping[str, Any]) -> Supernet:
    """The supernet of a recorded family with `set_weights`, in eval mode."""
    supernet = make_supernet(family_from_json(family)).eval()
    set_weights(supernet)
    return supernet


@torch.no_grad()
def set_weights(supernet: Supernet) -> None:
    """Gives each stored tensor numbers that depend on its name and shape alone, and on no random generator.

    Matrices and kernels have the variance 1 / inputs, so that signals neither vanish nor grow; scales of norms and variances
    are from 0.6 to 1.4, shifts from -0.1 to 0.1. Integers and single numbers stay.
    """
    for name, tensor in supernet.sharing.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim:
            tensor.copy_(_weights(name, tuple(tensor.shape)))


def _weights(name: str, shape: tuple[int, ...]) -> Tensor:
    stream = hashlib.shake_256(f"{name} {shape}".encode()).digest(4 * prod(shape))
    integers = np.frombuffer(stream, dtype="<u4") >> (32 - _BITS)
    uniform = (integers / np.float32(2**_BITS)).astype(np.float32).reshape(shape)
    if len(shape) > 1:
        values = (2 * uniform - 1) * np.float32((3 / prod(shape[1:])) ** 0.5)
    elif name.endswith(("weight", "running_var")):
        values = np.float32(0.6) + np.float32(0.8) * uniform
    else:
        values = np.float32(0.2) * uniform - np.float32(0.1)
    return torch.from_numpy(values)


def digest_networks(supernet: Supernet, architectures: Sequence[Architecture]) -> list[NetworkDigests]:
    """The digests of networks, in order; of encoder-decoders, outputs too."""
    table = supernet.costs(architectures)
    keys = _block_keys(supernet, architectures)
    networks = []
    for i, architecture in enumerate(architectures):
        models = models_of(supernet.family, supernet.extract(architecture))
        by_block = np.stack([table.parameters[i], table.macs[i], table.activation_bytes[i]]).astype("<i8")
        parameters, macs, activation_bytes = by_block.sum(axis=1).tolist()
        outputs = model_outputs(supernet.family, models) if _reads_pairs(supernet.family) else {}
        networks.append(
            NetworkDigests(
                architecture.key,
                {name: digest(model) for name, model in models.items()},
                keys[i],
                (parameters, macs, activation_bytes),
                digest(by_block.tobytes()),
                {name: base64.b64encode(values.astype("<f4").tobytes()).decode() for name, values in outputs.items()},
            )
        )
    return networks


def _block_keys(supernet: Supernet, architectures: Sequence[Architecture]) -> list[str | None]:
    """As of `NetworkDigests`; None for all networks if one is rejected."""
    try:
        table = BlockKeys(supernet).of(architectures)
    except LoweringError:
        return [None] * len(architectures)
    return [" ".join(str(key) or "-" for key in row) for row in table]


def models_of(family: Family, network: nn.Module) -> dict[str, bytes]:
    """The ONNX models of a network by name: `NETWORK`, and of a language model `SCORED` and the models of serving."""
    example = family.example(2)
    models = {NETWORK: onnx_model(network, example)}
    if family.name in _LANGUAGE_FAMILIES:
        task = LanguageModelling()
        models[SCORED] = onnx_model(task.scored(network), example)
        models |= task.served(network)
    return models


def model_outputs(family: Family, models: Mapping[str, bytes]) -> dict[str, NDArray[np.float32]]:
    """Some outputs of an encoder-decoder's models in ONNX Runtime, each (`_N_OUTPUTS`,): of the whole network for all tokens,
    of its losses, and of the first two tokens of targets with a cache."""
    sizes = family.to_json()
    source, length = sizes["source"], sizes["source"] + sizes["target"]
    ids = (np.arange(2 * length).reshape(2, length) * 7 + 5) % sizes["vocabulary"]
    ids[1, source // 2 : source] = ids[:, source] = sizes["separator"]
    first, second = ({IDS: ids[:, [source + i]], SOURCE: ids[:, :source]} for i in (0, 1))
    outputs = {name: run_model(models[name], {INPUT: ids})[0] for name in (NETWORK, SCORED)}
    outputs[PREFILL], *cache = run_model(models[PREFILL], first)
    names = [value.name.replace("present.", "past.") for value in onnx.load_from_string(models[PREFILL]).graph.output]
    outputs[STEP], *_ = run_model(models[STEP], second | dict(zip(names[1:], cache, strict=True)))
    return {name: _evenly_spaced(values) for name, values in outputs.items()}


def recorded_outputs(network: NetworkDigests) -> dict[str, NDArray[np.float32]]:
    """The recorded outputs of a network by the model's name, each (`_N_OUTPUTS`,)."""
    return {name: np.frombuffer(base64.b64decode(text), dtype="<f4") for name, text in network.outputs.items()}


def _evenly_spaced(values: NDArray[Any]) -> NDArray[np.float32]:
    flat = values.ravel()
    chosen = np.linspace(0, len(flat) - 1, _N_OUTPUTS).astype(int)
    return np.asarray(flat[chosen], dtype=np.float32)


def _reads_pairs(family: Family) -> bool:
    return family.name == "encoder-decoder"


def digest(content: bytes) -> str:
    """A hash in 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
