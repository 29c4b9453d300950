"""The evaluator on language models: what is timed for each metric, and what is computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import onnx
import pytest
import torch

from nas.jobs.evaluation.measuring_evaluator import MeasuringEvaluator, TimedProfile
from nas.jobs.evaluation.scoring import InlineScoring, ScoringTask
from nas.jobs.evaluation.served_memory import ServedMemory
from nas.search.problem.objectives import Measurement, Request, Status, Variant
from supernets.data import DataSet, head, load_data
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.decoder_serving import cache_shapes
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.sharing.base import Supernet
from supernets.tasks import LanguageModelling
from supernets.training.checkpoint import make_supernet
from tests.nas.jobs.evaluation.test_measuring_evaluator import Listening
from tests.supernets.data.test_documents import BLOCK, OPTIONS, document
from tests.supernets.families.decoder.test_decoder_family import SKIPS

BATCH, CONTEXT, PROMPT = 3, 9, 5
PRECISIONS = ("fp32", "int8", "int4")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n\n".join(map(document, range(60))), encoding="utf-8")
    return load_data("text", path=file, options=OPTIONS)


@pytest.fixture(scope="module")
def supernet(data: DataSet) -> Supernet:
    spec = DecoderSpec(head_size=8, depth=(1, 2), width=(16, 32), heads=(1, 2), hidden=(16, 48))
    torch.manual_seed(0)
    return make_supernet(DecoderFamily(spec, vocabulary=data.blocks.vocabulary, positions=BLOCK, tokens=BLOCK))


@pytest.fixture
def profilers() -> dict[str, Listening]:
    return {"here": Listening(), "elsewhere": Listening()}


@pytest.fixture
def evaluator(supernet: Supernet, data: DataSet, profilers: dict[str, Listening]) -> Iterator[MeasuringEvaluator]:
    texts = np.resize(data.validation.inputs.numpy(), (BATCH, PROMPT))
    scoring = InlineScoring(supernet, head(data.train, 20), data.validation, LanguageModelling().for_data(data))
    timed = {
        (name, "onnxruntime"): TimedProfile(own, (texts,), CONTEXT, in_place=name == "here")
        for name, own in profilers.items()
    }
    made = MeasuringEvaluator(
        scoring, supernet.cost, timed,
        weights="w", data=data.validation.digest, memory=ServedMemory(supernet, CONTEXT, BATCH),
    )  # fmt: skip
    yield made
    made.close()


def found(evaluator: MeasuringEvaluator, requests: list[Request]) -> dict[tuple[str, str | None, str], Measurement]:
    return {(m.request.metric, m.request.profile, m.request.precision): m for m in evaluator.evaluate(requests)}


def test_a_rate_and_a_time_are_of_one_measurement(
    evaluator: MeasuringEvaluator, supernet: Supernet, profilers: dict[str, Listening]
) -> None:
    network = supernet.space.largest
    metrics = ("time_to_first_token_ms", "time_per_token_ms", "tokens_per_second")
    measured = found(evaluator, [Request(network, metric, name) for metric in metrics for name in profilers])
    for name, cache in (("here", "in place"), ("elsewhere", "copied")):
        prompt, time, rate = (measured[metric, name, "fp32"] for metric in metrics)
        assert (prompt.value, time.value, rate.value) == (4.0, 4.0, 1000 * BATCH / 4.0)
        assert rate.error == pytest.approx(0.01 * 1000 * BATCH / 4.0)
        assert [m.detail.get("cache") for m in (prompt, time, rate)] == [None, cache, cache]
        deployments = profilers[name].given
        assert len(deployments) == 2
        shapes = sorted(inputs["ids"].shape for own in deployments for inputs in own.graphs[0].inputs)
        assert shapes == [(BATCH, 1), (BATCH, PROMPT)]
        (step,) = (own.graphs[0].inputs[0] for own in deployments if "past.0.key" in own.graphs[0].inputs[0])
        # Room for the token of the step, where it joins the cache in place.
        assert step["past.0.key"].shape[2] == CONTEXT + (name == "here")


def test_every_model_of_a_network_is_in_its_precision(
    evaluator: MeasuringEvaluator, supernet: Supernet, profilers: dict[str, Listening]
) -> None:
    network = supernet.space.largest
    metrics = (("time_to_first_token_ms", "here"), ("time_per_token_ms", "here"), ("perplexity", None))
    measured = found(evaluator, [Request(network, m, p, precision=own) for m, p in metrics for own in PRECISIONS])
    nodes = [onnx.load_from_string(own.graphs[0].model).graph.node for own in profilers["here"].given]
    bits = [{own.i for node in of for own in node.attribute if own.name == "bits"} for of in nodes]
    assert sorted(map(sorted, bits)) == [[], [], [4, 8], [4, 8], [8], [8]]  # embeddings and head: always 8
    perplexities = [measured["perplexity", None, precision].value for precision in PRECISIONS]
    assert all(value is not None for value in perplexities)
    exact, *lower = (float(value or 0) for value in perplexities)
    assert [value == pytest.approx(exact, rel=0.02) for value in lower] == [True, True]
    assert len({exact, *lower}) == 3


def test_memory_is_computed_and_activations_stay_in_fp32(evaluator: MeasuringEvaluator, supernet: Supernet) -> None:
    network = supernet.space.largest
    metrics = ("model_mib", "kv_cache_mib", "activation_bytes", "macs")
    measured = found(evaluator, [Request(network, m, precision=p) for m in metrics for p in PRECISIONS])
    values = {metric: [measured[metric, None, p].value or 0.0 for p in PRECISIONS] for metric in metrics}
    assert {m.protocol for m in measured.values()} == {"computed"}
    # Two layers with two heads of eight channels.
    assert values["kv_cache_mib"] == [2 * 2 * 2 * 8 * 4 * BATCH * CONTEXT / 2**20] * 3
    assert values["activation_bytes"] == [supernet.cost(network).activation_bytes] * 3
    assert values["model_mib"][0] > 3 * values["model_mib"][1] > 3.5 * values["model_mib"][2] > 0


def test_layers_without_attention_have_no_cache() -> None:
    supernet = make_supernet(SKIPS)
    networks = [supernet.space.smallest, supernet.space.largest, supernet.space.sample(np.random.default_rng(3))]
    memory = ServedMemory(supernet, CONTEXT, BATCH)
    shapes = [cache_shapes(cast(Decoder, supernet.extract(network))) for network in networks]
    assert len(set(map(len, shapes))) > 1
    expected = [sum(2 * 4 * BATCH * CONTEXT * heads * size for heads, size in own) / 2**20 for own in shapes]
    assert memory.mib("kv_cache_mib", networks, ["fp32"] * 3).tolist() == pytest.approx(expected)
    stored = [sum(4 * t.numel() for t in supernet.extract(network).parameters()) / 2**20 for network in networks]
    assert memory.mib("model_mib", networks, ["fp32"] * 3).tolist() == pytest.approx(stored)


def test_memory_of_networks_that_are_not_served_fails(supernet: Supernet, data: DataSet) -> None:
    scoring = InlineScoring(supernet, head(data.train, 20), data.validation, LanguageModelling().for_data(data))
    evaluator = MeasuringEvaluator(scoring, supernet.cost, {}, weights="w", data=data.validation.digest)
    (failed,) = evaluator.evaluate([Request(supernet.space.smallest, "model_mib")])
    assert failed.status is Status.FAILED
    assert "served with a cache" in failed.message


@pytest.mark.parametrize("precision", PRECISIONS)
def test_large_models_are_scored_as_small_ones(
    supernet: Supernet, data: DataSet, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large ones are scored from a file, while their networks are not held."""
    scoring = InlineScoring(supernet, head(data.train, 20), data.validation, LanguageModelling().for_data(data))
    for model, served in ((True, ("prefill", "step")), (False, ()), (False, ("step",))):
        task = ScoringTask(supernet.space.largest, Variant(precision), ("perplexity",), model=model, served=served)
        small = scoring.score_one(task)
        with monkeypatch.context() as context:
            context.setattr("nas.jobs.evaluation.scoring.LARGE_BYTES", 0)
            large = scoring.score_one(task)
        assert not small.failure
        assert (large.failure, large.scores) == ("", small.scores)
        assert (large.model, large.served) == (small.model, small.served)
        assert (large.model is not None, tuple(large.served)) == (model, served)
