"""How a job's language models are served: lengths, batch, and the memory of weights and cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hardware_profiles.base import HardwareProfile
from nas.errors import JobError
from nas.jobs.build.job_data import JobData
from nas.jobs.build.task import expert_cache
from nas.jobs.evaluation.served_memory import ServedMemory, expert_bytes
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.search.problem.objectives import ONNX_RUNTIME
from nas.search.problem.tasks import ROUTING
from supernets.data import BlockFormat, PairFormat
from supernets.errors import SpaceError
from supernets.sharing.base import Family, Supernet

_CACHES = 2
"""Number of caches in memory: one in a step's input, and one in its output."""


@dataclass(frozen=True, slots=True)
class Serving:
    """The calls by which language models are timed.

    Attributes:
        prompt_tokens: Number of tokens of a prompt.
        context_tokens: Number of tokens in the cache before a step.
        batch: Number of texts at a time; None for the batch of each profile.
    """

    prompt_tokens: int
    context_tokens: int
    batch: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def texts(self, profile: HardwareProfile) -> int:
        """Number of texts at a time on a profile."""
        return self.batch or profile.batch_size


def find_serving(data: JobData, family: Family) -> Serving | None:
    """How the networks of a job are served; None where they are no language models.

    Raises:
        JobError: a prompt, or a cache with the token of the step, is longer than the networks' positions; or the job caches
            experts of networks that have none, or in too little memory.
    """
    if not isinstance(data.dataset.format, BlockFormat):
        return None
    _check_experts(data.job, family)
    serving, block = data.job.config.serving, data.dataset.blocks.block
    if isinstance(pairs := data.dataset.format, PairFormat):  # of any length
        prompt = serving.prompt_tokens or pairs.source
        return Serving(prompt, serving.context_tokens or max(1, pairs.typical_tokens // 2), serving.batch)
    prompt, positions = serving.prompt_tokens or block, family.positions
    if positions is None:
        return Serving(prompt, serving.context_tokens or prompt, serving.batch)
    context = serving.context_tokens or min(prompt, positions - 1)
    for key, tokens, expected in (("prompt_tokens", prompt, positions), ("context_tokens", context, positions - 1)):
        if tokens > expected:
            of_step = ", of which a step takes one more" if key == "context_tokens" else ""
            raise JobError(
                f"{data.job.source}: serving.{key}: {tokens} tokens, and the networks have {positions} positions{of_step}; "
                f"expected at most {expected}: lower it, or raise data.max_tokens where the weights are random",
                code="job.context-too-long",
            )
    return Serving(prompt, context, serving.batch)


def _check_experts(job: ResolvedJob, family: Family) -> None:
    """Raises `JobError` where a job is about experts that its networks lack, or that do not fit into its cache."""
    config, source, names = job.config, job.source, {metric.name for metric in ROUTING}
    used = next((name for name in (*config.objectives, *config.constraints) if name in names), None)
    cache = expert_cache(config)
    sizes = expert_bytes(family, family.space.largest)
    if not sizes and (used or cache):
        key = f"objectives: {used}" if used else "serving.expert_cache"
        raise JobError(
            f"{source}: {key} is about experts, and the networks of this job have none; give supernet.space.experts, or "
            "remove it",
            code="job.conflict",
        )
    try:
        if cache is not None:
            cache.sizes(sizes)
    except SpaceError as error:
        raise JobError(f"{source}: serving.expert_cache_mib: {error}", code=error.code) from None


def writes_cache_in_place(profile: HardwareProfile) -> bool:
    """True if a profile's runtime writes into the cache of a language model; else each step copies the cache."""
    return profile.runtime == ONNX_RUNTIME and profile.on_cpu


def served_memory(serving: Serving | None, supernet: Supernet, job: ResolvedJob) -> ServedMemory | None:
    """The memory of a job's language models; None for other networks.

    Raises:
        JobError: the job has the metric ``kv_cache_mib``, and profiles with different batches.
    """
    if serving is None:
        return None
    batches = sorted({serving.texts(profile) for profile in job.profiles})
    if len(batches) > 1 and any(metric.metric == "kv_cache_mib" for metric in job.metrics):
        raise JobError(
            f"{job.source}: serving.batch: the cache of kv_cache_mib is of one batch, and the profiles have {batches}; "
            "write the batch that is meant",
            code="job.missing-key",
        )
    return ServedMemory(supernet, serving.context_tokens, batches[-1], expert_cache(job.config), serving.prompt_tokens)


def check_served(
    serving: Serving, memory: ServedMemory, job: ResolvedJob, profile: HardwareProfile, environment: Mapping[str, Any]
) -> None:
    """Checks that a profile runs language models in a job's precisions, and that its machine has the memory for the largest.

    Raises:
        JobError: it does not, or has not.
    """
    precisions = job.variants.precisions
    where = f"{job.source}: precisions: profile {profile.name}"
    for precision in precisions:
        if precision != "fp32" and profile.runtime != ONNX_RUNTIME:
            raise JobError(
                f"{where}: language models in {precision} have operators of ONNX Runtime (MatMulNBits), which "
                f"{profile.runtime} lacks; choose fp32, or a profile of {ONNX_RUNTIME}",
                code="job.precision-unavailable",
            )
    batch = serving.texts(profile)
    memory, largest = replace(memory, batch=batch), memory.supernet.space.largest
    weights = float(memory.mib("model_mib", [largest] * len(precisions), precisions).max())
    cache = float(memory.mib("kv_cache_mib", [largest], ["fp32"])[0])
    available_mib = environment.get("memory_mib")
    if available_mib is not None and weights + _CACHES * cache > available_mib:
        raise JobError(
            f"{job.source}: serving.context_tokens: profile {profile.name}: the largest network's cache of {batch} x "
            f"{serving.context_tokens} tokens takes {cache:,.0f} MiB, before and after a step, and its weights "
            f"{weights:,.0f} MiB, and the machine has {available_mib:,.0f} MiB; lower context_tokens or serving.batch",
            code="job.cache-too-large",
        )
