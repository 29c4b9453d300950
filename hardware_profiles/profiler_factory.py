"""Where a profile is measured: by a child process, over ssh, or on a node of the Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import check_machine
from hardware_profiles.measuring.profiler import LOCK, WorkerProfiler
from hardware_profiles.measuring.session import Limits
from hardware_profiles.transports.connection import Connection, LocalConnection, local_command, worker_environment

SSH_CONFIG = "NAS_SSH_CONFIG"
"""The environment variable with a configuration file for ssh, instead of the user's own."""


def open_profiler(
    profile: HardwareProfile,
    *,
    seed: int = 0,
    on_wait: Callable[[str], None] | None = None,
    limits: Limits | None = None,
    lock: str = LOCK,
    levels: list[float] | None = None,
) -> WorkerProfiler:
    """A profiler that measures where the profile says; close it, or use it in a ``with``.

    No process is started and nobody is called before the first measurement, or the first question for its environment.

    Args:
        seed: of the order of entries within rounds.
        on_wait: told in a sentence when another measurement must be waited for.
        lock: name of what whoever measures on the host holds; for tests.
        levels: the sentinels' levels in earlier sessions there; each session's is added (see `WorkerProfiler`).

    Raises:
        ProfileError: this machine, where the profile is measured here, has not what it asks for.
    """
    check_machine(profile)
    return WorkerProfiler(
        profile, _connector(profile), seed=seed, on_wait=on_wait, limits=limits, lock=lock, levels=levels
    )


def _connector(profile: HardwareProfile) -> Callable[[], Connection]:
    if profile.ssh:
        from hardware_profiles.transports.ssh import connect_by_ssh

        config = os.environ.get(SSH_CONFIG)
        return partial(connect_by_ssh, profile, config=Path(config) if config else None)
    if profile.placement:
        from hardware_profiles.transports.ray_node import connect_by_ray  # ray takes a second to load

        return partial(connect_by_ray, profile)
    return partial(LocalConnection, local_command(), worker_environment(profile.threads))
