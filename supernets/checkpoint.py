"""Checkpoints: safetensors and JSON, written under another name and renamed, so that a kill leaves the last good one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from supernets.base import Family, Supernet
from supernets.errors import CheckpointError, SupernetError
from supernets.families.nested import NestedFamily
from supernets.families.registry import FAMILIES
from supernets.families.single import SingleFamily
from supernets.sharing.chain import ChainSharing
from supernets.sharing.spec import PLAIN, SharingSpec
from supernets.space import Architecture

INDEX = "checkpoint.json"
NOTHING: Mapping[str, Tensor] = {}
_FORMAT, _VERSION = "subnet-nas/checkpoint", 1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was read.

    Attributes:
        progress: what the trainer recorded: epochs done, history, settings, data digest, ...
        optimizer: the optimiser's tensors; empty once training is finished.
        teacher: of the largest subnet that a phase of the training left to teach the others; empty where none did.
        best: of the supernet after its best epoch until now, where the training is to end with those; else empty.
        weights_digest: of the supernet's tensors.
    """

    supernet: Supernet
    progress: Mapping[str, Any]
    optimizer: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    weights_digest: str

    @property
    def finished(self) -> bool:
        """Whether all epochs were trained."""
        return bool(self.progress["epoch"] == self.progress["epochs"])


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits that name these tensors, equal in every process."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def make_supernet(
    family: Family, spec: SharingSpec = PLAIN, *, pretrained: Mapping[str, Tensor] | None = None
) -> Supernet:
    """A supernet of a family under a way of sharing, freshly initialised or made of the largest network's tensors.

    Raises:
        SpaceError: the family has nothing that such a sharing is for.
    """
    return Supernet(family, ChainSharing(family, spec, pretrained=pretrained))


def family_from_json(data: Mapping[str, Any]) -> Family:
    """The family that a checkpoint describes.

    Raises:
        CheckpointError: this version does not know it.
    """
    match data.get("family"):
        case "nested":
            return NestedFamily(family_from_json(data["of"]))
        case "single":
            return SingleFamily(family_from_json(data["of"]), Architecture.parse(data["network"]))
        case str(name) if name in FAMILIES:
            family: Family = FAMILIES[name].load().from_json(data)
            return family
        case other:
            raise CheckpointError(f"unknown family {other!r}; this version knows: {', '.join(FAMILIES)}")


def save_checkpoint(
    folder: Path,
    supernet: Supernet,
    *,
    progress: Mapping[str, Any],
    optimizer: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor] = NOTHING,
    best: Mapping[str, Tensor] = NOTHING,
) -> str:
    """Writes a checkpoint atomically and removes the one before it; returns the digest of the weights.

    Args:
        progress: JSON-able; ``epoch`` and ``epochs`` are required.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in supernet.sharing.state_dict().items()}
    # Kernels of several channels are laid out channels last, which safetensors does not write.
    others = {
        kind: {name: tensor.detach().contiguous() for name, tensor in given.items()}
        for kind, given in (("teacher", teacher), ("best", best))
    }
    files = {"weights": tensors, "optimizer": dict(optimizer), **others}
    names = {}
    for kind, content in files.items():
        if content:
            name = f"{kind}-{progress['epoch']:04d}.safetensors"
            _replace(folder / name, content)
            names[kind] = {"file": name, "sha256": _sha256(folder / name)}
    digest = weights_digest(tensors)
    index = {
        "format": _FORMAT,
        "version": _VERSION,
        "family": supernet.family.to_json(),
        "space": supernet.space.to_json(),
        "sharing": supernet.sharing.spec.to_json(),
        "progress": dict(progress),
        "weights_digest": digest,
        "files": names,
    }
    temporary = folder / f".{INDEX}.{os.getpid()}"
    with temporary.open("w") as file:
        json.dump(index, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / INDEX)
    kept = {entry["file"] for entry in names.values()}
    for old in folder.glob("*.safetensors"):
        if old.name not in kept:
            old.unlink()
    return digest


def _replace(path: Path, tensors: dict[str, Tensor]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_checkpoint(folder: Path) -> bool:
    """Whether the folder holds a checkpoint (whole or damaged)."""
    return (folder / INDEX).is_file()


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads a checkpoint and makes its supernet.

    Raises:
        CheckpointError: there is none, or it is damaged, truncated, of another version or of another space.
    """
    index = _read_index(folder)
    try:
        family = family_from_json(index["family"])
        if family.space.to_json() != index["space"]:
            raise CheckpointError(
                f"{folder}: the checkpoint's space is not the one that its family makes; it comes from another version"
            )
        supernet = make_supernet(family, SharingSpec.from_json(index["sharing"]))
        tensors = _read_tensors(folder, index["files"]["weights"])
        optimizer, teacher, best = (
            _read_tensors(folder, index["files"][kind]) if kind in index["files"] else {}
            for kind in ("optimizer", "teacher", "best")
        )
        progress, digest = index["progress"], index["weights_digest"]
        progress["epoch"], progress["epochs"]
    except CheckpointError:
        raise
    except (KeyError, TypeError, AttributeError, SupernetError) as error:
        raise CheckpointError(f"{folder / INDEX}: damaged checkpoint index ({error!r}); train again") from None
    try:
        supernet.sharing.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise CheckpointError(f"{folder}: the weights are those of another space: {lines[-1].strip()}") from None
    if weights_digest(tensors) != digest:
        raise CheckpointError(f"{folder}: the weights are not those that the index names; train again")
    return Checkpoint(supernet, progress, optimizer, teacher, best, digest)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: no checkpoint here (expected a {INDEX}); give a run or a folder that `nas train` made"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); train again") from None
    if not isinstance(index, dict) or index.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this project")
    if index.get("version") != _VERSION:
        raise CheckpointError(f"{path}: checkpoint version {index.get('version')}, this version reads {_VERSION}")
    return index


def _read_tensors(folder: Path, entry: Mapping[str, str]) -> dict[str, Tensor]:
    path = folder / Path(entry["file"]).name
    try:
        if _sha256(path) != entry["sha256"]:
            raise CheckpointError(f"{path}: truncated or changed since it was written (sha256 differs); train again")
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing, though the checkpoint names it; train again") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); train again") from None
    return tensors


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The optimiser's state as tensors named ``field.parameter``; `names` are its parameters' names in order."""
    out: dict[str, Tensor] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for field, value in state.items():
            # Moments are laid out as their parameters are (channels last); safetensors takes plain layouts only.
            out[f"{field}.{names[index]}"] = torch.as_tensor(value).detach().contiguous().clone()
    return out


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str], tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` gave, laid out as the parameters are: a fused step reads memory in order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        field, _, name = key.partition(".")
        index = names.index(name)
        parameter = parameters[index]
        if value.shape == parameter.shape:  # a moment, not the count of steps
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        state.setdefault(index, {})[field] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
