"""Reads and writes the layers of pretrained transformers in the layout of the `transformers` library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from supernets.errors import CheckpointError, ExportError, SpaceError
from supernets.families.shared.pretrained_experts import check_experts
from supernets.families.shared.transformer_family import SHARED, TransformerFamily
from supernets.families.shared.transformer_spec import LayersSpec
from supernets.networks.family_program import outline
from supernets.networks.formats.model_folder import Settings, TensorFile, unusable, write_folder
from supernets.networks.formats.pretrained import CONFIG
from supernets.space import Architecture

mismatch = partial(CheckpointError, code="pretrained.mismatch")
not_writable = partial(ExportError, code="export.no-such-architecture")

_LAYERS = {
    "depth": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
}
"""Sizes of the layers by the names of dimensions, and the library's keys."""


@dataclass(frozen=True, slots=True)
class PretrainedConfig(ABC):
    """A pretrained network without its weights: the sizes of its layers.

    Attributes:
        folder: Folder with its configuration.
        depth: Number of layers.
        width: Channels of a token.
        heads: Number of heads of a layer's attention.
        hidden: Hidden channels of a layer's MLP, or of each expert.
        epsilon: Term that norms add to the mean square or variance.
    """

    other_files: ClassVar[tuple[str, ...]]
    """The files of a folder that say how examples are preprocessed."""

    folder: Path
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
        """The sizes by the names of dimensions."""
        return {"head_size": self.head_size, **{name: getattr(self, name) for name in _LAYERS}}

    @property
    def fixed(self) -> dict[str, Any]:
        """Arguments of the family's constructor that the network fixes for all data."""
        return {"epsilon": self.epsilon}

    def files(self) -> dict[str, bytes]:
        """The content of its configuration and its `other_files` by name, of those that exist; what is needed beside weights.

        Raises:
            OSError: a file cannot be read.
        """
        paths = [self.folder / name for name in (CONFIG, *self.other_files)]
        return {path.name: path.read_bytes() for path in paths if path.is_file()}

    @abstractmethod
    def read(self, folder: Path) -> PretrainedTransformer:
        """The network of this configuration, with the weights in a folder.

        Raises:
            CheckpointError: they are missing or damaged, or do not fit; the text names the tensor.
        """

    @abstractmethod
    def space(self) -> LayersSpec:
        """The space that is searched if the job gives no other."""

    @abstractmethod
    def check_family(self, family: TransformerFamily) -> None:
        """Raises `CheckpointError` unless the family's largest network has these sizes, its classes apart."""

    def gets_experts(self, spec: LayersSpec) -> bool:
        """Returns True if a space has experts that are made of the network's MLPs."""
        return spec.experts is not None and "experts" not in self.as_space()

    def check_space(self, spec: LayersSpec) -> None:
        """Raises `CheckpointError` unless the space's largest network has these layers, and `SpaceError` unless its experts can
        be made of their MLPs."""
        sizes = self.as_space()
        if self.gets_experts(spec):
            check_experts(spec, sizes.pop("hidden"))
        for name, size in sizes.items():
            if (options := getattr(spec, name)) is None:
                raise mismatch(
                    f"the space has no {name}, and {self.folder} is a network with experts; give experts and "
                    "active_experts, or leave space and preset out"
                )
            of_space = options if name == "head_size" else options[-1]
            if of_space != size:
                difference = "is larger than the pretrained network" if of_space > size else "leaves some of it out"
                raise mismatch(
                    f"the space {difference}: its largest {name} is {of_space}, and {self.folder} has {size}; "
                    f"end {name} in {size}, or leave space and preset out"
                )
        if spec.routers == SHARED and "experts" in self.as_space():
            raise SpaceError("routers: the layers of the pretrained network have their own; write learned")
        if spec.null_experts is not None:
            raise SpaceError("null_experts: the largest network is the pretrained one, which has none; remove it")
        if spec.top_p is not None and spec.top_p[-1] != 1:
            raise SpaceError(
                "top_p: the largest network is the pretrained one, whose tokens have all of their experts; end it in 1"
            )
        if spec.expert_rank is not None and spec.expert_rank[-1] != self.width:
            raise SpaceError(
                f"expert_rank: the largest network is the pretrained one where its experts read all {self.width} channels, and "
                f"expert_rank ends in {spec.expert_rank[-1]}; end it in {self.width}"
            )


@dataclass(frozen=True)
class PretrainedTransformer:
    """A pretrained network.

    Attributes:
        config: Its sizes.
        tensors: Tensors by the family's names, without those that the file lacks.
    """

    config: PretrainedConfig
    tensors: Mapping[str, Tensor]

    @property
    def classes(self) -> int | None:
        """Number of classes of its classifier; None if it has none."""
        bias = self.tensors.get("head.classifier.bias")
        return None if bias is None else len(bias)

    def weights(self, family: TransformerFamily) -> dict[str, Tensor]:
        """The tensors of the family's largest network; those that the file lacks, and a classifier of another number of
        classes, are freshly initialised (from torch's global generator).

        Raises:
            CheckpointError: the family is of other sizes.
        """
        self.config.check_family(family)
        read_tensors = dict(self.tensors)
        if self.classes != family.n_classes:
            read_tensors = {
                name: tensor for name, tensor in read_tensors.items() if not name.startswith("head.classifier")
            }
        names = list(outline(family).state_dict())
        fresh = {} if read_tensors.keys() >= set(names) else family.template().state_dict()
        return {name: read_tensors[name] if name in read_tensors else fresh[name] for name in names}


def read_sizes(settings: Settings) -> dict[str, Any]:
    """Arguments of a `PretrainedConfig`; raises `CheckpointError` if a number is unfit."""
    sizes = {dimension: settings.whole(key) for dimension, key in _LAYERS.items()}
    if sizes["width"] % sizes["heads"]:
        raise unusable(f"{settings.path}: {sizes['heads']} heads do not divide a hidden_size of {sizes['width']}")
    return {**sizes, "epsilon": settings.number("layer_norm_eps", default=1e-12, limit=1)}


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of a kind of networks in the library, where they differ from kind to kind.

    Attributes:
        kind: its ``model_type``, with which the names of its tensors may begin.
        noun: its name in errors.
        architecture: the library's class with a classifier.
        attention, norm1, norm2: modules of a layer, below ``encoder.layer.N``.
        outside: other modules whose tensors are the same on both sides: the family's names, and the library's.
    """

    kind: str
    noun: str
    architecture: str
    attention: str
    norm1: str
    norm2: str
    outside: Mapping[str, str]

    def qkv(self, layer: int) -> tuple[str, str, str]:
        """The modules of queries, keys and values, which are one module in the family."""
        attention = f"encoder.layer.{layer}.{self.attention}"
        return f"{attention}.query", f"{attention}.key", f"{attention}.value"

    def plain(self, layer: int) -> Iterator[tuple[str, str]]:
        """The modules of a layer whose tensors are the same on both sides: the family's name, and the library's."""
        family_layer, library_layer = f"layers.{layer}", f"encoder.layer.{layer}"
        yield f"{family_layer}.attention.project", f"{library_layer}.attention.output.dense"
        yield f"{family_layer}.norm1", f"{library_layer}.{self.norm1}"
        yield f"{family_layer}.mlp.0", f"{library_layer}.intermediate.dense"
        yield f"{family_layer}.mlp.2", f"{library_layer}.output.dense"
        yield f"{family_layer}.norm2", f"{library_layer}.{self.norm2}"


def read_layers(
    file: TensorFile, config: PretrainedConfig, layout: Layout, *, qkv_bias: bool = True
) -> dict[str, Tensor]:
    """The tensors of all layers by the family's names.

    Args:
        qkv_bias: whether queries, keys and values have biases; missing ones are zeros.
    """
    width = config.width
    shapes = {"project": (width, width), "mlp.0": (config.hidden, width), "mlp.2": (width, config.hidden)}
    tensors: dict[str, Tensor] = {}
    for i in range(config.depth):
        qkv, names = f"layers.{i}.attention.qkv", layout.qkv(i)
        tensors[f"{qkv}.weight"] = torch.cat([file.take(f"{name}.weight", width, width) for name in names])
        biases = [file.take(f"{name}.bias", width) for name in names] if qkv_bias else [torch.zeros(3 * width)]
        tensors[f"{qkv}.bias"] = torch.cat(biases)
        for module, library_module in layout.plain(i):
            shape = next((shape for end, shape in shapes.items() if module.endswith(end)), (width,))
            tensors |= file.pair(module, library_module, *shape)
    return tensors


def renumbered(tensors: Mapping[str, Tensor], numbers: Mapping[int, int]) -> dict[str, Tensor]:
    """The same tensors by the family's names, with the layers under other numbers: those of a network in a folder have no
    gaps, where its supernet's depth may leave some."""
    names = {f"layers.{old}": f"layers.{new}" for old, new in numbers.items()}
    parts = ((name.split(".", 2), tensor) for name, tensor in tensors.items())
    return {".".join([names.get(".".join(part[:2]), ".".join(part[:2])), *part[2:]]): tensor for part, tensor in parts}


def write_network(
    folder: Path,
    family: TransformerFamily,
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    layout: Layout,
    *,
    embeddings: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    config: Mapping[str, Any],
    class_names: tuple[str, ...],
    preprocessing: Mapping[str, str],
) -> None:
    """Writes a network with a classifier as a folder that the library loads.

    Args:
        folder: Folder to write, which is made if it does not exist.
        family: Family of the network.
        architecture: Architecture of the network.
        tensors: Tensors of the extracted network by the family's names.
        layout: The library's names for this kind of networks.
        embeddings: Function that makes the tensors that differ on both sides, by the library's names, from `tensors`.
        config: Keys of its configuration beside those of all transformers.
        class_names: Names of the classes, in the order of the outputs.
        preprocessing: Texts of the files that prepare its inputs, by name.

    Raises:
        ExportError: the library has no such network: heads or hidden channels differ by layer, or the heads do not make up
            the width; or a file cannot be written.
    """
    layers = _uniform_layers(family, architecture, noun=layout.noun)
    tensors = renumbered(tensors, {number: i for i, number in enumerate(family.layer_numbers(architecture))})
    library_tensors = dict(embeddings(tensors))
    for kind in ("weight", "bias"):
        library_tensors |= {
            f"{library_module}.{kind}": tensors[f"{module}.{kind}"] for module, library_module in layout.outside.items()
        }
        for i in range(layers["num_hidden_layers"]):
            parts = tensors[f"layers.{i}.attention.qkv.{kind}"].chunk(3)
            library_tensors |= {f"{name}.{kind}": part for name, part in zip(layout.qkv(i), parts, strict=True)}
            library_tensors |= {
                f"{library_module}.{kind}": tensors[f"{module}.{kind}"] for module, library_module in layout.plain(i)
            }
    named_tensors = {f"{layout.kind}.{name}": tensor for name, tensor in library_tensors.items()}
    named_tensors |= {f"classifier.{kind}": tensors[f"head.classifier.{kind}"] for kind in ("weight", "bias")}
    description = {
        "architectures": [layout.architecture],
        "model_type": layout.kind,
        "hidden_act": "gelu",
        **layers,
        **config,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "id2label": {str(i): name for i, name in enumerate(class_names)},
        "label2id": {name: i for i, name in enumerate(class_names)},
    }
    write_folder(folder, description, named_tensors, preprocessing)


def _uniform_layers(family: TransformerFamily, architecture: Architecture, *, noun: str) -> dict[str, int]:
    """The sizes of a network's layers by the keys of the library's configuration; raises `ExportError` if it has none."""
    if family.has_experts:
        raise not_writable(f"the transformers library has no {noun} with experts; export ONNX")
    chosen, width = uniform_options(family, architecture, noun=noun), family.width(architecture)
    heads, hidden = chosen["heads"], chosen["hidden"]
    if heads * family.spec.head_size != width:
        raise not_writable(
            f"the transformers library divides a {noun}'s width among its heads, and this network has {heads} heads of "
            f"{family.spec.head_size} channels in a width of {width}; choose one with all of its heads, or export ONNX"
        )
    sizes = {"depth": len(family.layer_numbers(architecture)), "width": width, "heads": heads, "hidden": hidden}
    return {key: sizes[dimension] for dimension, key in _LAYERS.items()}


def uniform_options(family: TransformerFamily, architecture: Architecture, *, noun: str) -> dict[str, int]:
    """The options that all layers of a network have, by name; raises `ExportError` if they differ, and names them."""
    values, layer_numbers = family.space.values(architecture), family.layer_numbers(architecture)
    chosen = {
        name: [cast(int, values.get(f"{family.layer}{i}.{name}", 0)) for i in layer_numbers]
        for name in family.layer_options()
    }
    if differing := [f"{name} {options}" for name, options in chosen.items() if len(set(options)) > 1]:
        raise not_writable(
            f"the transformers library has no {noun} whose layers differ, and the layers {list(layer_numbers)} of this "
            f"network have {' and '.join(differing)}; choose one whose layers are alike (a search of a nested space has no "
            "others), or export ONNX"
        )
    if skipped := [name for name, options in chosen.items() if options[0] == 0 and name in ("heads", "hidden")]:
        raise not_writable(
            f"the transformers library has no {noun} of which all layers have {skipped[0]} 0; choose another network, or "
            "export ONNX"
        )
    return {name: options[0] for name, options in chosen.items()}
