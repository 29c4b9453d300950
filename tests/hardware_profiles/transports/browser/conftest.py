"""A server of browsers without the files of a runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware_profiles.transports.browser import connection
from hardware_profiles.transports.browser.runtime_files import FILES, FOLDER
from hardware_profiles.transports.browser.server import BrowserServer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrowserServer]:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    for name in FILES:
        (tmp_path / name).write_bytes(b"")
    running = BrowserServer("127.0.0.1", 0)
    monkeypatch.setattr(connection, "running_server", lambda: running)
    yield running
    running.close()
