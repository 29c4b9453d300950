"""The models by which an exported language model is served: compared with torch, and with the model that was scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardware_profiles.errors import ModelError
from hardware_profiles.runtime import run_model
from nas.errors import ExportFailedError
from nas.jobs.evaluation.parity import MAX_PARITY
from nas.results.export.scripts.reading import Reading, session_of
from supernets.families.decoder.decoder_serving import IDS, PADDING, PREFILL
from supernets.families.encoder_decoder.encoder_decoder_serving import SOURCE
from supernets.networks.module_to_onnx import INPUT

MAX_TOKENS = 64
"""Generated for the comparison."""
MAX_DIFFERENCE = 0.05
"""Nats, on the average of tokens: the same weights, whose products are rounded in another order."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """Texts that a network continued greedily.

    Attributes:
        source: (n, tokens) int64 ids that an encoder reads; no tokens without an encoder.
        prompt: (n, tokens) int64 ids that were given.
        logits: Logits of each next token, (n, vocabulary) each; the likeliest tokens follow the prompt.
    """

    source: NDArray[Any]
    prompt: NDArray[Any]
    logits: Sequence[Tensor]


@torch.no_grad()
def continued(module: nn.Module, texts: NDArray[Any], *, positions: int, source: int = 0) -> Continuation:
    """The first halves of texts, continued greedily by torch, by at most `MAX_TOKENS` tokens.

    Args:
        module: An extracted network.
        texts: (n, tokens), int64.
        positions: the most tokens of a text, without those of its source.
        source: tokens at the beginnings of texts that an encoder reads; what is continued is then the first token after them.
    """
    ids = torch.from_numpy(texts[:, : source + 1 if source else max(1, texts.shape[1] // 2)])
    prompt, logits = ids[:, source:].numpy(), list[Tensor]()
    for _ in range(min(MAX_TOKENS, positions - prompt.shape[1] + 1)):
        logits.append(module.eval()(ids)[:, -1].clone())
        ids = torch.cat([ids, logits[-1].argmax(1, keepdim=True)], dim=1)
    return Continuation(texts[:, :source], prompt, logits)


def served_parity(
    expected: Continuation, models: Mapping[str, Path], *, room: int, largest: float = MAX_PARITY
) -> float:
    """The largest difference between the logits of the models and torch's, over the deviation of torch's, while both continue
    texts greedily.

    Args:
        expected: The texts as torch continues them.
        models: Files of the models of prompts and of steps, by name.
        room: Maximum number of tokens of a text, without those of its source.
        largest: The largest difference that is accepted.

    Raises:
        ExportFailedError: The difference is larger.
        ModelError: the runtime rejects a model.
    """
    reading = _reading(models, expected.prompt, room=room, source=expected.source)
    ids, worst = expected.prompt, 0.0
    for step, logits in enumerate(expected.logits):
        difference = (torch.from_numpy(reading(ids)) - logits).abs().max() / logits.std()
        worst = max(worst, float(difference))
        if not worst <= largest:
            message = (
                f"differ from torch's by {worst:.2g} of their deviation (at most {largest:.2g}) after {step} tokens"
            )
            raise ExportFailedError(f"the exported models' outputs {message}", code="export.outputs-differ")
        ids = logits.argmax(1, keepdim=True).numpy()
    return worst


def served_as_scored(scored: Path, served: Mapping[str, Path], texts: NDArray[Any], *, source: int = 0) -> float:
    """The mean difference between the losses of tokens in the scored model and in the served ones, in nats, while these read
    the first halves of texts as prompts, and then the other tokens one by one.

    Args:
        scored: File of the model from texts to the losses of their tokens after the first.
        served: Files of the models of prompts and of steps, by name.
        texts: Token ids (n, tokens), int64, at least two tokens.
        source: Number of tokens at their beginnings that an encoder reads; the prompt is then the first token after them.

    Raises:
        ExportFailedError: The difference is above `MAX_DIFFERENCE`.
        ModelError: the runtime rejects a model.
    """
    (expected,) = run_model(scored, {INPUT: texts})
    read_by_encoder, texts = texts[:, :source], texts[:, source:]
    tokens, losses, start = texts.shape[1], [], 1 if source else texts.shape[1] // 2
    next_ids = texts[:, :start]
    reading = _reading(served, next_ids, room=tokens, source=read_by_encoder)
    for at in range(start, tokens):
        logits = reading(next_ids)
        shifted = logits - logits.max(axis=1, keepdims=True)
        likelihood = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        next_ids = texts[:, at : at + 1]
        losses.append(-np.take_along_axis(likelihood, next_ids, axis=1))
    difference = float(np.abs(np.concatenate(losses, axis=1) - expected[:, start - 1 :]).mean())
    if not difference <= MAX_DIFFERENCE:
        raise ExportFailedError(
            f"the losses of the served models differ from those of the scored one by {difference:.2g} nats on average (at "
            f"most {MAX_DIFFERENCE:g}); export on the machine of the search, or one with its processor",
            code="export.outputs-differ",
        )
    return difference


class _Answered:
    """A session that has been closed after a call, with the outputs of that call."""

    def __init__(self, outputs: Sequence[NDArray[Any]]) -> None:
        self._outputs = outputs

    def run(self, names: None, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """The outputs of the call that was made."""
        return self._outputs


def _reading(models: Mapping[str, Path], prompt: NDArray[Any], *, room: int, source: NDArray[Any]) -> Reading:
    """The reading of texts of equal length, as the script of an export has it; at no time are both models loaded.

    Args:
        models: Files of the models of prompts and of steps, by name: with the cache in place, or without.
        prompt: The tokens that are read first, (texts, tokens).
        room: Maximum number of tokens of a text.
        source: Tokens that an encoder reads, (texts, tokens); no tokens without an encoder.

    Raises:
        ModelError: The runtime rejects a model.
    """
    inputs = {SOURCE: source} if source.size else {PADDING: np.zeros(len(prompt), np.int64)}
    prefill, step = (str(models[name]) for name in sorted(models, key=lambda name: name != PREFILL))
    try:
        answered = _Answered(session_of(prefill).run(None, {IDS: prompt, **inputs}))
        return Reading(answered, session_of(step), inputs, room)
    except Exception as error:  # the exceptions of the runtime share no base class
        raise ModelError(f"onnxruntime rejects the model: {error}", code="model.rejected") from error
