"""Candidates of a search: networks, each in one of the variants of its deployment (a precision in a runtime)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from nas.search.problem.objectives import ACCURACY, ONNX_RUNTIME, Fidelity, Objective, Request, Variant
from supernets.space import Architecture, Choice, SearchSpace

PRECISION, RUNTIME = "precision", "runtime"
"""The names of the genes of a variant."""
ORDER = ("int4", "int8", "fp16", "bf16", "fp32")
"""Precisions, smallest first, as the options of every choice."""
SCORES = "accuracy"
"""The name of the environment of all metrics of the task."""
_BYTES = {"int8": 1, "fp16": 2, "bf16": 2, "fp32": 4}


def environment_name(profile: str | None, runtime: str) -> str:
    """The name of the environment of what is measured on a profile, or scored (None), in a runtime."""
    name = SCORES if profile is None else f"profile {profile}"
    return name if runtime == ONNX_RUNTIME else f"{name} in {runtime}"


def exact_value(metric: str, value: float, precision: str, *, weights_alone: bool = False) -> float:
    """A computed metric in a precision, from its value in fp32: activations take the precision's bytes, unless it is that of
    the weights alone."""
    scaled = metric == "activation_bytes" and not weights_alone
    return value * _BYTES[precision] / _BYTES["fp32"] if scaled else value


@dataclass(frozen=True, slots=True)
class Variants:
    """The variants of a run: every precision in every runtime.

    A candidate is a network with one more gene, at the end, for the precision where there are several, and then one for the
    runtime where there are several. Measurements are kept by network and variant, so that runs with other variants can share
    them.

    Raises:
        ValueError: a precision is unknown, there is none of either, or one is duplicate.
    """

    precisions: tuple[str, ...] = ("fp32",)
    runtimes: tuple[str, ...] = (ONNX_RUNTIME,)

    def __post_init__(self) -> None:
        ordered = tuple(name for name in ORDER if name in self.precisions)
        if not ordered or len(ordered) != len(self.precisions):
            raise ValueError(f"expected some of {', '.join(ORDER)}, each once; got {list(self.precisions)}")
        if not self.runtimes or len(set(self.runtimes)) != len(self.runtimes):
            raise ValueError(f"expected one or more runtimes, each once; got {list(self.runtimes)}")
        object.__setattr__(self, "precisions", ordered)

    @property
    def all(self) -> list[Variant]:
        """Every variant, by precision, then by runtime."""
        return [Variant(*pair) for pair in product(self.precisions, self.runtimes)]

    @property
    def _choices(self) -> list[Choice]:
        """The choices beyond those of the network: of what has more than one option."""
        options_by_name = ((PRECISION, self.precisions), (RUNTIME, self.runtimes))
        return [Choice(name, options) for name, options in options_by_name if len(options) > 1]

    def space(self, networks: SearchSpace) -> SearchSpace:
        """The space of candidates over a space of networks."""
        return SearchSpace([*networks.choices, *choices]) if (choices := self._choices) else networks

    def split(self, candidate: Architecture) -> tuple[Architecture, Variant]:
        """The network of a candidate, and its variant."""
        genes = list(candidate.genes)
        runtime = self.runtimes[genes.pop() if len(self.runtimes) > 1 else 0]
        precision = self.precisions[genes.pop() if len(self.precisions) > 1 else 0]
        network = candidate if len(genes) == len(candidate.genes) else Architecture(tuple(genes))
        return network, Variant(precision, runtime)

    def request(self, candidate: Architecture, objective: Objective, fidelity: Fidelity = Fidelity.SEARCH) -> Request:
        """The request for this objective's value."""
        network, variant = self.split(candidate)
        return Request(network, objective.metric, objective.profile, fidelity, *variant)

    def test_request(self, candidate: Architecture, scored: Objective = ACCURACY) -> Request:
        """The request that yields a metric of the task on the test part."""
        return self.request(candidate, scored, Fidelity.TEST)

    def candidate(self, request: Request) -> Architecture:
        """The candidate of a request for one of these variants."""
        return self._candidate(request.architecture, Variant(request.precision, request.runtime))

    def candidates(self, networks: Iterable[Architecture]) -> list[Architecture]:
        """The candidates of networks, each in every variant."""
        return [self._candidate(network, variant) for network in networks for variant in self.all]

    def _candidate(self, network: Architecture, variant: Variant) -> Architecture:
        variant_genes = []
        if len(self.precisions) > 1:
            variant_genes.append(self.precisions.index(variant.precision))
        if len(self.runtimes) > 1:
            variant_genes.append(self.runtimes.index(variant.runtime))
        return Architecture((*network.genes, *variant_genes)) if variant_genes else network

    def __contains__(self, variant: Variant) -> bool:
        return variant.precision in self.precisions and variant.runtime in self.runtimes
