"""A space of 45 genes, and metrics that cost nothing: what remains is the time of the search, its store and its pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nas.search.problem.objectives import EXACT_METRICS, Measurement, Request, Status
from supernets.space import Architecture, Choice, SearchSpace

METRICS = ("accuracy", "latency_ms", "parameters", "macs")


def elastic_space() -> SearchSpace:
    """Five stages of two to four blocks with three kernels and three expansions, as in Once-for-all."""
    stages = range(5)
    choices = [Choice(f"depth_{s}", (2, 3, 4)) for s in stages]
    for gene, options in (("kernel", (3, 5, 7)), ("expand", (3, 4, 6))):
        for stage in stages:
            for block in range(4):
                needed = (f"depth_{stage}", block - 1) if block > 1 else None
                choices.append(Choice(f"{gene}_{stage}_{block}", options, needed))
    return SearchSpace(choices)


class InstantEvaluator:
    """Additive costs, and an accuracy that saturates, with a little noise."""

    def __init__(self, space: SearchSpace) -> None:
        rng = np.random.default_rng(0)
        self._weights = {metric: rng.uniform(0.5, 1.5, len(space)) for metric in METRICS}

    def value(self, architecture: Architecture, metric: str) -> float:
        """The value of a metric, in its unit."""
        levels = np.array(architecture.genes) + 1.0  # 0 for an inactive gene
        size = float((self._weights[metric] * levels).sum())
        if metric == "accuracy":
            return 0.7 + 0.25 * size / (size + 60) + 0.001 * float(np.sin(1000 * size))
        return 1.0 + size if metric == "latency_ms" else 1000.0 * round(size)

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """One measurement per request, in order."""
        for request in requests:
            value = self.value(request.architecture, request.metric)
            error = 0.0 if request.metric in EXACT_METRICS else 0.001
            yield Measurement(request, Status.OK, value, error, protocol="instant", environment={"cpu": "none"})

    def close(self) -> None:
        """Nothing to close."""
