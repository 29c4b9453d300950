"""How a job's language models are served: lengths, batches, memory and precisions that cannot be are rejected."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from nas.engine.store.folder import RunsFolder
from nas.engine.store.run_facts import RunFacts
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.build.compatibility_facts import compatibility_facts
from nas.jobs.build.measurement_reuse import metrics_measured_otherwise
from nas.jobs.build.search_objects import exact_values
from nas.jobs.build.serving import check_served, find_serving
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.preparation import check_searchable
from nas.jobs.schema import parse_job
from tests.errors import raises
from tests.supernets.data.test_documents import document

BLOCK = 16


def prepared(folder: Path, **changes: Any) -> BuiltJob:
    """A small language job."""
    text = folder / "text.txt"
    text.write_text("\n\n".join(map(document, range(60))), encoding="utf-8")
    job: dict[str, Any] = {
        "name": "texts", "task": "language-modelling",
        "data": {"name": "text", "path": str(text), "max_tokens": BLOCK, "vocabulary": 300},
        "supernet": {
            "family": "decoder",
            "space": {"head_size": 8, "depth": [1, 2], "width": [16, 32], "heads": [1, 2], "hidden": [16, 48]},
        },
        "objectives": ["perplexity", "model_mib"],
        **changes,
    }  # fmt: skip
    return build_job(
        ResolvedJob(parse_job(yaml.safe_dump(job), source="job.yaml"), RunsFolder(folder), source="job.yaml")
    )


def test_the_prompt_is_a_block_and_the_cache_leaves_a_position_for_the_step(tmp_path: Path) -> None:
    job = prepared(tmp_path)
    assert job.serving is not None
    assert (job.serving.prompt_tokens, job.serving.context_tokens, job.serving.batch) == (BLOCK, BLOCK - 1, None)
    (profile,) = job.job.profiles
    assert [texts.shape for texts in job.data.timed_batches(profile)] == [(1, BLOCK)]


def test_lengths_and_batch_are_those_of_the_job(tmp_path: Path) -> None:
    job = prepared(tmp_path, serving={"prompt_tokens": 5, "context_tokens": 9, "batch": 3})
    assert job.serving is not None
    (profile,) = job.job.profiles
    (texts,) = job.data.timed_batches(profile)
    assert texts.shape == (3, 5)
    supernet = job.untrained()
    memory = job.memory(supernet)
    assert memory is not None
    largest = supernet.space.largest
    # Two layers of two heads of 8 channels, keys and values, in four bytes.
    assert memory.mib("kv_cache_mib", [largest], ["int4"])[0] * 2**20 == 2 * 2 * 2 * 8 * 4 * (3 * 9)
    facts = compatibility_facts(job, measured=True)
    assert facts["serving"] == {"prompt_tokens": 5, "context_tokens": 9, "batch": 3}


def test_texts_of_networks_for_any_number_of_tokens_are_blocks(tmp_path: Path) -> None:
    job = prepared(tmp_path)
    family = copy.copy(job.family)
    family.positions = None
    serving = find_serving(job.data, family)
    assert serving is not None
    assert (serving.prompt_tokens, serving.context_tokens) == (BLOCK, BLOCK)


def test_activations_are_in_fp32_in_every_precision(tmp_path: Path) -> None:
    job = prepared(tmp_path, precisions=["fp32", "int8", "int4"])
    supernet = job.untrained()
    memory, variants, space = job.memory(supernet), job.job.variants, job.space
    candidates = [space.smallest, space.largest]
    assert [variants.split(a)[1].precision for a in candidates] == ["int4", "fp32"]
    found = exact_values(supernet, variants, "activation_bytes", candidates, memory=memory)
    costs = [supernet.cost(variants.split(a)[0]).activation_bytes for a in candidates]
    assert found.tolist() == costs
    model = exact_values(supernet, variants, "model_mib", candidates, memory=memory)
    assert model[0] < model[1] / 5


@pytest.mark.parametrize(
    ("serving", "code", "mentions"),
    [
        ({"prompt_tokens": 0}, "job.invalid-value", ["serving.prompt_tokens", "from 1 to", "got 0"]),
        ({"prompt_tokens": BLOCK + 1}, "job.context-too-long", ["serving.prompt_tokens", f"at most {BLOCK}:"]),
        ({"context_tokens": BLOCK}, "job.context-too-long", ["serving.context_tokens", f"at most {BLOCK - 1}", "max_tokens"]),
        ({"prompts": 3}, "job.unknown-key", ["prompts", "prompt_tokens"]),
    ],
)  # fmt: skip
def test_lengths_that_cannot_be_are_rejected(
    tmp_path: Path, serving: dict[str, int], code: str, mentions: list[str]
) -> None:
    with raises(code, *mentions):
        check_searchable(prepared(tmp_path, serving=serving))


def test_the_cache_of_profiles_with_different_batches_needs_a_batch(tmp_path: Path) -> None:
    hardware = ["cpu-1-thread", "cpu-1-thread-batch-16"]
    several = prepared(tmp_path, hardware=hardware, objectives=["perplexity", "kv_cache_mib"])
    with raises("job.missing-key", "serving.batch", "[1, 16]"):
        several.memory(several.untrained())
    assert prepared(tmp_path, hardware=hardware).memory(several.untrained()) is not None
    given = prepared(tmp_path, hardware=hardware, objectives=["perplexity", "kv_cache_mib"], serving={"batch": 4})
    memory = given.memory(given.untrained())
    assert memory is not None
    assert memory.batch == 4


def test_a_machine_without_the_memory_or_the_operators_is_refused(tmp_path: Path) -> None:
    job = prepared(tmp_path, serving={"batch": 4096})
    memory, serving, (profile,) = job.memory(job.untrained()), job.serving, job.job.profiles
    assert memory is not None
    assert serving is not None
    check_served(serving, memory, job.job, profile, {"memory_mib": 64 * 1024})
    check_served(serving, memory, job.job, profile, {})  # a machine that does not report its memory
    with raises("job.cache-too-large", "4096 x 15 tokens", "the machine has 16 MiB", "serving.batch"):
        check_served(serving, memory, job.job, profile, {"memory_mib": 16})
    other = prepared(tmp_path, hardware=["cpu-1-thread-openvino"], precisions=["fp32", "int4"])
    (profile,) = other.job.profiles
    with raises("job.precision-unavailable", "cpu-1-thread-openvino", "int4", "MatMulNBits", "openvino"):
        check_served(serving, memory, other.job, profile, {})


EXPERTS = {
    "head_size": 8, "depth": [1, 2], "width": [16, 32], "heads": [1, 2], "hidden": [16, 48],
    "experts": [2, 4], "active_experts": [1, 2],
}  # fmt: skip
CACHED = ("perplexity", "cache_hit_rate", "resident_mib")


def test_metrics_of_a_cache_of_experts_need_its_size_and_experts(tmp_path: Path) -> None:
    of_experts = {"supernet": {"family": "decoder", "space": EXPERTS}, "objectives": [*CACHED]}
    job = prepared(tmp_path, serving={"expert_cache": 3}, **of_experts)
    assert [metric.name for metric in job.job.metrics] == [*CACHED]
    largest = job.space.largest
    kept, whole = (
        float(exact_values(job.untrained(), job.job.variants, metric, [largest], memory=memory)[0])
        for memory in [job.memory(job.untrained())]
        for metric in ("resident_mib", "model_mib")
    )
    # Of two layers, one expert of three matrices of 48 x 32 is not in memory.
    assert (whole - kept) * 2**20 == pytest.approx(2 * 3 * 48 * 32 * 4)
    with raises("job.missing-key", "serving.expert_cache", "cache_hit_rate", "expert_cache_mib"):
        prepared(tmp_path, **of_experts)
    with raises("job.conflict", "serving.expert_cache", "remove one of them"):
        prepared(tmp_path, serving={"expert_cache": 3, "expert_cache_mib": 1}, **of_experts)
    with raises("experts.cache-too-small", "serving.expert_cache_mib", "0.01 MiB for 2 layers", "0.0352 MiB"):
        assert prepared(tmp_path, serving={"expert_cache_mib": 0.01}, **of_experts).serving
    with raises("job.conflict", "objectives: cache_hit_rate is about experts", "supernet.space.experts"):
        assert prepared(tmp_path, serving={"expert_cache": 3}, objectives=[*CACHED]).serving
    assert prepared(tmp_path, objectives=["perplexity", "resident_mib"]).serving


def test_measurements_with_another_cache_of_experts_are_not_taken_over(tmp_path: Path) -> None:
    of_experts = {"supernet": {"family": "decoder", "space": EXPERTS}, "objectives": [*CACHED]}
    three, again, two = (prepared(tmp_path, serving={"expert_cache": n}, **of_experts) for n in (3, 3, 2))
    facts = cast(RunFacts, SimpleNamespace(compatibility=compatibility_facts(three, measured=True), plugins=()))
    assert metrics_measured_otherwise(facts, again) == ()
    assert metrics_measured_otherwise(facts, two) == (
        "cache_hit_rate", "expert_loads_per_token", "segment_cache_hit_rate", "resident_mib",
    )  # fmt: skip
