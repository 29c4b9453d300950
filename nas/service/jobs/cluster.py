"""What the service needs to know of the Ray cluster that its jobs run on, whoever started that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Cluster(Protocol):
    """A Ray cluster, or one that is being started.

    Raises:
        ServiceError: from `address`, `jobs_url` and `headers`, with what is missing, while there is none.
    """

    def start(self) -> None:
        """Begins to look after it, in the background."""
        ...

    def close(self) -> None:
        """Ends to look after it; it lives on. Idempotent."""
        ...

    @property
    def problem(self) -> str:
        """What keeps jobs from running, as far as is known; "" where nothing does."""
        ...

    @property
    def address(self) -> str:
        """``HOST:PORT``, for drivers to join."""
        ...

    @property
    def jobs_url(self) -> str:
        """Of its job server."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """What its job server must be shown with every request; secret."""
        ...


@dataclass(frozen=True)
class GivenCluster:
    """A cluster that others started; if it asks for a token, Ray takes that from its own environment variables."""

    address: str
    jobs_url: str

    def start(self) -> None:
        """Others look after it."""

    def close(self) -> None:
        """Others look after it."""

    @property
    def problem(self) -> str:
        """Nothing is known of it beforehand."""
        return ""

    @property
    def headers(self) -> Mapping[str, str]:
        """None but Ray's own."""
        return {}
