"""Decoders in each precision: prompts and steps give what the whole forward gives, and memory is what the models take."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from hardware_profiles.base import WEIGHT_PRECISIONS
from hardware_profiles.quantize import convert_weights
from hardware_profiles.runtime import run_model
from nas.jobs.evaluation.served_memory import ServedMemory
from nas.jobs.evaluation.serving_inputs import serving_inputs
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.decoder_serving import (
    FILLED,
    IDS,
    PADDING,
    cache_names,
    lower_prefill,
    lower_step,
    lower_step_in_place,
)
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.sharing.base import Supernet
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import GPT2, LLAMA, ORDERED, texts
from tests.supernets.families.decoder.test_decoder_serving import of_eight

TOLERANCE = {"fp32": 1e-4, "int8": 0.02, "int4": 0.02}
"""Of the logits' deviation. Activations are rounded to 8 bits: a difference in the last bit of a sum may move one by a step."""
STEPS = 3


@pytest.fixture(scope="module", params=[LLAMA, GPT2, ORDERED], ids=["llama", "gpt2", "ordered"])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(of_eight(request.param)))


def extracted(supernet: Supernet) -> Decoder:
    network = supernet.extract(supernet.space.largest)
    assert isinstance(network, Decoder)
    return network


@pytest.mark.parametrize("lengths", [(5,), (2, 5, 1)])
@pytest.mark.parametrize("precision", WEIGHT_PRECISIONS)
def test_steps_equal_the_whole_forward(supernet: Supernet, precision: str, lengths: tuple[int, ...]) -> None:
    network, longest, n = extracted(supernet), max(lengths), len(lengths)
    ids = texts(n, longest + STEPS).numpy()
    forward = convert_weights(onnx_model(network, torch.from_numpy(ids)), precision)
    prefill, step, in_place = (
        convert_weights(lower(network), precision) for lower in (lower_prefill, lower_step, lower_step_in_place)
    )
    exact = run_model(onnx_model(network, torch.from_numpy(ids)), {INPUT: ids})[0]
    padding = np.array([longest - k for k in lengths])
    prompts = np.stack(
        [np.concatenate([np.full(longest - k, 7), row[:k]]) for k, row in zip(lengths, ids, strict=True)]
    )
    found, *cache = run_model(prefill, {IDS: prompts, PADDING: padding})
    room = [np.pad(own, ((0, 0), (0, 0), (0, STEPS), (0, 0))) for own in cache]
    names, worst = cache_names(len(cache) // 2, "past"), 0.0
    for taken in range(STEPS + 1):
        whole: NDArray[np.float32] = np.stack(
            [run_model(forward, {INPUT: row[None, : k + taken]})[0][0, -1] for k, row in zip(lengths, ids, strict=True)]
        )
        worst = max(worst, float(np.abs(found - whole).max() / whole.std()))
        if taken < STEPS:
            new = np.stack([row[k + taken] for k, row in zip(lengths, ids, strict=True)])[:, None]
            given = {IDS: new, PADDING: padding}
            found, *cache = run_model(step, given | dict(zip(names, cache, strict=True)))
            given[FILLED] = np.array([longest + taken])
            other, *room = run_model(in_place, given | dict(zip(names, room, strict=True)))
            worst = max(worst, float(np.abs(found - other).max() / whole.std()))
    assert worst <= TOLERANCE[precision]
    if precision != "fp32":  # otherwise nothing was quantized
        lowered = run_model(forward, {INPUT: ids})[0]
        assert np.abs(lowered - exact).max() > 0.001 * exact.std()


@pytest.mark.parametrize("precision", WEIGHT_PRECISIONS)
def test_the_memory_is_that_of_the_models(supernet: Supernet, precision: str) -> None:
    batch, context = 3, 7
    memory = ServedMemory(supernet, context, batch)
    for architecture in invariants.architectures(supernet, 1):
        network = supernet.extract(architecture)
        assert isinstance(network, Decoder)
        for lower in (lower_prefill, lower_step, lower_step_in_place):
            model = convert_weights(lower(network), precision)
            tensors = onnx.load_from_string(model).graph.initializer
            # Numbers of shapes and positions, and single factors, are no weights.
            kept = [own for own in tensors if own.data_type != onnx.TensorProto.INT64 and not own.name.startswith("/")]
            mib = memory.mib("model_mib", [architecture], [precision])[0]
            assert mib * 2**20 == sum(len(own.raw_data) for own in kept)
        inputs = serving_inputs(lower_step(network), texts(batch).numpy(), context_tokens=context)
        cache = sum(own.nbytes for name, own in inputs.items() if name.startswith("past."))
        assert memory.mib("kv_cache_mib", [architecture], [precision])[0] * 2**20 == cache


def test_the_memory_of_many_networks_is_computed_at_once(supernet: Supernet) -> None:
    memory, networks = ServedMemory(supernet, 5, 1), invariants.architectures(supernet, 4)
    precisions = [WEIGHT_PRECISIONS[i % 3] for i in range(len(networks))]
    for metric in ("model_mib", "kv_cache_mib"):
        one_by_one = [memory.mib(metric, [a], [p])[0] for a, p in zip(networks, precisions, strict=True)]
        np.testing.assert_array_equal(memory.mib(metric, networks, precisions), one_by_one)
