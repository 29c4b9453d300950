"""Candidates of a search: networks, each in one of the precisions of its deployment."""

from __future__ import annotations

from dataclasses import dataclass

from nas.problem.objectives import ACCURACY, Fidelity, Objective, Request
from supernets.space import Architecture, Choice, SearchSpace

PRECISION = "precision"
"""The name of the gene of the precision."""
ORDER = ("int8", "fp16", "bf16", "fp32")
"""Smallest first, as the options of every choice."""
_BYTES = {"int8": 1, "fp16": 2, "bf16": 2, "fp32": 4}


def exact_value(metric: str, value: float, precision: str) -> float:
    """A computed metric in a precision, from its value in fp32: activations take the precision's bytes."""
    return value * _BYTES[precision] / _BYTES["fp32"] if metric == "activation_bytes" else value


@dataclass(frozen=True, slots=True)
class Precisions:
    """The precisions of a run. With one, a candidate is a network; with several, it has one gene more, the last.

    Measurements are kept by network and precision, so that runs of different precisions can share them.

    Raises:
        ValueError: a precision is unknown or duplicate, or there is none.
    """

    names: tuple[str, ...] = ("fp32",)

    def __post_init__(self) -> None:
        ordered = tuple(name for name in ORDER if name in self.names)
        if not ordered or len(ordered) != len(self.names):
            raise ValueError(f"expected some of {', '.join(ORDER)}, each once; got {list(self.names)}")
        object.__setattr__(self, "names", ordered)

    def space(self, networks: SearchSpace) -> SearchSpace:
        """The space of candidates over a space of networks."""
        if len(self.names) == 1:
            return networks
        return SearchSpace([*networks.choices, Choice(PRECISION, self.names)])

    def split(self, candidate: Architecture) -> tuple[Architecture, str]:
        """The network of a candidate, and its precision."""
        if len(self.names) == 1:
            return candidate, self.names[0]
        return Architecture(candidate.genes[:-1]), self.names[candidate.genes[-1]]

    def request(self, candidate: Architecture, objective: Objective, fidelity: Fidelity = Fidelity.SEARCH) -> Request:
        """The request for this objective's value."""
        network, precision = self.split(candidate)
        return Request(network, objective.metric, objective.profile, fidelity, precision)

    def test_request(self, candidate: Architecture, scored: Objective = ACCURACY) -> Request:
        """The request that yields a metric of the task on the test part."""
        return self.request(candidate, scored, Fidelity.TEST)

    def candidate(self, request: Request) -> Architecture:
        """The candidate of a request in one of these precisions."""
        if len(self.names) == 1:
            return request.architecture
        return Architecture((*request.architecture.genes, self.names.index(request.precision)))
