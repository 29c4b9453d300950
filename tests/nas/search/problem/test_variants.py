"""Precision and runtime as genes of what is searched, and as a part of what is stored."""

from __future__ import annotations

import numpy as np
import pytest

from nas.plugins.testing.search import space_of
from nas.search.problem.objectives import Fidelity, Objective, Request, Variant
from nas.search.problem.variants import Variants

NETWORKS = space_of(3)
LATENCY = Objective.parse("latency_ms", ["cpu"])


def test_one_precision_adds_no_gene() -> None:
    variants = Variants()
    assert variants.space(NETWORKS) is NETWORKS
    assert variants.split(NETWORKS.largest) == (NETWORKS.largest, Variant("fp32"))


@pytest.mark.parametrize("given", [("fp32", "int8"), ("int8", "fp32")])
def test_several_are_a_last_gene_from_small_to_large(given: tuple[str, ...]) -> None:
    variants = Variants(given)
    space = variants.space(NETWORKS)
    assert space.size == 2 * NETWORKS.size
    assert variants.split(space.smallest) == (NETWORKS.smallest, Variant("int8"))
    assert variants.split(space.largest) == (NETWORKS.largest, Variant("fp32"))
    assert space.values(space.smallest)["precision"] == "int8"


def test_requests_name_network_and_precision_and_lead_back() -> None:
    variants = Variants(("int8", "fp32"))
    space = variants.space(NETWORKS)
    rng = np.random.default_rng(0)
    for _ in range(20):
        candidate = space.sample(rng)
        request = variants.request(candidate, LATENCY, Fidelity.FINAL)
        NETWORKS.check(request.architecture)
        assert request.precision == space.values(candidate)["precision"]
        assert (request.metric, request.profile, request.fidelity) == ("latency_ms", "cpu", Fidelity.FINAL)
        assert variants.candidate(request) == candidate
        assert candidate in variants.candidates([request.architecture])
        test = variants.test_request(candidate)
        assert (test.architecture, test.precision) == (request.architecture, request.precision)
        assert (test.metric, test.fidelity, test.profile) == ("accuracy", Fidelity.TEST, None)


@pytest.mark.parametrize("names", [(), ("fp31",), ("fp32", "fp32")])
def test_what_is_no_list_of_precisions_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected some of"):
        Variants(names)


def test_runtimes_are_a_gene_after_the_precision() -> None:
    variants = Variants(("fp32", "int8"), ("onnxruntime", "openvino"))
    space = variants.space(NETWORKS)
    assert space.size == 4 * NETWORKS.size
    assert [choice.name for choice in space.choices[-2:]] == ["precision", "runtime"]
    assert variants.split(space.largest) == (NETWORKS.largest, Variant("fp32", "openvino"))
    rng = np.random.default_rng(0)
    for _ in range(20):
        candidate = space.sample(rng)
        request = variants.request(candidate, LATENCY)
        assert request.variant == variants.split(candidate)[1]
        assert request.runtime == space.values(candidate)["runtime"]
        assert variants.candidate(request) == candidate
    alone = Variants(("fp32",), ("openvino", "onnxruntime"))
    assert alone.split(alone.space(NETWORKS).smallest) == (NETWORKS.smallest, Variant("fp32", "openvino"))
    assert Variants(("fp32",), ("openvino",)).space(NETWORKS) is NETWORKS
    assert [str(variant) for variant in variants.all] == ["int8", "int8@openvino", "fp32", "fp32@openvino"]


def test_a_variant_is_read_back_from_its_text() -> None:
    for variant in (Variant(), Variant("int8"), Variant("int8", "openvino"), Variant("fp32", "my.module:Runtime")):
        assert Variant.parse(str(variant)) == variant
    assert Variant() in Variants()
    assert Variant("int8") not in Variants()
    assert Variant("fp32", "openvino") not in Variants()
    assert Request(NETWORKS.largest, "macs").variant == Variant("fp32", "onnxruntime")


@pytest.mark.parametrize("names", [(), ("openvino", "openvino")])
def test_what_is_no_list_of_runtimes_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected one or more runtimes"):
        Variants(("fp32",), names)
