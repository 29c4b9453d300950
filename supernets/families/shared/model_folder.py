"""Reads and writes the settings and tensors of a folder in which the `transformers` library saves a pretrained model."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from supernets.errors import CheckpointError, ExportError
from supernets.files import check_regular, write_atomically
from supernets.pretrained import CONFIG, WEIGHTS

unusable = partial(CheckpointError, code="pretrained.unusable")

_FAMILIES = {"bert": "encoder", "vit": "vit-encoder"}
"""The family that each kind of network is read into."""
_ANEW = f"save the network anew by save_pretrained, or give another folder with {CONFIG} and {WEIGHTS}"


class Settings:
    """A file of settings, read key by key.

    Raises:
        FileNotFoundError: it does not exist.
        CheckpointError: it cannot be read, or is no JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            check_regular(path)
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise unusable(f"{path}: cannot be read ({error}); expected a JSON object; {_ANEW}") from None
        if not isinstance(data, dict):
            raise unusable(f"{path}: expected a JSON object, got {type(data).__name__}; {_ANEW}")
        self.data: Mapping[str, Any] = data

    def whole(self, key: str, *, least: int = 1, default: int | None = None) -> int:
        """A whole number from `least`; raises `CheckpointError` for another value."""
        value = self.data.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 2**24:
            raise unusable(f"{self.path}: {key} is {value!r}; expected a whole number from {least}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false; raises `CheckpointError` for another value."""
        value = self.data.get(key, default)
        if not isinstance(value, bool):
            raise unusable(f"{self.path}: {key} is {value!r}; expected true or false")
        return value


def read_settings(folder: Path, kind: str, needed: Mapping[str, tuple[object, ...]], files: str) -> Settings:
    """The configuration of a network of a kind.

    Args:
        kind: its ``model_type``.
        needed: values of keys that the family's networks have.
        files: of such a folder, for errors.

    Raises:
        CheckpointError: it is missing, cannot be read, or is of another kind.
    """
    try:
        settings = Settings(folder / CONFIG)
    except FileNotFoundError:
        expected = f"a pretrained model's folder as the transformers library saves it, with {files}"
        raise unusable(f"{folder}: no {CONFIG} here; expected {expected}") from None
    for key, known in {"model_type": (kind,), **needed}.items():
        value = settings.data.get(key)
        if value not in known:
            other = _FAMILIES.get(value) if key == "model_type" and isinstance(value, str) else None
            hint = "give the folder of another network" if other is None else f"write family: {other}"
            raise unusable(
                f"{settings.path}: {key} is {value!r}, and the family {_FAMILIES[kind]} reads {known[0]!r}; {hint}"
            )
    return settings


class TensorFile:
    """The tensors of a folder, taken one by one and compared with the shapes of the configuration.

    Args:
        noun: the name of the network in errors.
        base: a prefix that the names of all tensors but the classifier's may have.

    Raises:
        CheckpointError: they are missing, or cannot be read.
    """

    def __init__(self, folder: Path, *, noun: str, base: str) -> None:
        self.path, self._noun = folder / WEIGHTS, noun
        try:
            check_regular(self.path)
            self._found: Mapping[str, Tensor] = load_file(self.path)
        except FileNotFoundError:
            pickled = (folder / "pytorch_model.bin").exists()
            hint = "pytorch_model.bin is pickled, which is not read: save it as safetensors" if pickled else _ANEW
            raise unusable(f"{folder}: no {WEIGHTS} here; {hint}") from None
        except (OSError, SafetensorError) as error:
            raise unusable(f"{self.path}: cannot be read ({error}); {_ANEW}") from None
        self._taken: set[str] = set()
        self._prefix = base if any(name.startswith(base) for name in self._found) else ""

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._found

    def take(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of this shape (None: of any size), in single precision; raises `CheckpointError` if there is none."""
        return self._take(self._prefix + name, shape)

    def pair(self, ours: str, theirs: str, outputs: int, *inputs: int) -> dict[str, Tensor]:
        """The weight and bias of a module, by the family's names; raises `CheckpointError` as `take` does."""
        weight, bias = self.take(f"{theirs}.weight", outputs, *inputs), self.take(f"{theirs}.bias", outputs)
        return {f"{ours}.weight": weight, f"{ours}.bias": bias}

    def classifier(self, width: int) -> dict[str, Tensor]:
        """The classifier's weight and bias, by the family's names; empty if there is none."""
        if "classifier.weight" not in self._found:
            return {}
        weight = self._take("classifier.weight", (None, width))
        return {"head.classifier.weight": weight, "head.classifier.bias": self._take("classifier.bias", (len(weight),))}

    def check_all_taken(self, *, unread: tuple[str, ...]) -> None:
        """Raises `CheckpointError` if a tensor of embeddings or layers was not taken, which would change the network.

        Args:
            unread: suffixes of the names of tensors that are not needed.
        """
        own = tuple(f"{self._prefix}{part}." for part in ("embeddings", "encoder"))
        left = sorted(n for n in self._found.keys() - self._taken if n.startswith(own) and not n.endswith(unread))
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise unusable(f"{self.path}: has the tensor {left[0]}{more}, which its {CONFIG} does not have; {_ANEW}")

    def _take(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        if name not in self._found:
            near = difflib.get_close_matches(name, self._found.keys() - self._taken, n=1, cutoff=0.9)
            instead = f" (it has {near[0]})" if near else ""
            raise unusable(f"{self.path}: has no tensor {name}{instead}, which its {CONFIG} has; {_ANEW}")
        self._taken.add(name)
        tensor = self._found[name]
        fits = tensor.ndim == len(shape) and all(s in (None, n) for s, n in zip(shape, tensor.shape, strict=True))
        if not fits or not tensor.is_floating_point():
            expected = " x ".join("any" if size is None else str(size) for size in shape)
            got = f"{' x '.join(map(str, tensor.shape))} of {tensor.dtype}"
            raise unusable(f"{self.path}: {name} is {got}; expected {expected} of numbers by its {CONFIG}; {_ANEW}")
        if not tensor.isfinite().all():
            raise unusable(f"{self.path}: {name} holds values that are not finite (nan, inf); {_ANEW}")
        return tensor.float()


def write_folder(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], preprocessing: Mapping[str, str]
) -> None:
    """Writes a network as such a folder, which is made if it does not exist.

    Args:
        preprocessing: texts of further files, by name.

    Raises:
        ExportError: a file cannot be written.
    """
    stored = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    texts = {CONFIG: json.dumps(config, indent=2), **preprocessing}
    files = {WEIGHTS: save(stored, {"format": "pt"}), **{name: text.encode() for name, text in texts.items()}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, content)
    except OSError as error:
        message = f"{error.filename or folder}: cannot be written: {error.strerror}; free space there, or choose another folder"
        raise ExportError(message, code="file.not-writable") from None
