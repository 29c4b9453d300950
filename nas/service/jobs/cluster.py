"""Protocol of the Ray cluster that jobs run on, and a cluster that was started by others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Cluster(Protocol):
    """A Ray cluster, or one that is being started.

    Raises:
        ServiceError: from `address`, `jobs_url` and `headers`, while the cluster is not ready.
    """

    def start(self) -> None:
        """Starts to supervise it, in the background."""
        ...

    def close(self) -> None:
        """Ends the supervision; the cluster keeps running. Idempotent."""
        ...

    @property
    def problem(self) -> str:
        """Why no job can run, as far as is known; "" where jobs can run."""
        ...

    @property
    def address(self) -> str:
        """``HOST:PORT`` that drivers join."""
        ...

    @property
    def jobs_url(self) -> str:
        """The URL of its job server."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that its job server needs with every request; secret."""
        ...


@dataclass(frozen=True)
class GivenCluster:
    """A cluster that others started; if it needs a token, Ray reads that from its environment variables."""

    address: str
    jobs_url: str

    def start(self) -> None:
        """Does nothing: others supervise it."""

    def close(self) -> None:
        """Does nothing: others supervise it."""

    @property
    def problem(self) -> str:
        """Nothing is known."""
        return ""

    @property
    def headers(self) -> Mapping[str, str]:
        """None but those of Ray's client."""
        return {}
