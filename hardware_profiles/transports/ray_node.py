"""A worker on the node of a Ray cluster that offers a profile's resources; an actor there relays its messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ConnectionLostError, ProfileError, UnreachableError, WorkerDiedError
from hardware_profiles.requirements import offering_node, shown_resources
from hardware_profiles.transports.connection import LocalConnection, local_command, worker_environment

_START_SECONDS = 60.0
_SEND_SECONDS = 600.0
"""Enough for a large model on a slow network; Ray detects a dead node sooner."""
_GRACE_SECONDS = 10.0
"""Time for relaying a message, in addition to the timeout of its answer."""


class _Relay:
    """The actor, with a worker as its child process. It returns errors, since Ray would wrap an exception in its own."""

    def __init__(self, threads: int, runtime: str) -> None:
        environment = worker_environment(threads, runtime)
        if environment.get("CUDA_VISIBLE_DEVICES") == "":
            del environment["CUDA_VISIBLE_DEVICES"]  # Ray hides the GPUs from an actor that reserves none
        self._connection = LocalConnection(local_command(), environment)

    def pid(self) -> int:
        """The worker's process id."""
        return self._connection.pid

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes]) -> str:
        """Sends a command; the reason if the worker died, else empty."""
        try:
            self._connection.send(command, payloads)
            return ""
        except WorkerDiedError as death:
            return str(death)

    def receive(self, seconds: float) -> tuple[dict[str, Any], str]:
        """The answer, and the reason if there is none."""
        try:
            return self._connection.receive(seconds=seconds), ""
        except WorkerDiedError as death:
            return {}, str(death)


class RayConnection:
    """A worker on one node; implements `Connection`."""

    def __init__(self, actor: Any, node: Mapping[str, Any], where: str) -> None:
        self._actor, self._where = actor, where
        self._node = {"ray_node": str(node["NodeID"]), "host": str(node["NodeManagerAddress"])}

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        died = self._ask("send", command, list(payloads), seconds=_SEND_SECONDS)
        if died:
            raise WorkerDiedError(died)

    def receive(self, *, seconds: float) -> dict[str, Any]:
        answer: dict[str, Any]
        answer, died = self._ask("receive", seconds, seconds=seconds + _GRACE_SECONDS)
        if died:
            raise WorkerDiedError(died)
        if answer["event"] == "ready":  # so that a record names its node
            answer["environment"] |= self._node
        return answer

    def close(self) -> None:
        if ray.is_initialized():
            ray.kill(self._actor)  # its worker, which checks for it twice a second, then ends too

    def _ask(self, method: str, *arguments: Any, seconds: float) -> Any:
        if not ray.is_initialized():  # Ray would start a new cluster, without this actor
            raise ConnectionLostError(f"the connection to {self._where} was closed, since the program left the cluster")
        try:
            return ray.get(getattr(self._actor, method).remote(*arguments), timeout=seconds)
        except RayTaskError:
            raise  # an error in the relay itself, not in the connection
        except RayError as error:
            raise ConnectionLostError(f"lost {self._where}, or its actor ({_last_line(error)})") from error


def connect_by_ray(profile: HardwareProfile) -> RayConnection:
    """A worker on the first node, by its id, that offers the profile's resources.

    The actor reserves nothing: a reservation lasts as long as the actor, so that two profiles of one board would wait for
    each other forever; the host's lock, held while a batch is measured, separates measurements instead. An actor without
    CPUs also starts where scoring uses all of them, and on a node that offers none, where no scoring disturbs it: start a
    board's node with ``--num-cpus=0``.

    Raises:
        ProfileError: the program is not connected to a cluster, or the node cannot start a worker.
        UnreachableError: no live node offers the resources.
    """
    if not ray.is_initialized():
        message = (
            f"profile {profile.name} needs a Ray node with {shown_resources(profile.placement)}, and none is connected"
        )
        advice = "run with Ray (not inline), or give the cluster's address"
        raise ProfileError(f"{message}; {advice}", code="profile.no-cluster")
    while True:
        node = _find_node(profile)
        where = f"the Ray node {node['NodeManagerAddress']} that offers {shown_resources(profile.placement)}"
        placed = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        actor = ray.remote(num_cpus=0, max_restarts=0, scheduling_strategy=placed)(_Relay).remote(
            profile.threads, profile.runtime
        )
        try:
            ray.get(actor.pid.remote(), timeout=_START_SECONDS)
            return RayConnection(actor, node, where)
        except RayError as error:
            ray.kill(actor)
            reason = _last_line(error)
            if isinstance(error, RayActorError) and error.actor_init_failed:
                message = f"profile {profile.name}: {where} starts no worker ({reason}); install the same version there"
                raise ProfileError(message, code="profile.node-broken") from error
            living_ids = [living["NodeID"] for living in _living()]  # a death is known some ten seconds later
            if node["NodeID"] in living_ids:
                message = f"profile {profile.name}: {where} starts no actor ({reason}); check that it is not overloaded"
                raise UnreachableError(message, profile=profile.name, reason=f"{where} starts no actor") from error
            # The node died but was still listed; the next iteration finds another, or raises.


def _find_node(profile: HardwareProfile) -> Mapping[str, Any]:
    living = _living()
    return living[offering_node(profile, [node["Resources"] for node in living])]


def _living() -> list[dict[str, Any]]:
    return sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: str(node["NodeID"]))


def _last_line(error: Exception) -> str:
    """The last line of a Ray error, which follows the traces and names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
