"""Inputs of the models by which a language model is served, for timing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from supernets.families.decoder.decoder_serving import FILLED, IDS, PADDING
from supernets.families.encoder_decoder.encoder_decoder_serving import SOURCE
from supernets.families.encoder_decoder.encoder_decoder_spec import MAX_ATTENDED


def serving_inputs(model: bytes, texts: NDArray[Any], *, context_tokens: int) -> dict[str, NDArray[Any]]:
    """Inputs of a model of `supernets.families.decoder.decoder_serving`: whole texts as prompts; or their last token, after a
    cache of random keys and values. Or of `supernets.families.encoder_decoder.encoder_decoder_serving`: texts as sources.

    Args:
        texts: (batch, tokens), int64.
        context_tokens: Number of tokens of each text in the cache.
    """
    rng, inputs = np.random.default_rng(0), dict[str, NDArray[Any]]()
    sizes = {"batch": len(texts), "past": context_tokens, "room": context_tokens + 1, "tokens": texts.shape[1]}
    sizes |= {f"tokens{n}": n * texts.shape[1] for n in range(2, MAX_ATTENDED + 1)}
    for value in onnx.load_model_from_string(model).graph.input:
        shape = [sizes[dim.dim_param] if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if value.name == IDS:
            inputs[IDS] = np.ascontiguousarray(texts[:, -shape[1] :])
        elif value.name == PADDING:
            inputs[PADDING] = np.zeros(shape, np.int64)
        elif value.name == SOURCE:
            inputs[SOURCE] = np.ascontiguousarray(texts)
        elif value.name == FILLED:
            inputs[FILLED] = np.array([context_tokens])
        else:
            inputs[value.name] = rng.standard_normal(shape, np.float32)
    return inputs
