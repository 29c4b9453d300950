"""BERT as the `transformers` library lays it out, read into the family `encoder` and written from it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from supernets.errors import CheckpointError, ExportError
from supernets.families.encoder import EncoderFamily
from supernets.families.encoder_spec import EncoderSpec, space_within
from supernets.pretrained import CONFIG, TOKENIZER, WEIGHTS
from supernets.space import Architecture

_EMBEDDINGS = "embeddings"
_WORDS, _POSITIONS, _TYPES = (f"{_EMBEDDINGS}.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
_NEEDED: Mapping[str, tuple[object, ...]] = {
    "model_type": ("bert",),
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
}
"""Values of the configuration without which the networks would be others than the family's."""
_BUFFERS = ("position_ids", "token_type_ids")
"""Whole numbers in files of earlier versions of the library."""
_ANEW = f"save the network anew by save_pretrained, or give another folder with {CONFIG}, {WEIGHTS} and {TOKENIZER}"


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The sizes of a BERT."""

    vocabulary: int
    positions: int
    padding: int
    depth: int
    width: int
    heads: int
    hidden: int
    epsilon: float

    @property
    def head_size(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    def space(self) -> EncoderSpec:
        """The space that is searched where nothing else is asked for; see `space_within`."""
        return space_within(
            head_size=self.head_size, depth=self.depth, width=self.width, heads=self.heads, hidden=self.hidden
        )


@dataclass(frozen=True)
class Bert:
    """A pretrained BERT.

    Attributes:
        tensors: by the family's names; without ``head.pool`` or ``head.classifier`` where the file has none.
        classes: how many its classifier tells apart; None where it has none.
    """

    folder: Path
    config: BertConfig
    tensors: Mapping[str, Tensor]
    classes: int | None

    def check_space(self, spec: EncoderSpec) -> None:
        """Raises `CheckpointError` unless the space's largest network has this one's sizes."""
        config = self.config
        for name, of_space, own in (
            ("head_size", spec.head_size, config.head_size),
            ("depth", spec.depth[-1], config.depth),
            ("width", spec.width[-1], config.width),
            ("heads", spec.heads[-1], config.heads),
            ("hidden", spec.hidden[-1], config.hidden),
        ):
            if of_space != own:
                what = "is larger than the pretrained network" if of_space > own else "leaves some of it out"
                raise CheckpointError(
                    f"the space {what}: its largest {name} is {of_space}, and {self.folder} has {own}; let the last option "
                    f"of {name} be {own}, or leave space and preset out"
                )

    def weights(self, family: EncoderFamily) -> dict[str, Tensor]:
        """The tensors of the family's largest network, those that the file lacks freshly initialised (from torch's global
        generator).

        Raises:
            CheckpointError: the family is of other sizes, or tells other classes.
        """
        self.check_space(family.spec)
        config = self.config
        if (family.vocabulary, family.positions) != (config.vocabulary, config.positions):
            raise CheckpointError(
                f"{self.folder}: its vocabulary has {config.vocabulary} tokens and it has {config.positions} positions; the "
                f"family has {family.vocabulary} and {family.positions}"
            )
        fresh = family.template().state_dict()
        own = dict(self.tensors)
        if self.classes != family.n_classes:
            own = {name: tensor for name, tensor in own.items() if not name.startswith("head.classifier")}
        return {name: own.get(name, tensor) for name, tensor in fresh.items()}


def read_config(folder: Path) -> BertConfig:
    """The sizes of a pretrained network in a folder.

    Raises:
        CheckpointError: there is none, it cannot be read, or it is of another kind.
    """
    path = folder / CONFIG
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: no {CONFIG} here; expected a folder of a pretrained model as the transformers library saves it, "
            f"with {CONFIG}, {WEIGHTS} and {TOKENIZER}"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); expected a JSON object; {_ANEW}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(data).__name__}; {_ANEW}")
    for key, known in _NEEDED.items():
        if data.get(key) not in known:
            raise CheckpointError(
                f"{path}: {key} is {data.get(key)!r}, and the family {EncoderFamily.name} reads {known[0]!r} alone; give "
                "the folder of another network"
            )
    names = {
        "vocabulary": "vocab_size", "positions": "max_position_embeddings", "depth": "num_hidden_layers",
        "width": "hidden_size", "heads": "num_attention_heads", "hidden": "intermediate_size",
    }  # fmt: skip
    sizes = {ours: _whole(path, data, theirs, least=1) for ours, theirs in names.items()}
    if sizes["width"] % sizes["heads"]:
        raise CheckpointError(f"{path}: {sizes['heads']} heads do not divide a hidden_size of {sizes['width']}")
    epsilon = data.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, int | float) or not 0 <= epsilon < 1:
        raise CheckpointError(f"{path}: layer_norm_eps is {epsilon!r}; expected a number from 0 to 1")
    padding = _whole(path, {"pad_token_id": 0, **data}, "pad_token_id", least=0)
    return BertConfig(padding=padding, epsilon=float(epsilon), **sizes)


def _whole(path: Path, data: Mapping[str, Any], key: str, *, least: int) -> int:
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 2**24:
        raise CheckpointError(f"{path}: {key} is {value!r}; expected a whole number from {least}")
    return value


def read_bert(folder: Path) -> Bert:
    """A pretrained BERT, with or without a classifier (``BertModel``, ``BertForSequenceClassification`` and the like).

    Raises:
        CheckpointError: files are missing or damaged, or a tensor is missing or does not fit; the text names it.
    """
    config = read_config(folder)
    path = folder / WEIGHTS
    try:
        found: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        pickled = folder / "pytorch_model.bin"
        hint = f"{pickled.name} is pickled, which is not read: save it as safetensors" if pickled.exists() else _ANEW
        raise CheckpointError(f"{folder}: no {WEIGHTS} here; {hint}") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); expected a whole safetensors file; {_ANEW}") from None
    prefix = "bert." if f"bert.{_WORDS}" in found else ""
    reader = _Reader(path, prefix, found)
    tensors: dict[str, Tensor] = {}
    width, whole = config.width, config.heads * config.head_size
    # There is one type of tokens here: the embedding of the first is part of every word's, as the library adds these two first.
    types = reader.take(_TYPES, None, width)
    tensors["embedding.words.weight"] = reader.take(_WORDS, config.vocabulary, width) + types[0]
    tensors["embedding.positions"] = reader.take(_POSITIONS, config.positions, width)
    for i in range(config.depth):
        for kind in ("weight", "bias"):
            inputs = (width,) if kind == "weight" else ()
            parts = [reader.take(f"{name}.{kind}", whole, *inputs) for name in _qkv(i)]
            tensors[f"layers.{i}.attention.qkv.{kind}"] = torch.cat(parts)
    for ours, theirs in _plain(config.depth):
        shape = {"mlp.0": (config.hidden, width), "mlp.2": (width, config.hidden), "project": (width, whole)}
        outputs, inner = next((s for end, s in shape.items() if ours.endswith(end)), (width, 0))
        for kind in ("weight", "bias"):
            sizes = (outputs, inner) if kind == "weight" and inner else (outputs,)
            tensors[f"{ours}.{kind}"] = reader.take(f"{theirs}.{kind}", *sizes)
    if f"{prefix}pooler.dense.weight" in found:
        tensors["head.pool.weight"] = reader.take("pooler.dense.weight", width, width)
        tensors["head.pool.bias"] = reader.take("pooler.dense.bias", width)
    classes = None
    if "classifier.weight" in found:
        outer = _Reader(path, "", found)
        tensors["head.classifier.weight"] = outer.take("classifier.weight", None, width)
        classes = len(tensors["head.classifier.weight"])
        tensors["head.classifier.bias"] = outer.take("classifier.bias", classes)
    reader.check_all_taken()
    return Bert(folder, config, tensors, classes)


@dataclass(frozen=True)
class _Reader:
    path: Path
    prefix: str
    found: Mapping[str, Tensor]
    taken: set[str] = field(default_factory=set)

    def take(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of this shape (None: of any size), in single precision."""
        name = self.prefix + name
        if name not in self.found:
            near = difflib.get_close_matches(name, self.found.keys() - self.taken, n=1, cutoff=0.9)
            instead = f" (it has {near[0]})" if near else ""
            raise CheckpointError(
                f"{self.path}: has no tensor {name}{instead}, which a BERT of its {CONFIG} has; {_ANEW}"
            )
        self.taken.add(name)
        tensor = self.found[name]
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

    def check_all_taken(self) -> None:
        """Refuses tensors of embeddings or layers that nobody took: the network would be another without them."""
        own = tuple(f"{self.prefix}{part}." for part in (_EMBEDDINGS, "encoder"))
        left = sorted(n for n in self.found.keys() - self.taken if n.startswith(own) and not n.endswith(_BUFFERS))
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise CheckpointError(
                f"{self.path}: has the tensor {left[0]}{more}, which a BERT of its {CONFIG} has not; {_ANEW}"
            )


def _qkv(layer: int) -> tuple[str, str, str]:
    own = f"encoder.layer.{layer}.attention.self"
    return f"{own}.query", f"{own}.key", f"{own}.value"


def _plain(depth: int) -> Iterator[tuple[str, str]]:
    """Modules whose tensors are the same on both sides: the family's name, and the library's."""
    yield "embedding.norm", f"{_EMBEDDINGS}.LayerNorm"
    for i in range(depth):
        ours, theirs = f"layers.{i}", f"encoder.layer.{i}"
        yield f"{ours}.attention.project", f"{theirs}.attention.output.dense"
        yield f"{ours}.norm1", f"{theirs}.attention.output.LayerNorm"
        yield f"{ours}.mlp.0", f"{theirs}.intermediate.dense"
        yield f"{ours}.mlp.2", f"{theirs}.output.dense"
        yield f"{ours}.norm2", f"{theirs}.output.LayerNorm"


def write_bert(
    folder: Path, family: EncoderFamily, architecture: Architecture, tensors: Mapping[str, Tensor], *,
    class_names: tuple[str, ...], tokenizer: str | None = None,
) -> None:  # fmt: skip
    """Writes a network as a folder that ``BertForSequenceClassification.from_pretrained`` loads.

    Args:
        folder: made where it is not there.
        tensors: of the extracted network, by the family's names.
        tokenizer: the text of its ``tokenizer.json``.

    Raises:
        ExportError: the library has no such BERT: heads or hidden channels differ by layer, or the heads do not make up the
            width.
    """
    depth, width, heads, hidden = _uniform(family, architecture)
    out = {
        _WORDS: tensors["embedding.words.weight"],
        _POSITIONS: tensors["embedding.positions"],
        _TYPES: torch.zeros(2, width),  # part of the words'
    }
    for i in range(depth):
        for kind in ("weight", "bias"):
            parts = tensors[f"layers.{i}.attention.qkv.{kind}"].chunk(3)
            out.update({f"{name}.{kind}": part for name, part in zip(_qkv(i), parts, strict=True)})
    modules = [*_plain(depth), ("head.pool", "pooler.dense")]
    out |= {f"{theirs}.{kind}": tensors[f"{ours}.{kind}"] for ours, theirs in modules for kind in ("weight", "bias")}
    named = {f"bert.{name}": tensor for name, tensor in out.items()}
    named |= {f"classifier.{kind}": tensors[f"head.classifier.{kind}"] for kind in ("weight", "bias")}
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        "vocab_size": family.vocabulary,
        "max_position_embeddings": family.positions,
        "type_vocab_size": 2,
        "layer_norm_eps": family.epsilon,
        "pad_token_id": family.padding,
        "position_embedding_type": "absolute",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "id2label": {str(i): name for i, name in enumerate(class_names)},
        "label2id": {name: i for i, name in enumerate(class_names)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.detach().contiguous().clone() for name, tensor in named.items()}
    save_file(stored, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    if tokenizer is not None:
        (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")


def _uniform(family: EncoderFamily, architecture: Architecture) -> tuple[int, int, int, int]:
    """Depth, width, heads and hidden channels of a network that the library has, too."""
    values = family.space.values(architecture)
    depth, width = int(values["depth"]), int(values["width"])
    chosen = {name: [int(values[f"layer{i}.{name}"]) for i in range(depth)] for name in ("heads", "hidden")}
    for name, options in chosen.items():
        if len(set(options)) > 1:
            raise ExportError(
                f"the transformers library has no BERT whose layers differ, and this network's {name} are {options}; choose "
                "one whose layers are alike (a search of a nested space has no others), or export ONNX"
            )
    heads, hidden = chosen["heads"][0], chosen["hidden"][0]
    if heads * family.spec.head_size != width:
        raise ExportError(
            f"the transformers library divides a BERT's width among its heads, and this network has {heads} heads of "
            f"{family.spec.head_size} channels in a width of {width}; choose one with all of its heads, or export ONNX"
        )
    return depth, width, heads, hidden
