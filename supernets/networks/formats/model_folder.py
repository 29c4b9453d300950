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
from supernets.networks.formats.pretrained import CONFIG, GGUF, WEIGHTS

unusable = partial(CheckpointError, code="pretrained.unusable")


def experts_unusable(path: Path, kind_text: str) -> CheckpointError:
    """The error for a mixture of experts, whose layers choose among several MLPs.

    Args:
        path: The file that cannot be used.
        kind_text: The kind of network with its setting of experts, for the message.
    """
    remedy = "the family decoder reads folders of the kinds mixtral and qwen2_moe with experts; give another"
    return unusable(f"{path}: is a mixture of experts ({kind_text}); {remedy}")


DECODERS = (
    *("llama", "mistral", "qwen2", "qwen3", "smollm3", "phi3", "olmo2", "gemma", "gemma2", "gemma3_text", "gpt2"),
    *("mixtral", "qwen2_moe"),
)
"""The values of ``model_type`` that the family `decoder` reads."""
_FAMILIES = {"bert": "encoder", "vit": "vit-encoder", **dict.fromkeys(DECODERS, "decoder")}
"""The family that each kind of network is read into."""
SHARDS = f"{WEIGHTS}.index.json"
"""Says which file has which tensor, where they are divided among several."""
_ANEW = f"save the network anew by save_pretrained, or give another folder with {CONFIG} and {WEIGHTS}"


class Settings:
    """A file of settings, read key by key."""

    def __init__(self, path: Path, data: Mapping[str, Any]) -> None:
        self.path, self.data = path, data

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The settings of a file.

        Raises:
            FileNotFoundError: it does not exist.
            CheckpointError: it cannot be read, or is no JSON object.
        """
        try:
            check_regular(path)
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise unusable(f"{path}: cannot be read ({error}); expected a JSON object; {_ANEW}") from None
        if not isinstance(data, dict):
            raise unusable(f"{path}: expected a JSON object, got {type(data).__name__}; {_ANEW}")
        return cls(path, data)

    def whole(self, key: str, *, minimum: int = 1, default: int | None = None) -> int:
        """A whole number of at least `minimum`; raises `CheckpointError` for another value."""
        value = self.data.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= 2**24:
            raise unusable(f"{self.path}: {key} is {value!r}; expected a whole number from {minimum}")
        return value

    def number(self, key: str, *, default: float, limit: float) -> float:
        """A number from 0, below `limit`; raises `CheckpointError` for another value."""
        value = self.data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < limit:
            raise unusable(f"{self.path}: {key} is {value!r}; expected a number from 0 to {limit:g}")
        return float(value)

    def check(self, family: str, needed: Mapping[str, tuple[object, ...]]) -> None:
        """Raises `CheckpointError` if a value is none of those that networks of a family have."""
        for key, accepted_values in needed.items():
            value = self.data.get(key)
            if value not in accepted_values:
                family_of_kind = _FAMILIES.get(value) if key == "model_type" and isinstance(value, str) else None
                hint = (
                    "give the folder of another network"
                    if family_of_kind in (None, family)
                    else f"write family: {family_of_kind}"
                )
                read_values = accepted_values if key == "model_type" else accepted_values[:1]
                expected = ", ".join(map(repr, read_values))
                raise unusable(f"{self.path}: {key} is {value!r}, and the family {family} reads {expected}; {hint}")

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false; raises `CheckpointError` for another value."""
        value = self.data.get(key, default)
        if not isinstance(value, bool):
            raise unusable(f"{self.path}: {key} is {value!r}; expected true or false")
        return value


def family_of(path: Path) -> str:
    """The name of the family that a pretrained network is read into.

    Args:
        path: Folder of the network, or its GGUF file.

    Raises:
        CheckpointError: its configuration is missing, cannot be read, or is of another kind of network.
    """
    if path.suffix == GGUF:
        return _FAMILIES[DECODERS[0]]
    settings = read_config(path, f"{CONFIG} and {WEIGHTS}")
    kind = settings.data.get("model_type")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise unusable(f"{settings.path}: model_type is {kind!r}; expected one of {', '.join(_FAMILIES)}; {_ANEW}")
    return _FAMILIES[kind]


def read_settings(folder: Path, kind: str, needed: Mapping[str, tuple[object, ...]], files: str) -> Settings:
    """The configuration of a network of a kind.

    Args:
        kind: its ``model_type``.
        needed: values of keys that the family's networks have.
        files: Names of the files of such a folder, for errors.

    Raises:
        CheckpointError: it is missing, cannot be read, or is of another kind.
    """
    settings = read_config(folder, files)
    settings.check(_FAMILIES[kind], {"model_type": (kind,), **needed})
    return settings


def read_config(folder: Path, files: str) -> Settings:
    """The configuration of a network of any kind; arguments and errors as of `read_settings`."""
    try:
        return Settings.read(folder / CONFIG)
    except FileNotFoundError:
        expected = f"a pretrained model's folder as the transformers library saves it, with {files}"
        raise unusable(f"{folder}: no {CONFIG} here; expected {expected}") from None


class NamedTensors:
    """The tensors of a pretrained network, taken one by one and compared with the shapes of its configuration.

    Args:
        path: Path of their file, for errors.
        tensors: Tensors of the file, by name.
        base: Prefix that the names of all tensors but those of the head may have.
        described_by: Name of the file that has their shapes, for errors.
    """

    def __init__(self, path: Path, tensors: Mapping[str, Tensor], *, base: str, described_by: str = CONFIG) -> None:
        self.path, self._tensors, self._described_by = path, tensors, described_by
        self._taken: set[str] = set()
        self._prefix = base if any(name.startswith(base) for name in self._tensors) else ""

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._tensors

    def take(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of this shape (None: of any size), in single precision; raises `CheckpointError` if there is none."""
        return self._take(self._prefix + name, shape)

    def pair(self, name: str, source_name: str, outputs: int, *inputs: int) -> dict[str, Tensor]:
        """The weight and bias of a module, by the family's names; raises `CheckpointError` as `take` does.

        Args:
            name: Path of the module in the family's network.
            source_name: Path of the module in the file, without the prefix.
            outputs: Number of outputs.
            inputs: Further sizes of the weight.
        """
        weight, bias = self.take(f"{source_name}.weight", outputs, *inputs), self.take(f"{source_name}.bias", outputs)
        return {f"{name}.weight": weight, f"{name}.bias": bias}

    def classifier(self, width: int) -> dict[str, Tensor]:
        """The classifier's weight and bias, by the family's names; empty if there is none."""
        if "classifier.weight" not in self._tensors:
            return {}
        weight = self._take("classifier.weight", (None, width))
        return {"head.classifier.weight": weight, "head.classifier.bias": self._take("classifier.bias", (len(weight),))}

    def check_all_taken(self, *, unread: tuple[str, ...], parts: tuple[str, ...] = ("embeddings.", "encoder.")) -> None:
        """Raises `CheckpointError` if a tensor of embeddings or layers was not taken, which would change the network.

        Args:
            unread: suffixes of the names of tensors that are not needed.
            parts: the beginnings of the names of tensors of embeddings and layers; those of other tensors do not matter.
        """
        prefixes = tuple(f"{self._prefix}{part}" for part in parts)
        unread_names = sorted(
            n for n in self._tensors.keys() - self._taken if n.startswith(prefixes) and not n.endswith(unread)
        )
        if unread_names:
            more = f" and {len(unread_names) - 1} more" if len(unread_names) > 1 else ""
            raise unusable(
                f"{self.path}: has the tensor {unread_names[0]}{more}, which its {self._described_by} does not have; {_ANEW}"
            )

    def take_head(self, name: str, *shape: int | None) -> Tensor:
        """`take` of a tensor of the head, whose name has no prefix."""
        return self._take(name, shape)

    def _take(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        if name not in self._tensors:
            near = difflib.get_close_matches(name, self._tensors.keys() - self._taken, n=1, cutoff=0.9)
            instead = f" (it has {near[0]})" if near else ""
            raise unusable(f"{self.path}: has no tensor {name}{instead}, which its {self._described_by} has; {_ANEW}")
        self._taken.add(name)
        tensor = self._tensors[name]  # read here where it is not in memory
        fits = tensor.ndim == len(shape) and all(s in (None, n) for s, n in zip(shape, tensor.shape, strict=True))
        if not fits or not tensor.is_floating_point():
            expected = " x ".join("any" if size is None else str(size) for size in shape)
            got = f"{' x '.join(map(str, tensor.shape))} of {tensor.dtype}"
            raise unusable(
                f"{self.path}: {name} is {got}; expected {expected} of numbers by its {self._described_by}; {_ANEW}"
            )
        if not tensor.isfinite().all():
            raise unusable(f"{self.path}: {name} holds values that are not finite (nan, inf); {_ANEW}")
        return tensor.float()


class TensorFile(NamedTensors):
    """The tensors of a folder, in one file or several.

    Args:
        base: a prefix that the names of all tensors but the head's may have.

    Raises:
        CheckpointError: they are missing, or cannot be read.
    """

    def __init__(self, folder: Path, *, base: str) -> None:
        files = _shards(folder) if (folder / SHARDS).exists() else [folder / WEIGHTS]
        tensors: dict[str, Tensor] = {}
        for path in files:
            try:
                check_regular(path)
                tensors |= load_file(path)
            except FileNotFoundError:
                pickled = (folder / "pytorch_model.bin").exists()
                hint = "pytorch_model.bin is pickled, which is not read: save it as safetensors" if pickled else _ANEW
                raise unusable(f"{folder}: no {path.name} here; {hint}") from None
            except (OSError, SafetensorError) as error:
                raise unusable(f"{path}: cannot be read ({error}); {_ANEW}") from None
        super().__init__(folder / SHARDS if len(files) > 1 else files[0], tensors, base=base)


def _shards(folder: Path) -> list[Path]:
    """The files among which the tensors of a folder are divided; raises `CheckpointError` if they are not in the folder."""
    path = folder / SHARDS
    names = Settings.read(path).data.get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(n, str) and Path(n).name == n for n in names.values()):
        raise unusable(f"{path}: weight_map is no mapping from tensors to files of the folder; {_ANEW}")
    return [folder / name for name in sorted(set(names.values()))]


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
