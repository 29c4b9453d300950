"""Checks whether a machine meets the requirements of a hardware profile. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ProfileError, suggestion


def check_requirements(profile: HardwareProfile, environment: Mapping[str, Any]) -> None:
    """Returns if the machine can measure the profile.

    Args:
        environment: the worker's description of its machine, of which the keys ``host``, ``allowed_cpus``, ``quota_cpus``,
            ``onnxruntime`` and ``available_providers`` are read.

    Raises:
        ProfileError: the process may use fewer CPUs than the profile has threads, or the provider is not available.
    """
    needs, host = f"profile {profile.name} needs {profile.threads} CPUs, one per thread", environment["host"]
    allowed, quota = environment["allowed_cpus"], environment["quota_cpus"]
    if profile.threads > allowed:
        raise ProfileError(
            f"{needs}, and the process may use {allowed} on {host}; choose a profile with fewer threads or allow more CPUs",
            code="profile.too-few-cpus",
        )
    if quota is not None and quota < profile.threads:  # the kernel would stop the process in the middle of runs
        raise ProfileError(
            f"{needs}, and the cgroup quota on {host} grants the time of {quota:g}; choose a profile with fewer threads or "
            "raise the quota (of a container: its CPU limit)",
            code="profile.too-few-cpus",
        )
    provider, available = profile.provider, environment["available_providers"]
    if provider not in available:
        # A well-formed name is no misspelling: CUDAExecutionProvider does not mean CPUExecutionProvider.
        hint = "" if provider.endswith("ExecutionProvider") else suggestion(provider, available)
        raise ProfileError(
            f"profile {profile.name} needs the provider {provider!r}{hint}, and ONNX Runtime {environment['onnxruntime']} on "
            f"{host} has {', '.join(available)}; change the profile or install a build of ONNX Runtime that has the provider",
            code="profile.provider-unavailable",
        )
