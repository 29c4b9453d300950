"""A server in this process: the true application behind a true socket, its jobs run by nobody."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from nas.service.http.app import create_app
from nas.service.service import Service


@contextmanager
def served(service: Service, *, port: int = 0) -> Iterator[str]:
    """The URL of a server that answers for a service.

    Args:
        port: 0 takes a free one.
    """
    app = create_app(service, service.settings)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            app.state.streams.close()
            server.should_exit = True
            thread.join()
