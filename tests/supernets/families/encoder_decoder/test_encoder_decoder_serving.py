"""The two graphs of a served encoder-decoder: steps with a cache give what the whole forward gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
import pytest
import torch
from torch import Tensor

from hardware_profiles.runtime import run_model
from supernets.families.decoder.decoder_serving import IDS, PORTABLE_STEP, PREFILL, STEP, cache_names, is_in_place_step
from supernets.families.encoder_decoder.encoder_decoder_network import EncoderDecoder
from supernets.families.encoder_decoder.encoder_decoder_serving import MEMORY, SOURCE, ServedPairs, served_pairs
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families.encoder_decoder.test_encoder_decoder_family import FAMILY, TARGET, pairs
from tests.supernets.families.encoder_decoder.test_encoder_decoder_family import SOURCE as LONGEST

Call = Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]


def reading(attended: int) -> EncoderDecoder:
    """The largest network, whose layers read so many of the encoder's last, but for the first, which reads all."""
    supernet, space = invariants.randomised(make_supernet(FAMILY)), FAMILY.space
    genes = [
        own.options.index(attended) if own.name == "decoder.layer1.attended" else len(own.options) - 1
        for own in space.choices
    ]
    network = supernet.extract(Architecture(tuple(genes)))
    assert isinstance(network, EncoderDecoder)
    return network


def by_torch(network: EncoderDecoder) -> Call:
    served = ServedPairs(network)
    return lambda ids, source, cache: list(served(ids, source, *cache))


def by_runtime(network: EncoderDecoder) -> Call:
    models = served_pairs(network)
    assert list(models) == [PREFILL, STEP, PORTABLE_STEP]
    assert not is_in_place_step(models[STEP])
    for name in (PREFILL, STEP):
        onnx.checker.check_model(models[name], full_check=True)
    n = len(network.decoder.layers)
    names = [*cache_names(n, "past"), *cache_names(n, MEMORY)]

    def call(ids: Tensor, source: Tensor, cache: list[Tensor]) -> list[Tensor]:
        given: Mapping[str, Tensor] = {IDS: ids, SOURCE: source, **dict(zip(names, cache, strict=bool(cache)))}
        found = run_model(models[STEP if cache else PREFILL], {name: own.numpy() for name, own in given.items()})
        return [torch.from_numpy(own) for own in found]

    return call


@pytest.mark.parametrize("attended", [1, 2, 3])
@pytest.mark.parametrize("made", [by_torch, by_runtime])
@torch.no_grad()
def test_steps_equal_the_whole_forward(attended: int, made: Callable[[EncoderDecoder], Call]) -> None:
    network, ids = reading(attended), pairs(4)  # with sources of 1 to 6 tokens
    whole, call, source = network(ids), made(network), ids[:, :LONGEST]
    n, cache = 2 * len(network.decoder.layers), list[Tensor]()
    for step in range(TARGET):
        logits, *found = call(ids[:, LONGEST + step, None], source, cache)
        assert logits.shape == whole[:, step].shape
        assert (logits - whole[:, step]).abs().max() <= invariants.RELATIVE_ONNX * whole.std()
        assert [own.shape[2] for own in found[:n]] == [step + 1] * n
        cache = found if step == 0 else [*found, *cache[n:]]
    assert [own.shape[2] for own in cache[n:]] == [3 * LONGEST] * 2 + [attended * LONGEST] * 2
