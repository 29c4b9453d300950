"""Reads texts token by token with the two models by which a language model is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


def session_of(model: str | bytes) -> Any:
    """The session of an ONNX model: the path of its file, or the model itself."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


class Reading:
    """The part of some texts that models have read: a cache of keys and values, which each step makes longer.

    Args:
        prefill, step: Sessions of the model that reads prompts, or sources, and of the one that reads one token of each text.
        inputs: Inputs of both models beside the tokens: the padding of prompts, or the sources.
        room: Maximum number of tokens of a text.
    """

    def __init__(self, prefill: Any, step: Any, inputs: Mapping[str, NDArray[np.int64]], room: int) -> None:
        self._prefill, self._step, self._inputs, self._room = prefill, step, inputs, room
        names = [entry.name for entry in step.get_inputs()]
        self._names = [name for name in names if name.startswith(("past", "memory"))]
        self._is_in_place = "filled" in names
        self._binding, self._filled = step.io_binding(), 0
        self._cache: list[Any] = []

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits of the token after these, (n, vocabulary).

        Args:
            ids: Tokens (n, tokens): of prompts at first, then one of each text.
        """
        inputs = {"ids": ids, **self._inputs}
        if not self._cache:
            logits, *self._cache = self._prefill.run(None, inputs)
            self._filled = ids.shape[1]
            if self._is_in_place:
                self._cache = [self._bind(*entry) for entry in zip(self._names, self._cache, strict=True)]
                self._binding.bind_output("logits")
            return np.asarray(logits)
        if not self._is_in_place:
            logits, *cache = self._step.run(None, inputs | dict(zip(self._names, self._cache, strict=True)))
            self._cache[: len(cache)] = cache  # the keys and values of the source stay
            return np.asarray(logits)
        for name, array in {**inputs, "filled": np.array([self._filled])}.items():
            self._binding.bind_cpu_input(name, array)
        self._step.run_with_iobinding(self._binding)
        self._filled += 1
        return np.asarray(self._binding.get_outputs()[-1].numpy())

    def _bind(self, name: str, states: NDArray[Any]) -> Any:
        """Memory for keys or values of all tokens, as input and output of steps."""
        array = np.zeros((*states.shape[:2], self._room, states.shape[3]), states.dtype)
        array[:, :, : states.shape[2]] = states
        memory = onnxruntime.OrtValue.ortvalue_from_numpy(array)
        self._binding.bind_ortvalue_input(name, memory)
        self._binding.bind_ortvalue_output(name.replace("past", "present"), memory)
        return memory
