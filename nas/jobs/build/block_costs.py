"""Computes the costs of a job's networks by block, with latencies from the job's lookup tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hardware_profiles.lookup_table_file import load_lookup
from nas.engine.store.block_costs import BlockCosts, BlockLatencies, NetworkCosts, place_of
from nas.jobs.build.resolved_job import ResolvedJob
from nas.jobs.evaluation.features import LatencyFeatures
from supernets.sharing.base import Supernet
from supernets.space import Architecture

_DECIMALS = 6
"""Latencies in milliseconds are rounded to nanoseconds."""


def block_costs(job: ResolvedJob, supernet: Supernet, candidates: Sequence[Architecture]) -> BlockCosts:
    """Parameters and MACs of each block, and its latency on each profile of the job that has a lookup table.

    Raises:
        LookupTableError, EvaluationError: a table cannot be read any more, or is of another space.
    """
    table = supernet.costs([job.variants.split(candidate)[0] for candidate in candidates])
    latencies = _latencies(job, supernet, candidates)
    networks = {
        candidate.key: NetworkCosts(
            tuple(table.parameters[i].tolist()),
            tuple(table.macs[i].tolist()),
            {profile: profile_latencies[i] for profile, profile_latencies in latencies.items()},
        )
        for i, candidate in enumerate(candidates)
    }
    return BlockCosts(tuple(map(place_of, table.blocks)), networks)


def _latencies(
    job: ResolvedJob, supernet: Supernet, candidates: Sequence[Architecture]
) -> Mapping[str, list[BlockLatencies]]:
    """The latencies of each candidate by block, by the name of each profile that has a lookup table."""
    latencies_by_profile = {}
    for profile in job.profiles:
        if (path := job.lookup_tables.get(profile.name)) is None:
            continue
        table = load_lookup(path, profile=profile, environment=None)
        estimated = LatencyFeatures(supernet, table, job.variants).estimates(candidates)
        scales = np.array([table.fits[job.variants.split(candidate)[1].precision].scale for candidate in candidates])
        blocks = np.round(estimated[:, 1:] * scales[:, None], _DECIMALS)
        remainders = np.round(estimated[:, 0] - blocks.sum(axis=1), _DECIMALS)
        pairs = zip(blocks.tolist(), remainders.tolist(), strict=True)
        latencies_by_profile[profile.name] = [
            BlockLatencies(tuple(block_ms), remaining_ms) for block_ms, remaining_ms in pairs
        ]
    return latencies_by_profile
