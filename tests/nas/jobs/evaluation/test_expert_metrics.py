"""The evaluator on language models of experts: what is in memory, and how often experts are loaded."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from hardware_profiles.base import WEIGHT_PRECISIONS
from hardware_profiles.quantize import convert_weights
from nas.jobs.evaluation.measuring_evaluator import MeasuringEvaluator
from nas.jobs.evaluation.scoring import InlineScoring
from nas.jobs.evaluation.served_memory import ServedMemory, expert_bytes
from nas.search.problem.objectives import Request, Status
from supernets.data import DataSet, head, load_data
from supernets.experts.routing_metrics import ROUTING_METRICS, ExpertCache
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.decoder_serving import lower_step
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.sharing.base import Supernet
from supernets.tasks import LanguageModelling
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.data.test_documents import BLOCK, OPTIONS, document


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n\n".join(map(document, range(60))), encoding="utf-8")
    return load_data("text", path=file, options=OPTIONS)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def supernet(data: DataSet, request: pytest.FixtureRequest) -> Supernet:
    spec = DecoderSpec(
        head_size=8, depth=(1, 2), width=(16, 32), heads=(1, 2), hidden=(32, 64), experts=(2, 4), active_experts=(1, 2),
        layout=request.param, routers="learned" if request.param == "llama" else "shared",
    )  # fmt: skip
    torch.manual_seed(0)
    return make_supernet(DecoderFamily(spec, vocabulary=data.blocks.vocabulary, positions=BLOCK, tokens=BLOCK))


def test_metrics_of_routings_are_scored_with_an_error_over_texts(supernet: Supernet, data: DataSet) -> None:
    task = LanguageModelling(cache=ExpertCache(experts=3)).for_data(data)
    scoring = InlineScoring(supernet, head(data.train, 20), data.validation, task)
    evaluator = MeasuringEvaluator(scoring, supernet.cost, {}, weights="w", data=data.validation.digest)
    requests = [Request(supernet.space.largest, name) for name in ("perplexity", *ROUTING_METRICS, "macs_mean")]
    found = {m.request.metric: m for m in evaluator.evaluate(requests)}
    assert all(m.status is Status.OK and m.error is not None for m in found.values())
    exact = {name: found.pop(name) for name in ("active_experts_mean", "macs_mean")}  # as there are no null experts
    assert [(m.value, m.error) for m in exact.values()] == [(2, 0), (supernet.cost(supernet.space.largest).macs, 0)]
    assert all(m.error for m in found.values())
    rate, loads = found["cache_hit_rate"], found["expert_loads_per_token"]
    # Two layers, of which each token asks two experts.
    assert loads.value == pytest.approx(2 * 2 * (1 - rate.value))
    assert 0 < rate.value < found["segment_cache_hit_rate"].value < 1
    (small,) = evaluator.evaluate([Request(supernet.space.smallest, "cache_hit_rate")])
    assert small.value == pytest.approx(1 - 2 / BLOCK, abs=1 / BLOCK), "both of its experts are in memory once asked"


@pytest.mark.parametrize("precision", WEIGHT_PRECISIONS)
def test_weights_in_memory_are_those_of_the_model_without_experts_that_are_not_held(
    supernet: Supernet, precision: str
) -> None:
    memory = ServedMemory(supernet, 7, 1)
    for architecture in invariants.architectures(supernet, 3):
        network = supernet.extract(architecture)
        assert isinstance(network, Decoder)
        tensors = onnx.load_from_string(convert_weights(lower_step(network), precision)).graph.initializer
        kept = [own for own in tensors if own.data_type != onnx.TensorProto.INT64 and not own.name.startswith("/")]
        whole = memory.mib("model_mib", [architecture], [precision])[0]
        assert whole * 2**20 == sum(len(own.raw_data) for own in kept)
        assert memory.mib("resident_mib", [architecture], [precision])[0] == whole


def test_a_cache_leaves_out_the_other_experts(supernet: Supernet) -> None:
    networks = [supernet.space.smallest, supernet.space.largest]
    each = [expert_bytes(supernet.family, network) for network in networks]
    assert [len(own) for own in each] == [1, 2]
    whole = ServedMemory(supernet, 7, 1).mib("model_mib", networks, ["fp32"] * 2)

    def left_out(cache: ExpertCache) -> list[float]:
        held = ServedMemory(supernet, 7, 1, cache).mib("resident_mib", networks, ["fp32"] * 2)
        return list((whole - held) * 2**20)

    # Of the layers' 2 and 4 experts, one is in memory, or three at most.
    assert left_out(ExpertCache(experts=1)) == pytest.approx([each[0][0], 3 * sum(each[1])])
    assert left_out(ExpertCache(experts=3)) == pytest.approx([0, sum(each[1])])
    assert left_out(ExpertCache(mib=1.5 * sum(each[1]) / 2**20)) == pytest.approx([0, 2.5 * sum(each[1])])
    np.testing.assert_allclose(left_out(ExpertCache(mib=1000)), 0, atol=1e-6)
