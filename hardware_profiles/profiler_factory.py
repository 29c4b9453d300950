"""Opens the profiler of a hardware profile: by a child process, over ssh, on a node of a Ray cluster, or in a browser."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import check_machine
from hardware_profiles.environment import machine_key
from hardware_profiles.measuring.pace import Speed
from hardware_profiles.measuring.profiler import LOCK, WorkerProfiler
from hardware_profiles.measuring.session import Limits
from hardware_profiles.measuring.speed_record import SpeedRecord, default_folder
from hardware_profiles.transports.browser.connection import connect_by_browser
from hardware_profiles.transports.connection import Connection, LocalConnection, local_command, worker_environment
from hardware_profiles.transports.ssh import connect_by_ssh

SSH_CONFIG = "NAS_SSH_CONFIG"
"""The environment variable with a configuration file for ssh that replaces the user's own."""


def open_profiler(
    profile: HardwareProfile,
    *,
    seed: int = 0,
    await_first: bool = True,
    on_wait: Callable[[str], None] | None = None,
    on_wait_end: Callable[[], None] | None = None,
    limits: Limits | None = None,
    lock: str = LOCK,
    usual: Speed | None = None,
    energy: bool = False,
) -> WorkerProfiler:
    """A profiler that measures where the profile says, and knows the machine's usual speed; close it, or use it in a ``with``.

    The worker process starts with the first measurement, or the first call of `environment`.

    The arguments are those of `WorkerProfiler`.

    Args:
        profile: Profile to measure on: this machine, an ssh host, a node of a Ray cluster, or a browser.
        seed: Seed of the order of entries within rounds.
        await_first: False to raise at once where the machine cannot be reached the first time, instead of waiting for it.
        on_wait: Receives a message when another measurement holds the host, or the machine is away; None waits silently.
        on_wait_end: Is called when that wait ends, for better or by a timeout; None for no call.
        limits: Timeouts of the worker's start, of the wait for the host and of its answers; None for the defaults.
        lock: Name of the host's lock, which all its users must share, or the path of a file.
        usual: Machine's usual speed, at which latencies are given; None takes it from this user's record of speeds, or from the
            first session.
        energy: True to measure energy as well, for which the machine needs counters that may be read.

    Raises:
        ProfileError: the profile is measured on this machine, which does not meet its requirements.
    """
    check_machine(profile)
    return WorkerProfiler(
        profile,
        _connector(profile),
        seed=seed,
        await_first=await_first,
        on_wait=on_wait,
        on_wait_end=on_wait_end,
        limits=limits,
        lock=lock,
        usual=usual,
        record=SpeedRecord(default_folder(), machine_key),
        energy=energy,
    )


def _connector(profile: HardwareProfile) -> Callable[[], Connection]:
    if profile.ssh:
        config = os.environ.get(SSH_CONFIG)
        return partial(connect_by_ssh, profile, config=Path(config) if config else None)
    if profile.placement:
        from hardware_profiles.transports.ray_node import connect_by_ray  # importing ray takes a second

        return partial(connect_by_ray, profile)
    if profile.browser:
        return partial(connect_by_browser, profile)
    return partial(LocalConnection, local_command(), worker_environment(profile.threads, profile.runtime))
