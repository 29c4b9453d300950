"""Checks whether a machine or a node of a Ray cluster meets the requirements of a hardware profile. Pure; no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ProfileError, UnreachableError, suggestion


def check_requirements(profile: HardwareProfile, environment: Mapping[str, Any]) -> None:
    """Returns if the machine, as the worker describes it, can measure the profile.

    Raises:
        ProfileError: the process may use fewer CPUs than the profile has threads, or the provider is not available.
    """
    host = environment["host"]
    allowed, quota = environment["allowed_cpus"], environment["quota_cpus"]
    # Above the quota, the kernel would stop the process in the middle of runs.
    for source, n_cpus in (("the process may use", allowed), ("the cgroup quota grants the time of", quota)):
        if n_cpus is not None and n_cpus < profile.threads:
            n = profile.threads
            needs = f"{n} CPUs, one per thread," if n > 1 else "one CPU"
            advice = "choose a profile with fewer threads, or allow more CPUs" if n > 1 else "allow it one CPU"
            raise ProfileError(
                f"profile {profile.name} needs {needs} and {source} {n_cpus:g} on {host}; {advice}",
                code="profile.too-few-cpus",
            )
    provider, available = profile.provider, environment["available_providers"]
    if provider not in available:
        # A well-formed name is no misspelling: CUDAExecutionProvider does not mean CPUExecutionProvider.
        runtime = environment.get("runtime") or f"ONNX Runtime {environment['onnxruntime']}"
        hint = "" if provider.endswith("ExecutionProvider") else suggestion(provider, available)
        raise ProfileError(
            f"profile {profile.name} needs the provider {provider!r}{hint}, and {runtime} on "
            f"{host} has {', '.join(available)}; change the profile or install a build with the provider",
            code="profile.provider-unavailable",
        )


def offering_node(profile: HardwareProfile, nodes: Sequence[Mapping[str, float]]) -> int:
    """The index of the first node of a Ray cluster that offers a profile's resources.

    Args:
        nodes: the resources of each live node.

    Raises:
        UnreachableError: there is none.
    """
    for i, resources in enumerate(nodes):
        if all(resources.get(name, 0.0) >= amount for name, amount in profile.placement.items()):
            return i
    offered = sorted({name for resources in nodes for name in resources if not name.startswith("node:")})
    resources_text = shown_resources(profile.placement)
    raise UnreachableError(
        f"profile {profile.name} needs a Ray node with {resources_text}, and none of the {len(nodes)} "
        f"live nodes has it; they offer {', '.join(offered)}. Start Ray on that machine with "
        f"`ray start --address=HEAD --num-cpus=0 --resources='{json.dumps(dict(profile.placement))}'`",
        profile=profile.name,
        reason=f"no live Ray node offers {resources_text}",
    )


def shown_resources(placement: Mapping[str, float]) -> str:
    """Ray resources with their amounts, as text."""
    return ", ".join(f"{name}: {amount:g}" for name, amount in placement.items())


def energy_error(profile: HardwareProfile, reason: str) -> ProfileError:
    """The error of a machine whose energy cannot be measured."""
    where = profile.ssh or ("a browser" if profile.browser else "its Ray node" if profile.placement else "this machine")
    message = f"profile {profile.name}: energy_mj cannot be measured on {where}: {reason}. Or measure without energy_mj"
    return ProfileError(message, code="profile.no-energy")


def platform_error(profile: HardwareProfile, platform: str) -> ProfileError:
    """The error of a system that cannot pin processes to CPUs."""
    message = f"profile {profile.name}: measuring needs Linux, which can pin processes to CPUs; this is {platform}"
    return ProfileError(message, code="profile.platform-unsupported")
