"""Precision as a gene of what is searched, and as a part of what is stored."""

from __future__ import annotations

import numpy as np
import pytest

from nas.problem.objectives import Fidelity, Objective
from nas.problem.precision import Precisions
from nas.testing.search import space_of

NETWORKS = space_of(3)
LATENCY = Objective.parse("latency_ms", ["cpu"])


def test_one_precision_adds_no_gene() -> None:
    precisions = Precisions()
    assert precisions.space(NETWORKS) is NETWORKS
    assert precisions.split(NETWORKS.largest) == (NETWORKS.largest, "fp32")


@pytest.mark.parametrize("given", [("fp32", "int8"), ("int8", "fp32")])
def test_several_are_a_last_gene_from_small_to_large(given: tuple[str, ...]) -> None:
    precisions = Precisions(given)
    space = precisions.space(NETWORKS)
    assert space.size == 2 * NETWORKS.size
    assert precisions.split(space.smallest) == (NETWORKS.smallest, "int8")
    assert precisions.split(space.largest) == (NETWORKS.largest, "fp32")
    assert space.values(space.smallest)["precision"] == "int8"


def test_requests_name_network_and_precision_and_lead_back() -> None:
    precisions = Precisions(("int8", "fp32"))
    space = precisions.space(NETWORKS)
    rng = np.random.default_rng(0)
    for _ in range(20):
        candidate = space.sample(rng)
        request = precisions.request(candidate, LATENCY, Fidelity.FINAL)
        NETWORKS.check(request.architecture)
        assert request.precision == space.values(candidate)["precision"]
        assert (request.metric, request.profile, request.fidelity) == ("latency_ms", "cpu", Fidelity.FINAL)
        assert precisions.candidate(request) == candidate
        test = precisions.test_request(candidate)
        assert (test.architecture, test.precision) == (request.architecture, request.precision)
        assert (test.metric, test.fidelity, test.profile) == ("accuracy", Fidelity.TEST, None)


@pytest.mark.parametrize("names", [(), ("fp31",), ("fp32", "fp32")])
def test_what_is_no_list_of_precisions_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected some of"):
        Precisions(names)
