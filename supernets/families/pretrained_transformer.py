"""What pretrained transformers have in common as the `transformers` library saves them: a folder of a configuration and
tensors."""

from __future__ import annotations

import difflib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from supernets.errors import CheckpointError, ExportError
from supernets.families.encoder_spec import LayersSpec
from supernets.families.transformer import TransformerFamily
from supernets.pretrained import CONFIG, WEIGHTS
from supernets.space import Architecture

FAMILIES = {"bert": "encoder", "vit": "vit-encoder"}
"""The family that each kind of network is read into."""
_ANEW = f"save the network anew by save_pretrained, or give another folder with {CONFIG} and {WEIGHTS}"
_LAYERS = {
    "depth": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
}


@dataclass(frozen=True, slots=True)
class LayersConfig:
    """The sizes of a network's layers.

    Attributes:
        epsilon: of the layer norms.
    """

    depth: int
    width: int
    heads: int
    hidden: int
    epsilon: float

    @property
    def head_size(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    def as_space(self) -> dict[str, int]:
        """The sizes by the names that spaces have for them."""
        return {"head_size": self.head_size, **{name: getattr(self, name) for name in _LAYERS}}


@dataclass(frozen=True)
class PretrainedTransformer(ABC):
    """A pretrained network.

    Attributes:
        tensors: by the family's names, without those that the file lacks.
        classes: how many its classifier tells apart; None where it has none.
    """

    folder: Path
    config: LayersConfig
    tensors: Mapping[str, Tensor]
    classes: int | None

    @abstractmethod
    def space(self) -> LayersSpec:
        """The space that is searched where nothing else is asked for."""

    @abstractmethod
    def check_family(self, family: TransformerFamily) -> None:
        """Raises `CheckpointError` unless the family's largest network has this one's sizes, its classes apart."""

    def check_space(self, spec: LayersSpec) -> None:
        """Raises `CheckpointError` unless the space's largest network has this one's layers."""
        for name, own in self.config.as_space().items():
            options = getattr(spec, name)
            of_space = options if name == "head_size" else options[-1]
            if of_space != own:
                what = "is larger than the pretrained network" if of_space > own else "leaves some of it out"
                raise CheckpointError(
                    f"the space {what}: its largest {name} is {of_space}, and {self.folder} has {own}; let the last option "
                    f"of {name} be {own}, or leave space and preset out"
                )

    def weights(self, family: TransformerFamily) -> dict[str, Tensor]:
        """The tensors of the family's largest network, those that the file lacks freshly initialised (from torch's global
        generator), the classifier among them where the classes are not so many.

        Raises:
            CheckpointError: the family is of other sizes.
        """
        self.check_family(family)
        fresh = family.template().state_dict()
        own = dict(self.tensors)
        if self.classes != family.n_classes:
            own = {name: tensor for name, tensor in own.items() if not name.startswith("head.classifier")}
        return {name: own.get(name, tensor) for name, tensor in fresh.items()}


class Settings:
    """A file of settings, read key by key.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it cannot be read, or is no object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error}); expected a JSON object; {_ANEW}") from None
        if not isinstance(data, dict):
            raise CheckpointError(f"{path}: expected a JSON object, got {type(data).__name__}; {_ANEW}")
        self.data: Mapping[str, Any] = data

    def whole(self, key: str, *, least: int = 1, default: int | None = None) -> int:
        """A whole number from `least`.

        Raises:
            CheckpointError: it is none.
        """
        value = self.data.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 2**24:
            raise CheckpointError(f"{self.path}: {key} is {value!r}; expected a whole number from {least}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false.

        Raises:
            CheckpointError: it is neither.
        """
        value = self.data.get(key, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self.path}: {key} is {value!r}; expected true or false")
        return value

    def layers(self) -> dict[str, Any]:
        """What a `LayersConfig` is made of.

        Raises:
            CheckpointError: a number is out of its range, or the heads do not divide the width.
        """
        sizes = {ours: self.whole(theirs) for ours, theirs in _LAYERS.items()}
        if sizes["width"] % sizes["heads"]:
            raise CheckpointError(
                f"{self.path}: {sizes['heads']} heads do not divide a hidden_size of {sizes['width']}"
            )
        epsilon = self.data.get("layer_norm_eps", 1e-12)
        if not isinstance(epsilon, int | float) or not 0 <= epsilon < 1:
            raise CheckpointError(f"{self.path}: layer_norm_eps is {epsilon!r}; expected a number from 0 to 1")
        return {**sizes, "epsilon": float(epsilon)}


def read_settings(folder: Path, kind: str, needed: Mapping[str, tuple[object, ...]], files: str) -> Settings:
    """The configuration of a network of a kind.

    Args:
        kind: its ``model_type``.
        needed: values that keys have in the networks that the family has.
        files: that such a folder holds, in words.

    Raises:
        CheckpointError: there is none, it cannot be read, or it is of another kind.
    """
    try:
        settings = Settings(folder / CONFIG)
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: no {CONFIG} here; expected a folder of a pretrained model as the transformers library saves it, "
            f"with {files}"
        ) from None
    for key, known in {"model_type": (kind,), **needed}.items():
        value = settings.data.get(key)
        if value not in known:
            other = FAMILIES.get(value) if key == "model_type" and isinstance(value, str) else None
            hint = "give the folder of another network" if other is None else f"write family: {other}"
            raise CheckpointError(
                f"{settings.path}: {key} is {value!r}, and the family {FAMILIES[kind]} reads {known[0]!r} alone; {hint}"
            )
    return settings


class TensorFile:
    """The tensors of a folder, read one by one and found to have the shapes that the configuration says.

    Args:
        noun: what the network is, in words.
        base: what the names of all tensors but the classifier's may begin with.

    Raises:
        CheckpointError: there are none, or they cannot be read.
    """

    def __init__(self, folder: Path, *, noun: str, base: str) -> None:
        self.path, self._noun = folder / WEIGHTS, noun
        try:
            self._found: Mapping[str, Tensor] = load_file(self.path)
        except FileNotFoundError:
            pickled = folder / "pytorch_model.bin"
            hint = (
                f"{pickled.name} is pickled, which is not read: save it as safetensors" if pickled.exists() else _ANEW
            )
            raise CheckpointError(f"{folder}: no {WEIGHTS} here; {hint}") from None
        except (OSError, SafetensorError) as error:
            told = f"cannot be read ({error}); expected a whole safetensors file; {_ANEW}"
            raise CheckpointError(f"{self.path}: {told}") from None
        self._taken: set[str] = set()
        self._prefix = base if any(name.startswith(base) for name in self._found) else ""

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._found

    def take(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of this shape (None: of any size), in single precision.

        Raises:
            CheckpointError: it is not there, or of another shape.
        """
        return self._take(self._prefix + name, shape)

    def pair(self, name: str, outputs: int, *inputs: int) -> dict[str, Tensor]:
        """A module's weight and bias, by these names.

        Raises:
            CheckpointError: one is not there, or of another shape.
        """
        return {
            "weight": self.take(f"{name}.weight", outputs, *inputs),
            "bias": self.take(f"{name}.bias", outputs),
        }

    def classifier(self, width: int) -> dict[str, Tensor]:
        """The classifier's weight and bias, by the family's names; empty where there is none.

        Raises:
            CheckpointError: they do not fit.
        """
        if "classifier.weight" not in self._found:
            return {}
        weight = self._take("classifier.weight", (None, width))
        return {
            "head.classifier.weight": weight,
            "head.classifier.bias": self._take("classifier.bias", (len(weight),)),
        }

    def check_all_taken(self, *, unread: tuple[str, ...]) -> None:
        """Refuses tensors of embeddings or layers that nobody took: the network would be another without them.

        Args:
            unread: how names end of those that it does without.

        Raises:
            CheckpointError: there is one.
        """
        own = tuple(f"{self._prefix}{part}." for part in ("embeddings", "encoder"))
        left = sorted(n for n in self._found.keys() - self._taken if n.startswith(own) and not n.endswith(unread))
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise CheckpointError(
                f"{self.path}: has the tensor {left[0]}{more}, which a {self._noun} of its {CONFIG} has not; {_ANEW}"
            )

    def _take(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        if name not in self._found:
            near = difflib.get_close_matches(name, self._found.keys() - self._taken, n=1, cutoff=0.9)
            instead = f" (it has {near[0]})" if near else ""
            raise CheckpointError(
                f"{self.path}: has no tensor {name}{instead}, which a {self._noun} of its {CONFIG} has; {_ANEW}"
            )
        self._taken.add(name)
        tensor = self._found[name]
        fits = tensor.ndim == len(shape) and all(s in (None, n) for s, n in zip(shape, tensor.shape, strict=True))
        if not fits or not tensor.is_floating_point():
            expected = " x ".join("any" if size is None else str(size) for size in shape)
            raise CheckpointError(
                f"{self.path}: {name} is {' x '.join(map(str, tensor.shape))} of {tensor.dtype}; by its {CONFIG} it is "
                f"{expected} of numbers; {_ANEW}"
            )
        if not tensor.isfinite().all():
            raise CheckpointError(f"{self.path}: {name} holds figures that are not finite (nan, inf); {_ANEW}")
        return tensor.float()


@dataclass(frozen=True, slots=True)
class LayerNames:
    """What the modules of a layer are called in the library, below ``encoder.layer.N``, where kinds of networks differ."""

    attention: str
    norm1: str
    norm2: str

    def qkv(self, layer: int) -> tuple[str, str, str]:
        """Of queries, keys and values, which are three modules there."""
        own = f"encoder.layer.{layer}.{self.attention}"
        return f"{own}.query", f"{own}.key", f"{own}.value"

    def plain(self, layer: int) -> Iterator[tuple[str, str]]:
        """The modules whose tensors are the same on both sides: the family's name, and the library's."""
        ours, theirs = f"layers.{layer}", f"encoder.layer.{layer}"
        yield f"{ours}.attention.project", f"{theirs}.attention.output.dense"
        yield f"{ours}.norm1", f"{theirs}.{self.norm1}"
        yield f"{ours}.mlp.0", f"{theirs}.intermediate.dense"
        yield f"{ours}.mlp.2", f"{theirs}.output.dense"
        yield f"{ours}.norm2", f"{theirs}.{self.norm2}"


def read_layers(
    file: TensorFile, config: LayersConfig, names: LayerNames, *, qkv_bias: bool = True
) -> dict[str, Tensor]:
    """The tensors of all layers by the family's names.

    Args:
        qkv_bias: whether queries, keys and values have biases; zeros stand for those that are not there.

    Raises:
        CheckpointError: one is not there, or of another shape.
    """
    width = config.width
    shapes = {"project": (width, width), "mlp.0": (config.hidden, width), "mlp.2": (width, config.hidden)}
    tensors: dict[str, Tensor] = {}
    for i in range(config.depth):
        qkv = f"layers.{i}.attention.qkv"
        tensors[f"{qkv}.weight"] = torch.cat([file.take(f"{name}.weight", width, width) for name in names.qkv(i)])
        tensors[f"{qkv}.bias"] = (
            torch.cat([file.take(f"{name}.bias", width) for name in names.qkv(i)])
            if qkv_bias
            else torch.zeros(3 * width)
        )
        for ours, theirs in names.plain(i):
            shape = next((shape for end, shape in shapes.items() if ours.endswith(end)), (width,))
            tensors |= {f"{ours}.{kind}": tensor for kind, tensor in file.pair(theirs, *shape).items()}
    return tensors


def layers_out(tensors: Mapping[str, Tensor], depth: int, names: LayerNames) -> dict[str, Tensor]:
    """The tensors of all layers by the library's names: what `read_layers` reads."""
    out: dict[str, Tensor] = {}
    for i in range(depth):
        for kind in ("weight", "bias"):
            parts = tensors[f"layers.{i}.attention.qkv.{kind}"].chunk(3)
            out |= {f"{name}.{kind}": part for name, part in zip(names.qkv(i), parts, strict=True)}
            out |= {f"{theirs}.{kind}": tensors[f"{ours}.{kind}"] for ours, theirs in names.plain(i)}
    return out


def uniform_layers(family: TransformerFamily, architecture: Architecture, *, noun: str) -> dict[str, int]:
    """The layers of a network that the library has, too, by its configuration's keys.

    Raises:
        ExportError: it has none such: heads or hidden channels differ by layer, or the heads do not make up the width.
    """
    values = family.space.values(architecture)
    depth, width = int(values["depth"]), int(values["width"])
    chosen = {name: [int(values[f"layer{i}.{name}"]) for i in range(depth)] for name in ("heads", "hidden")}
    for name, options in chosen.items():
        if len(set(options)) > 1:
            raise ExportError(
                f"the transformers library has no {noun} whose layers differ, and this network's {name} are {options}; choose "
                "one whose layers are alike (a search of a nested space has no others), or export ONNX"
            )
    heads, hidden = chosen["heads"][0], chosen["hidden"][0]
    if heads * family.spec.head_size != width:
        raise ExportError(
            f"the transformers library divides a {noun}'s width among its heads, and this network has {heads} heads of "
            f"{family.spec.head_size} channels in a width of {width}; choose one with all of its heads, or export ONNX"
        )
    sizes = {"depth": depth, "width": width, "heads": heads, "hidden": hidden}
    return {theirs: sizes[ours] for ours, theirs in _LAYERS.items()}


def write_folder(
    folder: Path, config: Mapping[str, Any], base: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *,
    class_names: tuple[str, ...],
) -> None:  # fmt: skip
    """Writes a network with a classifier as such a folder.

    Args:
        folder: made where it is not there.
        config: what its configuration says, classes apart; ``model_type`` is what names of the tensors begin with.
        base: tensors by the library's names, the classifier's apart.
        tensors: by the family's names, which the classifier is taken of.
    """
    named = {f"{config['model_type']}.{name}": tensor for name, tensor in base.items()}
    named |= {f"classifier.{kind}": tensors[f"head.classifier.{kind}"] for kind in ("weight", "bias")}
    classes = {
        "id2label": {str(i): name for i, name in enumerate(class_names)},
        "label2id": {name: i for i, name in enumerate(class_names)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.detach().contiguous().clone() for name, tensor in named.items()}
    save_file(stored, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps({**config, **classes}, indent=2), encoding="utf-8")
