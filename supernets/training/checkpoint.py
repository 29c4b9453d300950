"""Checkpoints of supernets: safetensors and a JSON index, replaced atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from supernets.errors import HOW_TO_ADD_A_FAMILY, CaptureError, CheckpointError, SpaceError, SupernetError
from supernets.families.captured.captured_family import CapturedFamily
from supernets.families.nested_networks import NestedFamily
from supernets.families.registry import FAMILIES
from supernets.families.single_network import SingleFamily
from supernets.files import check_regular, write_atomically
from supernets.sharing.base import Family, Supernet
from supernets.sharing.chain import ChainSharing
from supernets.sharing.spec import PLAIN, SharingSpec
from supernets.space import Architecture

INDEX, PROGRAMS = "checkpoint.json", "programs.json"
FOUND = "found"
"""The key of the network that the training's strategy has found, in the trainer's record."""
NO_TENSORS: Mapping[str, Tensor] = {}
_FORMAT, _VERSION = "subnet-nas/checkpoint", 1


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        progress: the trainer's record: epochs done, history, settings, data digest, ...
        optimizer: the optimiser's tensors; empty after the last epoch.
        teacher: the tensors of the frozen teacher that a phase of the training left, if any.
        best: the supernet's tensors after its best epoch so far, if the training keeps the best ones.
        weights_digest: Digest of the supernet's tensors.
    """

    supernet: Supernet
    progress: Mapping[str, Any]
    optimizer: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    weights_digest: str

    @property
    def finished(self) -> bool:
        """True if all epochs are done."""
        return bool(self.progress["epoch"] == self.progress["epochs"])


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash of the tensors in 16 hexadecimal digits, equal in every process."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def make_supernet(
    family: Family, spec: SharingSpec = PLAIN, *, pretrained: Mapping[str, Tensor] | None = None
) -> Supernet:
    """A supernet of a family under a way of sharing, freshly initialised or from the largest network's tensors.

    Args:
        family: An instance of a family, not its class.
        spec: The way of sharing; plain slices by default.
        pretrained: Every tensor of the largest network, by the template's names. None: the family's template, freshly
            initialised from torch's global generator unless it is of a trained network.

    Raises:
        SpaceError: the family has no layer to which the sharing applies, or its networks are not such that they can be made
            smaller; or the object is no family.
    """
    if isinstance(family, type) and issubclass(family, Family):
        raise SpaceError(
            f"{family.__name__} is a class of families; expected an instance of it", code="family.inconsistent"
        )
    if not isinstance(family, Family):
        problem = f"{type(family).__name__} is not a subclass of {Family.__module__}.{Family.__name__}"
        raise SpaceError(f"{problem}; inherit it, see {HOW_TO_ADD_A_FAMILY}", code="family.inconsistent")
    return Supernet(family, ChainSharing(family, spec, pretrained=pretrained))


def family_from_json(data: Mapping[str, Any]) -> Family:
    """The family that a checkpoint describes.

    Raises:
        CheckpointError: this version does not know it.
    """
    match data.get("family"):
        case "nested":
            return NestedFamily(family_from_json(data["of"]))
        case CapturedFamily.name:
            return CapturedFamily.from_json(data)
        case "single":
            return SingleFamily(family_from_json(data["of"]), Architecture.parse(data["network"]))
        case str(name) if name in FAMILIES:
            family: Family = FAMILIES[name].load().from_json(data)
            return family
        case str(name) if ":" in name:
            try:
                other_family: Family = resolve_name(name).from_json(data)
            except (ImportError, AttributeError, ValueError) as error:
                problem = f"the class of its family, {name}, cannot be loaded: {error}; install its package"
                raise CheckpointError(problem, code="checkpoint.unsupported") from error
            return other_family
        case unknown:
            problem = f"unknown family {unknown!r}; expected one of {', '.join(FAMILIES)}"
            raise CheckpointError(problem, code="checkpoint.unsupported")


def save_checkpoint(
    folder: Path,
    supernet: Supernet,
    *,
    progress: Mapping[str, Any],
    optimizer: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor] = NO_TENSORS,
    best: Mapping[str, Tensor] = NO_TENSORS,
) -> str:
    """Replaces the folder's checkpoint atomically; returns the digest of the weights.

    Args:
        folder: Folder of the checkpoint, created if it is missing; the tensor files of a previous checkpoint are removed.
        supernet: The supernet, whose family, sharing and stored tensors are written.
        progress: JSON-serialisable; ``epoch`` and ``epochs`` are required.
        optimizer: The optimiser's tensors by name; empty after the last epoch.
        teacher: Tensors of the frozen teacher that a phase of the training left; empty for none.
        best: The supernet's tensors after its best epoch so far; empty unless the training keeps the best ones.

    Raises:
        CheckpointError: as `write_files`.
    """
    weights = supernet.sharing.state_dict()
    digest = weights_digest(weights)
    programs = json.dumps(supernet.family.plain(supernet.space.largest)[0].programs().to_json()).encode()

    def files() -> Iterator[tuple[str, bytes]]:
        entries = {}
        for kind, tensors in {"weights": weights, "optimizer": optimizer, "teacher": teacher, "best": best}.items():
            if tensors:
                # safetensors does not write the channels-last layout of kernels.
                content = save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})
                file = f"{kind}-{progress['epoch']:04d}.safetensors"
                entries[kind] = {"file": file, "sha256": hashlib.sha256(content).hexdigest()}
                yield file, content
        index = {
            "format": _FORMAT,
            "version": _VERSION,
            "family": supernet.family.to_json(),
            "space": supernet.space.to_json(),
            "sharing": supernet.sharing.spec.to_json(),
            "progress": dict(progress),
            "weights_digest": digest,
            "files": entries,
            "programs_sha256": hashlib.sha256(programs).hexdigest(),
        }
        yield PROGRAMS, programs
        yield INDEX, json.dumps(index, indent=1).encode()

    write_files(folder, files())
    return digest


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Writes the files of a checkpoint in order, each atomically, then removes the tensors of the previous checkpoint.

    Args:
        files: names and contents, the index last: until it is replaced, the previous checkpoint stays valid.

    Raises:
        CheckpointError: a file cannot be written, e.g. because the disk is full.
    """
    written: set[Path] = set()
    previous: set[Path] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        previous = set(folder.glob("*.safetensors"))
        for name, content in files:
            write_atomically(folder / name, content)
            written.add(folder / name)
        for old in previous - written:
            old.unlink()
    except OSError as error:
        if folder / INDEX not in written:  # without it, the others are of no use
            for new in written - previous:
                new.unlink(missing_ok=True)
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be written: {error.strerror}; the previous one, if any, is kept; free space "
            "there, or make the folder writable, and resume",
            code="checkpoint.unwritable",
        ) from None


def has_checkpoint(folder: Path) -> bool:
    """Returns True if the folder has a checkpoint (valid or damaged)."""
    return (folder / INDEX).is_file()


def read_progress(folder: Path) -> Mapping[str, Any]:
    """The trainer's record in a folder's checkpoint, without its tensors; raises `CheckpointError` as `load_checkpoint`."""
    try:
        return dict(_read_index(folder)["progress"])
    except (KeyError, TypeError) as error:
        raise _damaged(folder / INDEX, f"damaged index ({error!r})") from None


def stored_family(folder: Path) -> Family:
    """The family of the checkpoint in a folder, whose weights are not read; raises `CheckpointError` as `load_checkpoint`."""
    index = _read_index(folder)
    return _with_programs(family_from_json(index["family"]), folder, index)


def _with_programs(family: Family, folder: Path, index: Mapping[str, Any]) -> Family:
    """The family, whose programs need not be captured again.

    They are captured where the checkpoint has none, as those of earlier versions, or others than its index states, or some of
    another version's operations: they follow from the family.
    """
    try:
        content = (folder / PROGRAMS).read_bytes()
    except FileNotFoundError:
        return family
    except OSError as error:
        raise _damaged(folder / PROGRAMS, f"cannot be read ({error})") from None
    if hashlib.sha256(content).hexdigest() == index.get("programs_sha256"):
        with suppress(CaptureError):
            family.plain(family.space.largest)[0].programs().restore(json.loads(content))
    return family


def load_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder, with its supernet.

    Args:
        folder: Folder that `save_checkpoint` wrote.

    Raises:
        CheckpointError: there is none, or it is damaged, truncated, of another version or of another space.
    """
    index = _read_index(folder)
    try:
        family = family_from_json(index["family"])
        if family.space.to_json() != index["space"]:
            problem = "the checkpoint's space differs from its family's; another version wrote it, train again"
            raise CheckpointError(f"{folder}: {problem}", code="checkpoint.unsupported")
        supernet = make_supernet(_with_programs(family, folder, index), SharingSpec.from_json(index["sharing"]))
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
        raise _damaged(folder / INDEX, f"damaged index ({error!r})") from None
    try:
        supernet.sharing.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        raise _damaged(folder, f"the weights do not match the space ({line})") from None
    if (actual_digest := weights_digest(tensors)) != digest:
        raise _damaged(folder, f"the weights have the digest {actual_digest}, the index says {digest}")
    return Checkpoint(supernet, progress, optimizer, teacher, best, digest)


def _damaged(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {problem}; remove the run's folder checkpoint and resume the run, which trains it again",
        code="checkpoint.damaged",
    )


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        check_regular(path)
        index = json.loads(path.read_text())
    except FileNotFoundError:
        problem = f"no checkpoint (expected {INDEX}); resume its run, which trains it again"
        raise CheckpointError(f"{folder}: {problem}", code="checkpoint.missing") from None
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be read ({error})") from None
    form, version = (index.get("format"), index.get("version")) if isinstance(index, dict) else (None, None)
    if (form, version) != (_FORMAT, _VERSION):
        problem = (
            f"format {form!r}, version {version}; expected {_FORMAT!r}, version {_VERSION}; restore it, or train again"
        )
        raise CheckpointError(f"{path}: {problem}", code="checkpoint.unsupported")
    return dict(index)


def _read_tensors(folder: Path, entry: Mapping[str, str]) -> dict[str, Tensor]:
    path = folder / Path(entry["file"]).name
    try:
        with path.open("rb") as file:
            actual_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if actual_sha256 != entry["sha256"]:
            raise _damaged(path, "truncated or changed since it was written (its sha256 differs)")
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise _damaged(path, "missing, though the index names it") from None
    except (OSError, SafetensorError) as error:
        raise _damaged(path, f"cannot be read ({error})") from None
    return tensors


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser of named parameters, as tensors named ``field.parameter``."""
    names = [name for group in optimizer.param_groups for name in group["param_names"]]
    # Moments have their parameters' layout (channels last); safetensors writes contiguous tensors only.
    return {
        f"{field}.{names[index]}": torch.as_tensor(value).detach().contiguous().clone()
        for index, state in optimizer.state_dict()["state"].items()
        for field, value in state.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restores `optimizer_tensors`, in the parameters' memory layout, which a fused step requires."""
    named_parameters = [
        pair for group in optimizer.param_groups for pair in zip(group["param_names"], group["params"], strict=True)
    ]
    indices = {name: index for index, (name, _) in enumerate(named_parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        field, _, name = key.partition(".")
        parameter = named_parameters[indices[name]][1]
        if value.shape == parameter.shape:  # a moment, not the count of steps
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        state.setdefault(indices[name], {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
