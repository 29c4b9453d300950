"""Features against costs and sums computed one candidate at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hardware_profiles.lookup_table import AffineFit, Entry, LookupTable
from nas.errors import EvaluationError
from nas.jobs.evaluation.features import ArchitectureFeatures, LatencyFeatures
from nas.search.problem.variants import Variants
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.sharing.base import Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.errors import raises

BOTH = Variants(("fp32", "int8"))


def supernet(preset: str = "digits", size: int = 8) -> Supernet:
    torch.manual_seed(0)
    family = MobileCNNFamily(MOBILE_CNN[preset], image_size=size, channels=1, n_classes=10)
    return make_supernet(family)


@pytest.fixture(scope="module")
def net() -> Supernet:
    return supernet()


@pytest.fixture(scope="module")
def candidates(net: Supernet) -> list[Architecture]:
    """Forty of both precisions."""
    rng, space = np.random.default_rng(0), BOTH.space(net.space)
    return [space.sample(rng) for _ in range(40)]


def table_of(net: Supernet, networks: list[Architecture], *names: str) -> LookupTable:
    """A table of made-up figures for every block of these networks."""
    rng, keys = np.random.default_rng(1), BlockKeys(net).of(networks)
    entries = {
        name: {key: Entry(float(rng.uniform(0.1, 1.0)), 0.0, 1) for key in np.unique(keys).tolist() if key}
        for name in names
    }
    fits = {name: AffineFit(1.0 + i, 0.5 * i, 30, 0.01) for i, name in enumerate(names)}
    return LookupTable({"name": "board"}, "p", {}, "s", 0.25, entries=entries, fits=fits, complete=True)


def test_costs_come_before_the_genes(net: Supernet, candidates: list[Architecture]) -> None:
    networks = [BOTH.split(candidate)[0] for candidate in candidates]
    features = ArchitectureFeatures(net, BOTH)
    rows, layout = features(candidates), features.layout
    layout.check(rows.shape[1])
    for row, network in zip(rows, networks, strict=True):
        cost = net.cost(network)
        np.testing.assert_array_equal(row[:3], [cost.macs, cost.parameters, cost.activation_bytes])
        blocks = dict(cost.blocks)
        macs = [blocks[name].macs if name in blocks else 0 for name in net.family.blocks]
        np.testing.assert_array_equal(row[3 : 3 + len(macs)], macs)
    genes = list(layout.encoding(rows.shape[1]))
    np.testing.assert_array_equal(rows[:, genes], BOTH.space(net.space).encode(candidates))
    # A gene's one-hot columns add up to one where it is active, and each gene has them all.
    for gene, choice in enumerate(BOTH.space(net.space).choices):
        columns = [i for i, group in enumerate(layout.groups) if group == gene]
        assert len(columns) == len(choice.options)
        np.testing.assert_array_equal(rows[:, columns].sum(axis=1), [c.genes[gene] >= 0 for c in candidates])
    assert ArchitectureFeatures(net)([]).shape == (0, rows.shape[1] - 3)  # without the gene of two precisions


def test_the_table_gives_each_candidate_the_sum_of_its_blocks(net: Supernet, candidates: list[Architecture]) -> None:
    table = table_of(net, [BOTH.split(candidate)[0] for candidate in candidates], "fp32", "int8")
    features = LatencyFeatures(net, table, BOTH)
    rows, layout = features(candidates), features.layout
    layout.check(rows.shape[1])
    assert layout.estimate is not None
    keys = BlockKeys(net)
    for row, candidate in zip(rows, candidates, strict=True):
        network, (precision, _) = BOTH.split(candidate)
        own = [table.entries[precision][key].net_ms if key else 0.0 for key in keys.of([network])[0].tolist()]
        fit = table.fits[precision]
        assert row[layout.estimate] == pytest.approx(fit.scale * sum(own) + fit.offset_ms, rel=1e-12)
        np.testing.assert_array_equal(row[layout.estimate + 1 : layout.estimate + 1 + len(own)], own)
    without = np.delete(rows, range(layout.estimate, layout.estimate + 1 + len(net.family.blocks)), axis=1)
    np.testing.assert_array_equal(without, ArchitectureFeatures(net, BOTH)(candidates))
    assert features([]).shape == (0, rows.shape[1])


def test_blocks_that_calibration_did_not_meet_are_estimated(net: Supernet) -> None:
    ends = [net.space.smallest, net.space.largest]
    features = LatencyFeatures(net, table := table_of(net, ends, "fp32"))
    rng = np.random.default_rng(2)
    networks = [net.space.sample(rng) for _ in range(10)]
    assert np.isfinite(features(networks)).all()
    keys = BlockKeys(net)
    lacking = {*keys.of(networks).ravel()} - {*keys.of(ends).ravel()} - {""}
    assert table.missing(keys.of(networks), "fp32") == lacking
    assert lacking


def test_tables_of_something_else_are_refused(net: Supernet) -> None:
    other = supernet("tiny", 28)
    with pytest.raises(EvaluationError, match=r"holds none of the .* it is of another space; calibrate with this job"):
        LatencyFeatures(net, table_of(other, [other.space.smallest, other.space.largest], "fp32"))
    with raises("lookup-table.precision-missing", "int8", "fp32"):
        LatencyFeatures(net, table_of(net, [net.space.smallest], "fp32"), BOTH)
