"""The models by which an exported language model is served: compared with torch, and with the model that was scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hardware_profiles.errors import ModelError
from hardware_profiles.runtime import run_model
from nas.errors import ExportFailedError
from nas.jobs.evaluation.parity import MAX_PARITY
from nas.results.export.scripts.reading import Reading, session_of
from supernets.families.decoder.decoder_serving import PADDING, PREFILL
from supernets.families.encoder_decoder.encoder_decoder_serving import SOURCE
from supernets.networks.module_to_onnx import INPUT

MAX_TOKENS = 64
"""Generated for the comparison."""
MAX_DIFFERENCE = 0.05
"""Nats, on the average of tokens: the same weights, whose products are rounded in another order."""


def served_parity(
    module: nn.Module, models: Mapping[str, bytes], texts: NDArray[Any], *, positions: int, source: int = 0
) -> float:
    """The largest difference between the logits of the models and torch's, over the deviation of torch's, while both continue
    the first halves of texts greedily, by at most `MAX_TOKENS` tokens.

    Args:
        texts: (n, tokens), int64.
        positions: the most tokens of a text, without those of its source.
        source: tokens at the beginnings of texts that an encoder reads; what is continued is then the first token after them.

    Raises:
        ExportFailedError: The difference is above `MAX_PARITY`.
        ModelError: the runtime rejects a model.
    """
    ids = torch.from_numpy(texts[:, : source + 1 if source else max(1, texts.shape[1] // 2)])
    reading, worst = _reading(models, room=positions, texts=len(texts), source=texts[:, :source]), 0.0
    for step in range(min(MAX_TOKENS, positions - (ids.shape[1] - source) + 1)):
        logits = reading((ids[:, source:] if step == 0 else ids[:, -1:]).numpy())
        with torch.no_grad():
            expected = module.eval()(ids)[:, -1]
        worst = max(worst, float((torch.from_numpy(logits) - expected).abs().max() / expected.std()))
        if not worst <= MAX_PARITY:
            message = (
                f"differ from torch's by {worst:.2g} of their deviation (at most {MAX_PARITY:g}) after {step} tokens"
            )
            raise ExportFailedError(f"the exported models' outputs {message}", code="export.outputs-differ")
        ids = torch.cat([ids, expected.argmax(1, keepdim=True)], dim=1)
    return worst


def served_as_scored(scored: bytes, served: Mapping[str, bytes], texts: NDArray[Any], *, source: int = 0) -> float:
    """The mean difference between the losses of tokens in the scored model and in the served ones, in nats, while these read
    the first halves of texts as prompts, and then the other tokens one by one.

    Args:
        scored: Model from texts to the losses of their tokens after the first.
        served: Models of prompts and of steps, by name.
        texts: Token ids (n, tokens), int64, at least two tokens.
        source: Number of tokens at their beginnings that an encoder reads; the prompt is then the first token after them.

    Raises:
        ExportFailedError: The difference is above `MAX_DIFFERENCE`.
        ModelError: the runtime rejects a model.
    """
    (expected,) = run_model(scored, {INPUT: texts})
    read_by_encoder, texts = texts[:, :source], texts[:, source:]
    tokens, losses, start = texts.shape[1], [], 1 if source else texts.shape[1] // 2
    reading, next_ids = _reading(served, room=tokens, texts=len(texts), source=read_by_encoder), texts[:, :start]
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


def _reading(models: Mapping[str, bytes], *, room: int, texts: int, source: NDArray[Any]) -> Reading:
    """The reading of texts of equal length, as the script of an export has it.

    Args:
        models: Serialised models of prompts and of steps, by name: with the cache in place, or without.
        room: Maximum number of tokens of a text.
        texts: Number of texts.
        source: Tokens that an encoder reads, (texts, tokens); no tokens without an encoder.

    Raises:
        ModelError: The runtime rejects a model.
    """
    try:
        prefill, step = (session_of(models[name]) for name in sorted(models, key=lambda name: name != PREFILL))
    except Exception as error:  # the exceptions of the runtime share no base class
        raise ModelError(f"onnxruntime rejects the model: {error}", code="model.rejected") from error
    inputs = {SOURCE: source} if source.size else {PADDING: np.zeros(texts, np.int64)}
    return Reading(prefill, step, inputs, room)
