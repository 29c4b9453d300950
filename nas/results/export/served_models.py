"""The models by which an exported language model is served: compared with torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from nas.errors import ExportFailedError
from nas.results.export.decoding import Decoding
from nas.results.export.model_checks import MAX_PARITY

MAX_TOKENS = 64
"""Generated for the comparison."""


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
    decoding, worst = Decoding(models, room=positions, source=texts[:, :source] if source else None), 0.0
    for step in range(min(MAX_TOKENS, positions - (ids.shape[1] - source) + 1)):
        logits = decoding.read((ids[:, source:] if step == 0 else ids[:, -1:]).numpy())
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
