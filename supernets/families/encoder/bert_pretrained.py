"""BERT as the `transformers` library lays it out, read into the family `encoder` and written from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from supernets.families.encoder.encoder_family import EncoderFamily
from supernets.families.encoder.encoder_spec import EncoderSpec, space_within
from supernets.families.shared.pretrained_transformer import (
    Layout,
    PretrainedConfig,
    PretrainedTransformer,
    mismatch,
    read_layers,
    read_sizes,
    write_network,
)
from supernets.families.shared.transformer_family import TransformerFamily
from supernets.networks.formats.model_folder import TensorFile, read_settings
from supernets.networks.formats.pretrained import CONFIG, TOKENIZER, WEIGHTS
from supernets.space import Architecture

_EMBEDDINGS = "embeddings"
_WORDS, _POSITIONS, _TYPES = (f"{_EMBEDDINGS}.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
_LAYOUT = Layout(
    kind="bert",
    noun="BERT",
    architecture="BertForSequenceClassification",
    attention="attention.self",
    norm1="attention.output.LayerNorm",
    norm2="output.LayerNorm",
    outside={"embedding.norm": f"{_EMBEDDINGS}.LayerNorm", "head.pool": "pooler.dense"},
)
_NEEDED: Mapping[str, tuple[object, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
}
"""Values of the configuration in the family's networks."""
_BUFFERS = ("position_ids", "token_type_ids")
"""Tensors of whole numbers in files of earlier versions of the library."""


@dataclass(frozen=True, slots=True)
class BertConfig(PretrainedConfig):
    """The sizes of a BERT."""

    other_files: ClassVar[tuple[str, ...]] = (TOKENIZER,)

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
            raise mismatch(f"{self.folder}: a {_LAYOUT.noun} is read into the family encoder, not {family.name}")
        self.check_space(family.spec)
        if (family.vocabulary, family.positions) != (self.vocabulary, self.positions):
            sizes_text, family_text = (
                f"{self.vocabulary} tokens and {self.positions}",
                f"{family.vocabulary} and {family.positions}",
            )
            raise mismatch(
                f"{self.folder}: has a vocabulary of {sizes_text} positions, and the family has {family_text}"
            )


def read_bert_config(folder: Path) -> BertConfig:
    """The sizes of a pretrained network in a folder; raises `CheckpointError` as `read_settings` does."""
    settings = read_settings(folder, _LAYOUT.kind, _NEEDED, f"{CONFIG}, {WEIGHTS} and {TOKENIZER}")
    vocabulary, positions = settings.whole("vocab_size"), settings.whole("max_position_embeddings")
    padding = settings.whole("pad_token_id", minimum=0, default=0)
    return BertConfig(
        folder=folder, vocabulary=vocabulary, positions=positions, padding=padding, **read_sizes(settings)
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
    file = TensorFile(folder, base=f"{_LAYOUT.kind}.")
    width = config.width
    # The family has one type of tokens: the embedding of the first is part of every word's; the library adds these two first.
    types = file.take(_TYPES, None, width)
    tensors = {
        "embedding.words.weight": file.take(_WORDS, config.vocabulary, width) + types[0],
        "embedding.positions": file.take(_POSITIONS, config.positions, width),
    }
    norm, pooler = _LAYOUT.outside["embedding.norm"], _LAYOUT.outside["head.pool"]
    tensors |= file.pair("embedding.norm", norm, width) | read_layers(file, config, _LAYOUT)
    if f"{pooler}.weight" in file:
        tensors |= file.pair("head.pool", pooler, width, width)
    tensors |= file.classifier(width)
    file.check_all_taken(unread=_BUFFERS)
    return PretrainedTransformer(config, tensors)


def write_bert(
    folder: Path,
    family: EncoderFamily,
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    *,
    class_names: tuple[str, ...],
    tokenizer: str | None = None,
) -> None:
    """Writes a network as a folder that ``BertForSequenceClassification.from_pretrained`` loads; see `write_network`.

    Args:
        tokenizer: the text of its ``tokenizer.json``.
    """
    config = {
        "vocab_size": family.vocabulary,
        "max_position_embeddings": family.positions,
        "type_vocab_size": 2,
        "layer_norm_eps": family.epsilon,
        "pad_token_id": family.padding,
        "position_embedding_type": "absolute",
    }
    write_network(
        folder,
        family,
        architecture,
        tensors,
        _LAYOUT,
        embeddings=_embeddings,
        config=config,
        class_names=class_names,
        preprocessing={} if tokenizer is None else {TOKENIZER: tokenizer},
    )


def _embeddings(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    words, positions = tensors["embedding.words.weight"], tensors["embedding.positions"]
    return {_WORDS: words, _POSITIONS: positions, _TYPES: torch.zeros(2, words.shape[1])}  # types are part of the words
