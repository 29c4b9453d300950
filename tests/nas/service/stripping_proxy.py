"""A reverse proxy that has a server below a path, which it removes from each request; all other paths are another site's."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_OF_A_CONNECTION = {"connection", "transfer-encoding", "keep-alive"}


@contextmanager
def stripping_proxy(server: str, path: str, *, port: int = 0) -> Iterator[str]:
    """The address of a proxy with a server below a path, without the path.

    Args:
        server: its URL.
        path: as ``/nas``.
        port: of the proxy; 0 for a free one.
    """
    behind = urlsplit(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            if not self.path.startswith(f"{path}/"):
                self.send_error(404, "another site")
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection = http.client.HTTPConnection("127.0.0.1", behind.port or 80)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_A_CONNECTION}
            connection.request(self.command, self.path.removeprefix(path), body or None, headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {*_OF_A_CONNECTION, "date", "server"}:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                while part := answer.read1(65536):
                    self.wfile.write(part)
                    self.wfile.flush()
            except OSError:  # the browser has left
                pass
            connection.close()

        do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, *args: object) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://{behind.hostname}:{proxy.server_port}"
        proxy.shutdown()
