"""What a network gained is judged in the precision that it is measured in."""

from __future__ import annotations

import numpy as np
import pytest

from nas.engine.store.memory import MemoryStore
from nas.results.analysis.finetuning_improvement import FinetunedNetwork, improvement_between, network_of
from nas.search.problem.objectives import Fidelity, Measurement, Request, Status, Variant
from nas.search.problem.variants import Variants
from supernets.space import Architecture, Choice, SearchSpace
from tests.contracts.run_facts import search_facts

NETWORK, SINGLE = Architecture((2, 0, 1)), Architecture((0, 0, 0))
ONE_NETWORK = SearchSpace([Choice(name, (1,)) for name in "abc"])
N = 1000


def scored(network: Architecture, precision: str, right: int, fidelity: Fidelity = Fidelity.SEARCH) -> MemoryStore:
    """A store with one accuracy: the first `right` of the images are answered rightly."""
    store = MemoryStore()
    bits = np.packbits(np.arange(N) < right).tobytes()
    request = Request(network, "accuracy", None, fidelity, precision)
    store.add(Measurement(request, Status.OK, right / N, 0.01, samples=bits, detail={"images": N}))
    return store


@pytest.mark.parametrize(
    ("precision", "best_epoch", "after", "improved", "better_in_fp32", "verdict"),
    [
        ("fp32", 3, 900, True, True, "better"),
        ("fp32", 3, 802, True, True, "better, within the error: a tie"),
        ("fp32", 3, 800, False, False, "no better in fp32"),
        ("int8", 3, 900, True, True, "better"),
        ("int8", 3, 780, False, True, "no better in int8, though in fp32"),
        ("int8", 0, 800, False, False, "no epoch made it better"),
        ("int8", None, 780, False, None, "no better in int8"),
        ("int8", None, 900, True, None, "better"),
    ],
)
def test_an_improvement_is_of_the_measured_precision(
    precision: str, best_epoch: int | None, after: int, improved: bool, better_in_fp32: bool | None, verdict: str
) -> None:
    store = scored(SINGLE, precision, after)
    store.describe(search_facts(ONE_NETWORK, epochs=5, variants=Variants((precision,))), best_epoch=best_epoch)
    improvement = improvement_between(
        FinetunedNetwork("small-1", NETWORK, Variant(precision), "2-0-1"), store, scored(NETWORK, precision, 800)
    )
    found = improvement.to_json()
    assert (improvement.improved, found["improved"]) == (improved, improved)
    assert (found["better_in_fp32"], found["verdict"]) == (better_in_fp32, verdict)
    assert found["validation"]["gain"] == pytest.approx(after / N - 0.8)
    assert "test" not in found


def test_without_a_figure_of_before_nothing_is_said_to_be_better() -> None:
    store = scored(SINGLE, "int8", 900)
    store.describe(search_facts(ONE_NETWORK, epochs=5, variants=Variants(("int8",))), best_epoch=2)
    improvement = improvement_between(
        FinetunedNetwork("small-1", NETWORK, Variant("int8"), None), store, scored(NETWORK, "fp32", 800)
    )
    assert not improvement.improved
    assert improvement.verdict == "not compared: its accuracy before was not measured in int8"


def test_the_key_is_the_one_that_the_other_run_chooses_it_by() -> None:
    store = MemoryStore()
    store.describe(search_facts(variants=Variants(("fp32", "int8"))))
    assert network_of("small-1", store, NETWORK, Variant("fp32")).key == "2-0-1-1"  # int8 is the first of them
    assert network_of("small-1", store, NETWORK, Variant("int8")).key == "2-0-1-0"
    assert network_of("small-1", store, NETWORK, Variant("bf16")).key is None
