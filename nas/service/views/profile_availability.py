"""Whether the server's machine and its Ray cluster can serve a hardware profile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import environment_for
from hardware_profiles.errors import ProfileError
from hardware_profiles.measuring.worker import environment_of
from hardware_profiles.requirements import check_requirements, offering_node
from nas.errors import ServiceError
from nas.service.jobs.job_runner import JobRunner
from nas.service.stamped_cache import fresh

_NODES_S = 10.0
"""Before the cluster is asked again for its nodes."""


class ProfileAvailability:
    """Answers whether profiles can be served now. Safe to use from several threads.

    Args:
        runner: knows the nodes of the cluster.
        environment: the worker's description of this machine.
        clock: seconds, of any origin.
    """

    def __init__(
        self,
        runner: JobRunner,
        environment: Callable[[], Mapping[str, Any]] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner, self._environment, self._clock = runner, environment or this_machine, clock
        self._asked: tuple[float, Sequence[Mapping[str, float]] | None] | None = None

    def problem(self, profile: HardwareProfile) -> ProfileError | None:
        """Why nothing can be measured on a profile now; None where that is possible, or is not known here.

        An ssh host checks its own machine, and so does a node when its worker starts.
        """
        if profile.ssh:
            return None
        try:
            if not profile.placement:
                check_requirements(profile, environment_for(profile, self._environment()))
            elif (nodes := self._nodes()) is not None:
                offering_node(profile, nodes)
        except ProfileError as error:
            return error
        return None

    def _nodes(self) -> Sequence[Mapping[str, float]] | None:
        """The resources of the cluster's nodes; None while it does not answer."""
        now = self._clock()
        if self._asked is None or not fresh(self._asked[0], now, _NODES_S):
            try:
                self._asked = now, self._runner.nodes()
            except ServiceError:
                self._asked = now, None
        return self._asked[1]


@cache
def this_machine() -> Mapping[str, Any]:
    """The description of this machine that its measuring process would send, as when it was first needed."""
    return environment_of(sorted(os.sched_getaffinity(0))[:1], "CPUExecutionProvider")
