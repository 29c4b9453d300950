"""A worker process on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hardware_profiles.transports.connection import LocalConnection, local_command, worker_environment


@pytest.fixture
def worker() -> Iterator[LocalConnection]:
    connection = LocalConnection(local_command(), worker_environment(1))
    yield connection
    connection.close()
