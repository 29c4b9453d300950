"""Language modelling: the next token of each of a text's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from supernets.data import DataSet
from supernets.divergence import Divergence, divergence
from supernets.errors import ExportError
from supernets.families.decoder.network import Decoder
from supernets.families.decoder.serving import ServedModels
from supernets.tasks.base import Metric, Score, Task
from supernets.tokens import token_losses

_NO_LABEL = -100
_MOST_LOGITS = 2**25
"""Computed at once for a score: 128 MiB."""


class TokenLosses(nn.Module):
    """The losses of the tokens of texts after the first, by a language model: ids (n, tokens) -> (n, tokens - 1), in nats."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor) -> Tensor:
        return token_losses(self.network(ids), ids)


class LanguageModelling(Task):
    """Cross-entropy of the next token, and the metrics ``perplexity`` and ``bits_per_byte``.

    Outputs are logits (n, tokens, vocabulary), and for scores the losses of tokens (n, tokens - 1). Labels are those of
    `supernets.data.text_blocks`. The perplexity is that of all tokens together; bits per byte, the same losses over the bytes
    of text, compare networks of different tokenizers. Both are functions of a ratio of sums over documents; their standard
    errors are of the documents' influence functions, exact to first order in one over the number of documents.
    """

    name = "language-modelling"
    metrics = (Metric("perplexity", maximize=False), Metric("bits_per_byte", "bits", maximize=False))
    targets = "text"
    weights_alone = True
    verbs = ("continues", "continued")

    def __init__(self, scored_together: int = 100) -> None:
        self.scored_together = scored_together

    def for_data(self, data: DataSet) -> Self:
        format = data.blocks
        return type(self)(max(1, min(100, _MOST_LOGITS // (format.block * format.vocabulary))))

    def n_outputs(self, data: DataSet) -> int:
        return data.blocks.vocabulary

    def scored(self, network: nn.Module) -> nn.Module:
        return TokenLosses(network).train(network.training)

    def served(self, network: nn.Module) -> Mapping[str, bytes]:
        if not isinstance(network, Decoder):
            raise ExportError(
                f"{type(network).__name__} is no network of the family decoder, which is served with a cache"
            )
        return ServedModels(network)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        there = targets[..., 1] >= 0
        if outputs.ndim > 2:  # logits
            # The last token has no label. A slice of the logits without it would copy them, and their gradient, too.
            ids = functional.pad(targets[..., 0], (0, 1), value=_NO_LABEL)
            losses = functional.cross_entropy(
                outputs.flatten(0, 1), ids.flatten(), ignore_index=_NO_LABEL, reduction="none"
            )
            outputs = losses.view(ids.shape)[:, :-1]
        return (outputs * there).sum(1) / there.sum(1).clamp(min=1)

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        return _divergence(divergence, outputs.flatten(0, 1), teacher.flatten(0, 1))

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        there = targets[..., 1] >= 0
        documents, inverse = np.unique(targets[..., 1][there], return_inverse=True)
        nats = np.bincount(inverse, outputs[there].astype(np.float64), minlength=len(documents))
        sizes = targets[..., 2][there] if metric == "bits_per_byte" else np.ones(len(inverse))
        units = np.bincount(inverse, sizes, minlength=len(documents))
        mean = float(nats.sum() / max(units.sum(), 1.0))
        value, slope = (
            (mean / math.log(2), 1 / math.log(2)) if metric == "bits_per_byte" else (math.exp(mean), math.exp(mean))
        )
        influence = slope * (nats - mean * units) / max(units.mean(), 1e-12)
        return Score.of(value, value + influence)


_divergence = divergence
