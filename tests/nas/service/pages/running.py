"""A real server of the tests' own, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from nas.engine.store.folder import RunsFolder
from nas.service.http.app import create_app
from nas.service.http.tokens import Tokens
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from nas.service.sign_on.settings import SignOnSettings
from nas.service.state import ServiceState
from tests.nas.service.made_runs import Jobs


@dataclass(frozen=True)
class Server:
    """A server on a free port, and the service behind it."""

    url: str
    service: Service
    runs: RunsFolder
    state: ServiceState


@contextmanager
def running_server(
    runs: RunsFolder,
    *,
    name: str | None = None,
    tokens: Tokens | None = None,
    port: int = 0,
    watchers: int = 500,
    root_path: str = "",
    sign_on: SignOnSettings | None = None,
) -> Iterator[Server]:
    """A server over a runs folder, which runs no job.

    Args:
        name: by which browsers reach it, which must show a token then.
        tokens: that they may show.
        port: 0 takes a free one.
        watchers: how many may follow runs by streams.
        root_path: below which a proxy has it.
        sign_on: its single sign-on.
    """
    runs.check_writable()
    names = () if name is None else (name,)
    settings = ServiceSettings(
        runs, names=names, root_path=root_path, sign_on=sign_on, limits=Limits(watchers=watchers)
    )
    state = ServiceState.open(settings.database)
    service = Service(settings, state, Jobs())
    app = create_app(service, settings, tokens=tokens)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    taken = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Server(f"http://{name or '127.0.0.1'}:{taken}", service, runs, state)
    finally:
        app.state.streams.close()
        server.should_exit = True
        thread.join(timeout=20)
        state.close()
