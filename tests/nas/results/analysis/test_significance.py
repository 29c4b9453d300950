"""Two networks differ by more than two paired standard errors, or by more than the noise floor."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.engine.store.memory import MemoryStore
from nas.results.analysis.significance import compare, paired_standard_error
from nas.search.problem.objectives import Fidelity, Measurement, Objective, Status
from nas.search.problem.variants import Variants
from supernets.space import Architecture
from tests.contracts.run_facts import search_facts
from tests.errors import raises

A, B = Architecture((0,)), Architecture((1,))
ACCURACY = Objective.parse("accuracy", [])
LATENCY = Objective.parse("latency_ms@p", ["p"])
MACS = Objective.parse("macs", [])


def searched() -> MemoryStore:
    store = MemoryStore()
    store.describe(search_facts())
    return store


def add_accuracy(
    store: MemoryStore, architecture: Architecture, right: list[int], *, data: str = "validation", keep: bool = True
) -> None:
    share = float(np.mean(right))
    error = math.sqrt(share * (1 - share) / len(right))
    samples = np.packbits(np.array(right, dtype=np.uint8)).tobytes() if keep else None
    detail = {"images": len(right)}
    request = Variants().request(architecture, ACCURACY)
    store.add(Measurement(request, Status.OK, share, error, data=data, detail=detail, samples=samples))


def add(store: MemoryStore, architecture: Architecture, objective: Objective, value: float, error: float) -> None:
    store.add(Measurement(Variants().request(architecture, objective), Status.OK, value, error))


def test_paired_standard_error_is_that_of_the_mean_difference() -> None:
    first, second = np.array([1, 1, 0, 1, 1], np.uint8), np.array([1, 0, 1, 0, 1], np.uint8)
    differences = [0, 1, -1, 1, 0]
    mean = sum(differences) / 5
    variance = sum((d - mean) ** 2 for d in differences) / 4
    assert paired_standard_error(first, second) == pytest.approx(math.sqrt(variance / 5), abs=1e-12)
    assert paired_standard_error(first[:1], second[:1]) == math.inf


def test_pairing_tells_apart_what_independent_errors_cannot() -> None:
    better = [1] * 90 + [0] * 10
    worse = [1] * 84 + [0] * 16  # wrong on the same images and six more
    store = searched()
    add_accuracy(store, A, better)
    add_accuracy(store, B, worse)
    found = compare(store, A, B, ACCURACY)
    assert found.method == "paired"
    assert found.difference == pytest.approx(0.06)
    assert found.distinguishable
    assert compare(store, A, B, ACCURACY).distinguishable

    unpaired = searched()
    add_accuracy(unpaired, A, better, keep=False)
    add_accuracy(unpaired, B, worse, keep=False)
    found = compare(unpaired, A, B, ACCURACY)
    assert found.method == "independent"
    assert found.threshold == pytest.approx(2 * math.sqrt(0.9 * 0.1 / 100 + 0.84 * 0.16 / 100))
    assert not found.distinguishable


def test_answers_to_other_images_are_not_paired() -> None:
    store = searched()
    add_accuracy(store, A, [1] * 90 + [0] * 10, data="one")
    add_accuracy(store, B, [1] * 84 + [0] * 16, data="another")
    assert compare(store, A, B, ACCURACY).method == "independent"


def test_a_network_is_not_distinguishable_from_itself() -> None:
    store = searched()
    add_accuracy(store, A, [1, 0, 1])
    add(store, A, LATENCY, 1.0, 0.0)
    assert not compare(store, A, A, ACCURACY).distinguishable
    assert not compare(store, A, A, LATENCY).distinguishable


def test_bits_beyond_the_images_do_not_count() -> None:
    store = searched()
    add_accuracy(store, A, [1, 1, 1])
    add_accuracy(store, B, [0, 0, 0])
    found = compare(store, A, B, ACCURACY)  # all three images differ: no spread at all
    assert (found.difference, found.threshold) == (1.0, 0.0)


@pytest.mark.parametrize(("second", "differs"), [(1.02, False), (1.03, True), (0.97, True)])
def test_latency_differs_beyond_the_noise_floor(second: float, differs: bool) -> None:
    store = searched()
    add(store, A, LATENCY, 1.0, 0.02)
    add(store, B, LATENCY, second, 0.021)
    assert compare(store, A, B, LATENCY).distinguishable is differs


def test_final_latencies_decide_where_both_were_measured_again() -> None:
    store = searched()
    add(store, A, LATENCY, 1.0, 0.1)
    add(store, B, LATENCY, 1.05, 0.1)
    store.add(Measurement(Variants().request(A, LATENCY, Fidelity.FINAL), Status.OK, 1.0, 0.01))
    assert compare(store, A, B, LATENCY).threshold == 0.1
    store.add(Measurement(Variants().request(B, LATENCY, Fidelity.FINAL), Status.OK, 1.05, 0.01))
    assert compare(store, A, B, LATENCY).threshold == 0.01
    assert compare(store, A, B, LATENCY).distinguishable


def test_exact_figures_differ_when_they_are_not_equal() -> None:
    store = searched()
    add(store, A, MACS, 1000.0, 0.0)
    add(store, B, MACS, 1001.0, 0.0)
    assert compare(store, A, B, MACS).distinguishable
    assert not compare(store, A, A, MACS).distinguishable


def test_what_was_never_measured_cannot_be_compared() -> None:
    store = searched()
    add(store, A, LATENCY, 1.0, 0.1)
    with raises("network.not-measured", A.key, B.key):
        compare(store, A, B, LATENCY)


def test_damaged_answers_are_an_error() -> None:
    store = searched()
    add_accuracy(store, A, [1, 0, 1])
    bad = Measurement(
        Variants().request(B, ACCURACY),
        Status.OK,
        0.5,
        0.1,
        data="validation",
        detail={"images": 90},
        samples=b"\x01",
    )
    store.add(bad)
    with raises("store.damaged", B.key, "1 bytes", "90 images"):
        compare(store, A, B, ACCURACY)
