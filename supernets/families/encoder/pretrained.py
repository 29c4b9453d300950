"""BERT as the `transformers` library lays it out, read into the family `encoder` and written from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from supernets.errors import CheckpointError
from supernets.families.encoder.family import EncoderFamily
from supernets.families.encoder.spec import EncoderSpec, space_within
from supernets.families.model_folder import TensorFile, read_settings, write_folder
from supernets.families.pretrained_transformer import (
    LayerNames,
    PretrainedConfig,
    PretrainedTransformer,
    layers_out,
    read_layers,
    read_sizes,
    renumbered,
    uniform_layers,
)
from supernets.families.transformer import TransformerFamily
from supernets.pretrained import CONFIG, TOKENIZER, WEIGHTS
from supernets.space import Architecture

_KIND, _NOUN = "bert", "BERT"
_EMBEDDINGS = "embeddings"
_WORDS, _POSITIONS, _TYPES = (f"{_EMBEDDINGS}.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
_NORM = f"{_EMBEDDINGS}.LayerNorm"
_POOLER = "pooler.dense"
_NAMES = LayerNames("attention.self", norm1="attention.output.LayerNorm", norm2="output.LayerNorm")
_NEEDED: Mapping[str, tuple[object, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
}
"""Values of the configuration without which the networks would be others than the family's."""

_BUFFERS = ("position_ids", "token_type_ids")
"""Whole numbers in files of earlier versions of the library."""


@dataclass(frozen=True, slots=True)
class BertConfig(PretrainedConfig):
    """The sizes of a BERT."""

    examples_file: ClassVar[str] = TOKENIZER

    vocabulary: int
    positions: int
    padding: int

    @property
    def fixed(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "positions": self.positions, "epsilon": self.epsilon}

    def read(self, folder: Path) -> PretrainedTransformer:
        return read_bert(folder, self)

    def space(self) -> EncoderSpec:
        return space_within(**self.as_space())

    def check_family(self, family: TransformerFamily) -> None:
        if not isinstance(family, EncoderFamily):
            raise CheckpointError(f"{self.folder}: a {_NOUN} is read into the family encoder, not {family.name}")
        self.check_space(family.spec)
        if (family.vocabulary, family.positions) != (self.vocabulary, self.positions):
            raise CheckpointError(
                f"{self.folder}: its vocabulary has {self.vocabulary} tokens and it has {self.positions} positions; the "
                f"family has {family.vocabulary} and {family.positions}"
            )


def read_bert_config(folder: Path) -> BertConfig:
    """The sizes of a pretrained network in a folder.

    Raises:
        CheckpointError: there is none, it cannot be read, or it is of another kind.
    """
    settings = read_settings(folder, _KIND, _NEEDED, f"{CONFIG}, {WEIGHTS} and {TOKENIZER}")
    return BertConfig(
        folder=folder,
        vocabulary=settings.whole("vocab_size"),
        positions=settings.whole("max_position_embeddings"),
        padding=settings.whole("pad_token_id", least=0, default=0),
        **read_sizes(settings),
    )


def read_bert(folder: Path, config: BertConfig | None = None) -> PretrainedTransformer:
    """A pretrained BERT, with or without a classifier (``BertModel``, ``BertForSequenceClassification`` and the like).

    Its tensors may lack ``head.pool`` or ``head.classifier``.

    Args:
        config: its sizes, where they are not to be read from the folder.

    Raises:
        CheckpointError: files are missing or damaged, or a tensor is missing or does not fit; the text names it.
    """
    config = config or read_bert_config(folder)
    file = TensorFile(folder, noun=_NOUN, base=f"{_KIND}.")
    width = config.width
    # There is one type of tokens here: the embedding of the first is part of every word's, as the library adds these two first.
    types = file.take(_TYPES, None, width)
    tensors = {
        "embedding.words.weight": file.take(_WORDS, config.vocabulary, width) + types[0],
        "embedding.positions": file.take(_POSITIONS, config.positions, width),
    }
    tensors |= {f"embedding.norm.{kind}": tensor for kind, tensor in file.pair(_NORM, width).items()}
    tensors |= read_layers(file, config, _NAMES)
    if f"{_POOLER}.weight" in file:
        tensors |= {f"head.pool.{kind}": tensor for kind, tensor in file.pair(_POOLER, width, width).items()}
    classifier = file.classifier(width)
    file.check_all_taken(unread=_BUFFERS)
    classes = len(classifier["head.classifier.bias"]) if classifier else None
    return PretrainedTransformer(config, tensors | classifier, classes)


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
    layers = uniform_layers(family, architecture, noun=_NOUN)
    tensors = renumbered(tensors, {number: i for i, number in enumerate(family.kept(architecture))})
    out = {
        _WORDS: tensors["embedding.words.weight"],
        _POSITIONS: tensors["embedding.positions"],
        _TYPES: torch.zeros(2, layers["hidden_size"]),  # part of the words'
        **layers_out(tensors, layers["num_hidden_layers"], _NAMES),
    }
    for ours, theirs in (("embedding.norm", _NORM), ("head.pool", _POOLER)):
        out |= {f"{theirs}.{kind}": tensors[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": _KIND,
        "hidden_act": "gelu",
        **layers,
        "vocab_size": family.vocabulary,
        "max_position_embeddings": family.positions,
        "type_vocab_size": 2,
        "layer_norm_eps": family.epsilon,
        "pad_token_id": family.padding,
        "position_embedding_type": "absolute",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    write_folder(folder, config, out, tensors, class_names=class_names)
    if tokenizer is not None:
        (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")
