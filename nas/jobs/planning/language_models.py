"""Descriptions of the language models of a job or a pretrained network, and of the texts that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nas.errors import JobError
from nas.jobs.build.built_job import BuiltJob
from supernets.data import BlockFormat, CutVocabulary
from supernets.data.tokenizing import DocumentTokenizer
from supernets.errors import CheckpointError, DataError
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_pretrained import read_decoder_config
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.networks.formats.pretrained import find_pretrained
from supernets.space.cost import Cost
from supernets.training.checkpoint import make_supernet

_LAYOUTS = {
    "llama": "root-mean-square norms, rotary positions, gated MLPs",
    "gpt2": "layer norms, learned positions, plain MLPs with biases",
}
_COUNTED = 128
"""Tokens of the text that the MACs of a pretrained network are counted for."""


@dataclass(frozen=True, slots=True)
class LanguageModels:
    """The networks of a space, and the texts that they read.

    Attributes:
        tokenizer: Origin of the tokenizer, or why there is none.
        vocabulary: Number of tokens of the tokenizer; None without one.
        separator: The token before and after each document; None without a tokenizer.
        positions: Maximum number of tokens of a text that the networks read.
        block: Number of tokens of a text in training; None without data.
        tokens: Number of tokens that are predicted, by part of the data.
        questions: Number of multiple-choice questions, by part; empty without any.
        cut: Effect of a vocabulary that is cut from the tokenizer's; None where it is whole.
    """

    spec: DecoderSpec
    tokenizer: str
    vocabulary: int | None
    separator: str | None
    positions: int
    block: int | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)
    questions: Mapping[str, int] = field(default_factory=dict)
    cut: CutVocabulary | None = None

    def lines(self) -> list[str]:
        """A description in sentences."""
        spec, head = self.spec, "the embeddings' weights" if self.spec.tied else "weights of its own"
        order = "in a given order" if spec.order is not None else f"kept: {spec.kept}"
        groups = f"{_options(spec.heads, none='no attention')} groups of {_options(spec.queries)} heads"
        if spec.attention_experts is not None:
            groups = f"{_options(spec.attention_experts)} attention experts of {groups}"
        length_limit = f"the networks read texts of at most {self.positions:,} tokens"
        counted = ", ".join(f"{n:,} {part}" for part, n in self.tokens.items())
        questions = ", ".join(f"{n:,} {part}" for part, n in self.questions.items())
        return [
            f"layout: {spec.layout} ({_LAYOUTS[spec.layout]}), output with {head}",
            f"elastic: {_options(spec.depth)} layers ({order}), width {_options(spec.width)}; in each layer {groups}, and "
            f"{_options(spec.hidden, none='no MLP')} hidden channels{_experts(spec)}",
            f"tokenizer: {self.tokenizer}"
            + (
                "" if self.vocabulary is None else f", {self.vocabulary:,} tokens; {self.separator} separates documents"
            ),
            *([] if self.cut is None else self.cut.lines()),
            length_limit if self.block is None else f"tokens: {counted}, in blocks of {self.block}; {length_limit}",
            *([f"questions: {questions}"] if questions else []),
        ]

    def to_json(self) -> dict[str, Any]:
        """The entry ``language_models`` of `--json`."""
        return {
            "layout": self.spec.layout,
            "tokenizer": self.tokenizer,
            "vocabulary": self.vocabulary,
            "separator": self.separator,
            "block": self.block,
            "positions": self.positions,
            "tokens": dict(self.tokens),
            "questions": dict(self.questions),
            **({} if self.cut is None else {"cut_vocabulary": self.cut.to_json()}),
        }


def language_models(built_job: BuiltJob) -> LanguageModels | None:
    """The networks and texts of a job; None for one of another family."""
    family, data = built_job.family, built_job.data.dataset
    plain, _ = family.plain(family.space.largest)
    if not isinstance(plain, DecoderFamily) or not isinstance(format := data.format, BlockFormat):
        return None
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    questions = {name: part.questions for name, part in parts.items()}
    return LanguageModels(
        plain.spec,
        _tokenizer(built_job),
        format.vocabulary,
        format.separator_token,
        plain.positions,
        format.block,
        {name: int((part.labels[..., 1] >= 0).sum()) for name, part in parts.items()},
        {
            name: 1 + int(part_questions.labels[..., 1].max())
            for name, part_questions in questions.items()
            if part_questions is not None
        },
        data.vocabulary,
    )


def _tokenizer(built_job: BuiltJob) -> str:
    job = built_job.job.config
    if job.data.tokenizer is not None:
        return str(job.data.tokenizer)
    if job.supernet.pretrained is not None:
        return f"that of {job.supernet.pretrained}"
    return "trained on the training part" if job.supernet.from_ is None else f"as of {job.supernet.from_}"


@dataclass(frozen=True, slots=True)
class PretrainedLanguageModel:
    """A pretrained network, with the space that a job searches if it gives no other.

    Attributes:
        kind: its ``model_type``.
        networks: Number of networks in the space.
    """

    name: str
    kind: str
    spec: DecoderSpec
    networks: int
    smallest: Cost
    largest: Cost
    models: LanguageModels

    def lines(self) -> list[str]:
        """A description in sentences."""
        ends = (("parameters", "parameters"), (f"MACs of {_COUNTED} tokens", "macs"))
        costs = [f"{name}: {getattr(self.smallest, key):,} to {getattr(self.largest, key):,}" for name, key in ends]
        return [f"{self.name}: a {self.kind}, {self.networks:.3g} networks", *costs, *self.models.lines()]

    def to_json(self) -> dict[str, Any]:
        """The output of `nas inspect --json`."""
        costs = {
            name: {"parameters": cost.parameters, "macs": cost.macs}
            for name, cost in (("smallest", self.smallest), ("largest", self.largest))
        }
        return {
            "model": self.name,
            "kind": self.kind,
            "networks": self.networks,
            "space": self.spec.to_json(),
            **costs,
            "language_models": self.models.to_json(),
        }


def pretrained_language_model(name: str) -> PretrainedLanguageModel:
    """The space that a job with ``supernet: {pretrained: NAME}`` searches; no weights are read.

    Raises:
        JobError: there is no such network, or it is of another kind.
    """
    try:
        path = find_pretrained(name)
        config = read_decoder_config(path)
        spec = config.space()
        family = DecoderFamily(spec, tokens=min(_COUNTED, config.positions), **config.fixed)
    except CheckpointError as error:
        raise JobError(f"{name}: {error}", code=error.code) from None
    with torch.device("meta"):  # weights would take memory
        supernet = make_supernet(family)
    smallest, largest = (supernet.cost(end) for end in (family.space.smallest, family.space.largest))
    try:
        tokenizer = DocumentTokenizer.load(path)
        tokenizer_facts = f"that of {name}", tokenizer.vocabulary, tokenizer.separator_token
        models = LanguageModels(spec, *tokenizer_facts, config.positions)
    except DataError as error:
        models = LanguageModels(spec, str(error), None, None, config.positions)
    return PretrainedLanguageModel(name, config.kind, spec, family.space.size, smallest, largest, models)


def _experts(spec: DecoderSpec) -> str:
    """The text that follows the hidden channels in the description of a space's layers; "" without experts."""
    if spec.experts is None or spec.active_experts is None:
        return ""
    shared = "" if spec.shared_hidden is None else f", and one of {spec.shared_hidden} channels for all tokens"
    base = "" if spec.expert_rank is None else f" on {_options(spec.expert_rank)} channels in common"
    base += "" if spec.null_experts is None else f" and {_options(spec.null_experts)} null experts"
    active = f"{_options(spec.active_experts)} for each token"
    active += "" if spec.top_p is None else f" up to a probability of {' or '.join(f'{p:g}' for p in spec.top_p)}"
    active += ", by one router for all layers" if spec.routers == "shared" else ""
    return f" of each of {_options(spec.experts)} experts{base}, {active}{shared}"


def _options(values: Sequence[int], *, none: str = "0") -> str:
    """The options of a dimension: ``2``, ``2 or 4``, ``15 to 30`` for all between.

    Args:
        none: Text of the option 0.
    """
    if values[0] == 0:
        return f"{none} or {_options(values[1:])}"
    if len(values) > 2 and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    *initial, last = map(str, values)
    return f"{', '.join(initial)} or {last}" if initial else last
