"""Checks that the optional parts that a job needs are installed, before anything is computed (no torch)."""

from __future__ import annotations

from collections.abc import Sequence

from hardware_profiles.base import HardwareProfile
from nas.jobs.schema import SearchJob
from nas.plugins.parts import require
from nas.search.algorithms import ALGORITHMS


def check_parts(job: SearchJob, *, source: str) -> None:
    """Raises `PartError` if a part is missing that every use of the job needs.

    Args:
        source: name of the job file in errors.
    """
    if job.data.of_text or job.data.of_documents:
        require("text", f"{source}: data.name: {job.data.name}")
    entry = ALGORITHMS.get(job.search.algorithm)
    if entry is not None and entry.part:
        require(entry.part, f"{source}: search.algorithm: {job.search.algorithm}")


def check_ray(
    job: SearchJob, profiles: Sequence[HardwareProfile], *, inline: bool, address: str | None, workers: int, source: str
) -> None:
    """Raises `PartError` if Ray is missing and something explicitly asks for it.

    Args:
        profiles: Profiles on which networks are measured; empty for a training.
        inline: the user wants scoring in this process, so that the job's workers for it do not matter.
        address: Address of the cluster that the user wants to join; None to start one here.
        workers: Number of workers that train.
        source: name of the job file in errors.
    """
    if address is not None:
        require("ray", f"address {address}", parameter="address")
    if workers > 1:
        require("ray", f"{source}: training.workers: {workers} workers")
    for profile in profiles:
        if profile.placement:
            require(
                "ray", f"{source}: the hardware profile {profile.name}, which is measured on a node of a Ray cluster,"
            )
    if profiles and not inline and (job.search.workers or 1) > 1:
        require("ray", f"{source}: search.workers: {job.search.workers} workers")
