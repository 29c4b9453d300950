"""Reads texts token by token with the models by which a language model is served, and compares them with the scored one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.runtime import run_model
from nas.errors import ExportFailedError
from supernets.families.decoder.decoder_serving import FILLED, IDS, PADDING, PREFILL, cache_names, is_in_place_step
from supernets.families.encoder_decoder.encoder_decoder_serving import MEMORY, SOURCE
from supernets.networks.module_to_onnx import INPUT

MAX_DIFFERENCE = 0.05
"""Nats, on the average of tokens: the same weights, whose products are rounded in another order."""


class Decoding:
    """Texts of equal length that the served models read.

    Args:
        models: Serialised models of prompts and of steps, by name: with the cache in place, or without.
        room: Maximum number of tokens of a text.
        source: Tokens that an encoder reads, (n, tokens); None without an encoder.
    """

    def __init__(self, models: Mapping[str, bytes], *, room: int, source: NDArray[Any] | None = None) -> None:
        self._prefill, self._room, self._filled = models[PREFILL], room, 0
        (self._step,) = (model for name, model in models.items() if name != PREFILL)
        self._in_place = is_in_place_step(self._step)
        self._cache: list[NDArray[Any]] = []
        self._source, self._memory = source, dict[str, NDArray[Any]]()

    def read(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """The logits of the token after these, (n, vocabulary).

        Args:
            ids: Token ids (n, tokens), int64: prompts at first, then one token each; of texts with a source, the first token at
                first.

        Raises:
            ModelError: the runtime rejects a model.
        """
        inputs: dict[str, NDArray[Any]] = {IDS: ids, **self._memory}
        if self._source is None:
            inputs[PADDING] = np.zeros(len(ids), np.int64)
        else:
            inputs[SOURCE] = self._source
        if not self._cache:
            logits, *cache = run_model(self._prefill, inputs)
            if self._source is not None:
                n = len(cache) // 2
                self._memory = dict(zip(cache_names(n // 2, MEMORY), cache[n:], strict=True))
                cache = cache[:n]
            room = (0, self._room - ids.shape[1] if self._in_place else 0)
            self._cache = [np.pad(states, ((0, 0), (0, 0), room, (0, 0))) for states in cache]
        else:
            inputs |= dict(zip(cache_names(len(self._cache) // 2, "past"), self._cache, strict=True))
            filled = {FILLED: np.array([self._filled])} if self._in_place else {}
            logits, *self._cache = run_model(self._step, inputs | filled)
        self._filled += ids.shape[1]
        return np.asarray(logits)


def served_as_scored(scored: bytes, served: Mapping[str, bytes], texts: NDArray[Any], *, source: int = 0) -> float:
    """The mean difference between the losses of tokens in the scored model and in the served ones, in nats, while these read
    the first halves of texts as prompts, and then the other tokens one by one.

    Args:
        scored: Model from texts to the losses of their tokens after the first.
        served: Models of `Decoding`.
        texts: Token ids (n, tokens), int64, at least two tokens.
        source: Number of tokens at their beginnings that an encoder reads; the prompt is then the first token after them.

    Raises:
        ExportFailedError: The difference is above `MAX_DIFFERENCE`.
        ModelError: the runtime rejects a model.
    """
    (expected,) = run_model(scored, {INPUT: texts})
    read_by_encoder, texts = texts[:, :source], texts[:, source:]
    tokens, losses, start = texts.shape[1], [], 1 if source else texts.shape[1] // 2
    decoding, next_ids = Decoding(served, room=tokens, source=read_by_encoder if source else None), texts[:, :start]
    for at in range(start, tokens):
        logits = decoding.read(next_ids)
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
