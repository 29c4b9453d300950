"""The conditional graph of two networks, against running them one after the other; and graphs that are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from hardware_profiles.runtime import run_model
from nas.jobs.evaluation.parity import MAX_PARITY
from nas.jobs.evaluation.scoring import in_precision
from nas.results.analysis.cascade import confidence, thresholds
from nas.results.export.cascade_graph import PASSED_ON, cascade_graph, cascade_parity
from supernets.families.encoder.encoder_family import EncoderFamily
from supernets.families.encoder.encoder_spec import EncoderSpec
from supernets.networks.module_to_onnx import INPUT, OUTPUT, onnx_model
from supernets.training.checkpoint import make_supernet
from supernets.training.recalibration import recalibrate
from tests.conftest import Trained
from tests.errors import raises
from tests.supernets.families.encoder.test_encoder_family import sentences
from tests.supernets.invariants import randomised

Pair = tuple[bytes, bytes, list[NDArray[Any]]]


@pytest.fixture(scope="module")
def digits_pair(trained: Trained) -> Pair:
    """The smallest and the largest network of trained digits, in int8 and fp32, and 120 examples of a batch of 1."""
    images, supernet = trained.data.validation.inputs[:120], trained.supernet
    small, large = (
        onnx_model(recalibrate(supernet.extract(own), [trained.calibration]), images[:2])
        for own in (supernet.space.smallest, supernet.space.largest)
    )
    return in_precision(small, "int8", [trained.calibration]), large, list(images.numpy()[:, None])


@pytest.fixture(scope="module")
def sentences_pair() -> Pair:
    """Two encoders of sentences with random weights, and sentences of several lengths."""
    spec = EncoderSpec(head_size=4, depth=(1, 2), width=(12, 20), heads=(1, 3), hidden=(10, 28))
    family = EncoderFamily(spec, vocabulary=40, positions=12, padding=3, tokens=9, n_classes=5)
    supernet, ids = randomised(make_supernet(family)).eval(), sentences(60)
    small, large = (
        onnx_model(supernet.extract(own).eval(), ids[:2]) for own in (supernet.space.smallest, supernet.space.largest)
    )
    return small, large, [ids[i : i + 1, : 2 + i % 7].numpy() for i in range(len(ids))]


@pytest.fixture(params=["digits_pair", "sentences_pair"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    return found


def middle(pair: Pair) -> float:
    """The threshold that passes on about half of the examples."""
    found = thresholds(np.concatenate([confidence(run_model(pair[0], {INPUT: own})[0]) for own in pair[2]]))
    return found[len(found) // 2]


def test_the_graph_answers_as_the_two_networks_do(pair: Pair) -> None:
    small, large, inputs = pair
    threshold = middle(pair)
    graph = cascade_graph(small, large, threshold)
    onnx.checker.check_model(graph, full_check=True)
    assert 0 <= cascade_parity(graph, small, large, threshold, inputs, runtime="onnxruntime") <= MAX_PARITY
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_outputs()] == [OUTPUT, PASSED_ON]
    assert session.get_inputs()[0].shape[0] == 1
    flags = []
    for own in inputs:
        logits, passed_on = session.run(None, {INPUT: own})
        (expected,) = run_model(large if passed_on[0] else small, {INPUT: own})
        assert np.abs(logits - expected).max() <= 1e-4 * expected.std()
        flags.append(bool(passed_on[0]))
    assert 0.3 < np.mean(flags) < 0.7


def test_a_graph_of_another_threshold_or_network_is_found(digits_pair: Pair) -> None:
    small, large, inputs = digits_pair
    threshold = middle(digits_pair)

    def refused(graph: bytes, code: str, *, own: float = threshold) -> None:
        with raises(code):
            cascade_parity(graph, small, large, own, inputs, runtime="onnxruntime")

    refused(cascade_graph(small, large, threshold / 2), "export.outputs-differ")
    refused(cascade_graph(small, small, threshold), "export.outputs-differ")
    refused(cascade_graph(large, large, threshold), "export.outputs-differ")
    for useless in (0.0, 1.1):
        refused(cascade_graph(small, large, useless), "export.constant-outputs", own=useless)
