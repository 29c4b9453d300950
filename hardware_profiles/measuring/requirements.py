"""Whether a machine, as its worker tells it, is what a profile asks for. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hardware_profiles.base import HardwareProfile


def unmet_requirement(profile: HardwareProfile, environment: Mapping[str, Any]) -> str:
    """Why the machine is not what the profile asks for, in a sentence with what to do; empty if it is.

    Args:
        environment: what the worker says when it has started.
    """
    threads, host = profile.threads, environment["host"]
    allowed, quota = environment["allowed_cpus"], environment["quota_cpus"]
    if threads > allowed:
        return (
            f"{threads} threads were asked for, each on a CPU of its own, and the process may use {allowed} "
            f"CPU{'s' if allowed > 1 else ''} on {host}; take a profile of fewer threads or allow it more CPUs"
        )
    if quota is not None and quota < threads:  # it would be stopped in the middle of runs, until the next period
        return (
            f"{threads} thread{'s were' if threads > 1 else ' was'} asked for, and control groups grant the process the time "
            f"of {quota:g} CPUs on {host}; take a profile of fewer threads, or raise the quota (of a container: its CPU limit)"
        )
    providers = environment["available_providers"]
    if profile.provider not in providers:
        return (
            f"the provider {profile.provider!r} was asked for, and ONNX Runtime {environment['onnxruntime']} on {host} has "
            f"{', '.join(providers)}; change the profile, or install a build of ONNX Runtime there that has it"
        )
    return ""
