"""Language modelling: the next token of each of a text's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from supernets.data import DataSet, Part
from supernets.data.labelled_examples import wrong_kind
from supernets.data.multiple_choice import NO_QUESTION
from supernets.errors import ExportError
from supernets.experts.routing_metrics import (
    ROUTING_METRICS,
    ExpertCache,
    mean_macs,
    observed_routings,
    routing_metric,
)
from supernets.networks.language_models import ServedNetwork, scored
from supernets.tasks.base import Metric, Score, Task
from supernets.tasks.divergence import Divergence, divergence

_NO_LABEL = -100
_NORMALISED = "normalised_choice_accuracy"
_CHOICES = ("choice_accuracy", _NORMALISED)
_MACS = "macs_mean"
_MAX_LOGITS = 2**23
"""Maximum number of logits that are computed at once for a score, if one example has not more: 32 MiB, four times at once."""
_MAX_ROUTED = 2**14
"""Tokens whose routing is observed, of the first texts of a part."""


class LanguageModelling(Task):
    """Cross-entropy of the next token, and the metrics ``perplexity``, ``bits_per_byte`` and accuracies on questions.

    Of pairs, texts are the targets: their tokens before are given, too (teacher forcing).

    Outputs are logits (n, tokens, vocabulary), and for scores the losses of tokens (n, tokens - 1). Labels are those of
    `supernets.data.document_blocks`. The perplexity is that of all tokens together; bits per byte, the same losses over the
    bytes of text, compare networks of different tokenizers. Both are functions of a ratio of sums over documents; their
    standard errors are of the documents' influence functions, exact to first order in one over the number of documents.

    ``choice_accuracy`` is the share of multiple-choice questions whose right option is more likely after the context than every
    other, and ``normalised_choice_accuracy`` that by likelihood per byte of the option, which does not prefer short ones.

    The others are those of `supernets.experts.routing_metrics`, of routings in single precision; ``macs_mean`` is the mean
    number of multiply-accumulates of a block.

    Args:
        scored_together: Number of examples that a score is computed for at once.
        cache: Size of the simulated cache of experts, for these metrics.
    """

    name = "language-modelling"
    metrics = (
        Metric("perplexity", maximize=False),
        Metric("bits_per_byte", "bits", maximize=False),
        *(Metric(name, "share") for name in _CHOICES),
        Metric("cache_hit_rate", "share"),
        Metric("expert_loads_per_token", maximize=False),
        Metric("segment_cache_hit_rate", "share"),
        Metric("segment_routing_f1", "share"),
        Metric("active_experts_mean", maximize=False),
        Metric(_MACS, "MACs", maximize=False),
    )
    of_network = frozenset({*ROUTING_METRICS, _MACS})
    targets = "text"
    weights_alone = True
    verbs = ("predicts", "predicted")

    def __init__(self, scored_together: int = 100, *, cache: ExpertCache | None = None) -> None:
        self.scored_together, self.cache = scored_together, cache or ExpertCache(1)

    def for_data(self, data: DataSet) -> Self:
        format = data.blocks
        return type(self)(max(1, min(100, _MAX_LOGITS // (format.block * format.vocabulary))), cache=self.cache)

    def n_outputs(self, data: DataSet) -> int:
        return data.blocks.vocabulary

    def examples(self, metric: str, part: Part) -> Part:
        if metric not in _CHOICES:
            return part
        if part.questions is None:
            raise wrong_kind(
                f"{metric} is scored on multiple-choice questions, and the data have none; add data.choices"
            )
        return part.questions

    def scored(self, network: nn.Module) -> nn.Module:
        return scored(network).train(network.training)

    def served(self, network: nn.Module) -> Mapping[str, bytes]:
        if not isinstance(network, ServedNetwork):
            raise ExportError(
                f"{type(network).__name__} is no network of the families decoder and encoder-decoder, which are served with a "
                "cache"
            )
        return network.served_models()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        has_label = targets[..., 1] >= 0
        if outputs.ndim > 2:  # logits
            # The last token has no label. A slice of the logits without it would copy them, and their gradient, too.
            ids = functional.pad(targets[..., 0].long(), (0, 1), value=_NO_LABEL)
            losses = functional.cross_entropy(
                outputs.flatten(0, 1), ids.flatten(), ignore_index=_NO_LABEL, reduction="none"
            )
            outputs = losses.view(ids.shape)[:, :-1]
        return (outputs * has_label).sum(1) / has_label.sum(1).clamp(min=1)

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        return _divergence(divergence, outputs.flatten(0, 1), teacher.flatten(0, 1))

    def distilled(self, targets: Tensor) -> Tensor:
        return functional.pad(targets[..., 1] >= 0, (0, 1), value=False)  # the last token has no label

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        if metric in _CHOICES:
            right = answered_rightly(outputs, targets, per_byte=metric == _NORMALISED)
            return Score.of(float(right.mean()) if len(right) else math.nan, right)
        has_label = targets[..., 1] >= 0
        documents, inverse = np.unique(targets[..., 1][has_label], return_inverse=True)
        nats = np.bincount(inverse, outputs[has_label].astype(np.float64), minlength=len(documents))
        sizes = targets[..., 2][has_label] if metric == "bits_per_byte" else np.ones(len(inverse))
        units = np.bincount(inverse, sizes, minlength=len(documents))
        mean = float(nats.sum() / max(units.sum(), 1.0))
        value, slope = (
            (mean / math.log(2), 1 / math.log(2)) if metric == "bits_per_byte" else (math.exp(mean), math.exp(mean))
        )
        influence = slope * (nats - mean * units) / max(units.mean(), 1e-12)
        return Score.of(value, value + influence)

    def network_scores(self, metrics: Sequence[str], network: nn.Module, part: Part) -> Mapping[str, Score]:
        texts = part.inputs[: max(1, _MAX_ROUTED // part.inputs.shape[1])]
        layers = observed_routings(network, texts)
        values_by_metric = {
            name: mean_macs(network, texts, layers)
            if name == _MACS
            else routing_metric(name, layers, self.cache, texts=len(texts))
            for name in metrics
        }
        return {name: Score.of(float(by_text.mean()), by_text) for name, by_text in values_by_metric.items()}


def answered_rightly(outputs: NDArray[np.float32], targets: NDArray[Any], *, per_byte: bool) -> NDArray[np.bool_]:
    """A mask of the questions whose right option is the likeliest, (n_questions,), bool; a tie is no right answer.

    Questions of which an option is missing, as of the first examples of a part, do not count.

    Args:
        outputs: losses of tokens, (n, tokens - 1), in nats.
        targets: labels of `supernets.data.multiple_choice.choice_part`.
        per_byte: True to divide an option's log-likelihood by its bytes of text.
    """
    in_option = targets[..., 1] != NO_QUESTION
    likelihood = -(outputs * in_option).sum(axis=1, dtype=np.float64)
    if per_byte:
        likelihood /= targets[..., 2].sum(axis=1)
    n_options = targets[..., 3].max(axis=1) + targets[..., 3].min(axis=1)  # one of the two is 0
    numbers, question = np.unique(targets[..., 1].max(axis=1), return_inverse=True)
    best = np.full((2, len(numbers)), -np.inf)
    np.maximum.at(best, ((n_options > 0).astype(int), question), likelihood)
    n_present, n_expected = np.bincount(question), np.zeros(len(numbers))
    n_expected[question] = np.abs(n_options)
    return np.asarray((best[1] > best[0])[n_present == n_expected], dtype=np.bool_)


_divergence = divergence
