"""Ray for as long as something needs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hardware_profiles.base import HardwareProfile


@contextmanager
def connected(address: str | None, *, spread: bool, profiles: Iterable[HardwareProfile] = ()) -> Iterator[None]:
    """Connects to a cluster, or starts one here, where work is to be spread or a profile is measured on a Ray node.

    Args:
        address: of a running cluster; None starts one in this process's name, which offers this machine alone.
        spread: whether scoring is spread over actors.

    Raises:
        EvaluationError: no cluster answers at the address, or none can be started.
    """
    if not spread and not any(profile.placement for profile in profiles):
        yield
        return
    from nas.evaluation.ray_pool import start_ray, stop_ray  # ray takes a second to load

    start_ray(address)
    try:
        yield
    finally:
        stop_ray()
