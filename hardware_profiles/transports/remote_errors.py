"""What can happen to a measurement on another machine, and is no model's fault."""

from __future__ import annotations

from hardware_profiles.errors import ProfileError
from hardware_profiles.transports.connection import WorkerDiedError


class UnreachableError(ProfileError):
    """Nobody is there to measure: the ssh host does not answer, or no node of the cluster offers the resource."""

    code = "profile.unreachable"


class ConnectionLostError(WorkerDiedError):
    """The way to the measuring process broke, or its machine did; which model was running says nothing."""

    code = "worker.connection-lost"
