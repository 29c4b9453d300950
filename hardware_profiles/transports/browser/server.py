"""The HTTP server that browsers measure with: the page, the runtime's files, and the exchange with the boards."""

from __future__ import annotations

import atexit
import ipaddress
import json
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from hardware_profiles.errors import ProfileError
from hardware_profiles.transports.browser import messages
from hardware_profiles.transports.browser.board import BrowserBoard, RefusedError
from hardware_profiles.transports.browser.messages import MessageError
from hardware_profiles.transports.browser.runtime_files import FILES, installed_folder

LISTEN, TLS = "NAS_BROWSER_LISTEN", "NAS_BROWSER_TLS"
"""Environment variables: the address to listen on, as HOST:PORT, and a file with a certificate and its key."""
_DEFAULT_LISTEN = "127.0.0.1:0"
_MAX_CONNECTIONS = 64
_SOCKET_S, _POLL_S = 20.0, 5.0
_PAGE = Path(__file__).with_name("page")
_PAGE_FILES = {"/": "index.html", "/page.js": "page.js", "/measuring.js": "measuring.js"}
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
}
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_BEARER = re.compile(r"Bearer ([A-Za-z0-9_-]{20,80})")


class BrowserServer:
    """Serves the browsers of this process, in threads of its own.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        tls: File with a certificate and its key; None serves plain HTTP.

    Raises:
        ProfileError: the address is in use, the certificate cannot be read, or the runtime's files are missing.
    """

    def __init__(self, host: str, port: int, tls: Path | None = None) -> None:
        self._boards: dict[str, BrowserBoard] = {}
        runtime = installed_folder()
        files = {path: _PAGE / name for path, name in _PAGE_FILES.items()}
        self.files: Mapping[str, Path] = {**files, **{f"/runtime/{name}": runtime / name for name in FILES}}
        try:
            self._server = _Server((host, port), self)
            if tls is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(tls)
                self._server.socket = context.wrap_socket(
                    self._server.socket, server_side=True, do_handshake_on_connect=False
                )
        except OSError as error:
            message = f"the server of browsers cannot start on {host}:{port}: {error.strerror or error}"
            raise ProfileError(f"{message}; check {LISTEN} and {TLS}", code="profile.browser-server") from None
        shown = _reachable_address() if host in ("0.0.0.0", "::") else host
        self.secure = tls is not None or _is_loopback(shown)
        self.address = f"{'http' if tls is None else 'https'}://{shown}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def board(self, name: str) -> BrowserBoard:
        """The board of a profile, which is made when it is first needed."""
        return self._boards.setdefault(name, BrowserBoard(name))

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()

    def join(self, data: Any) -> dict[str, Any]:
        """Begins a visit of a page, which shows a code or its token.

        Raises:
            RefusedError: it shows neither a valid code nor the token of a paired browser.
        """
        request = messages.mapping(data, ("device",), ("code", "token"))
        device = messages.device(request["device"])
        code = messages.text(request.get("code", ""), "code", max_length=40)
        token = messages.text(request.get("token", ""), "token", max_length=80)
        boards = list(self._boards.values())
        for board in boards:
            if token and board.recognises(token):
                return board.join(device, by_code=False)
        for board in boards:
            if code and board.accepts(code):
                return board.join(device, by_code=True)
        raise RefusedError(403, "the code was used, is older than ten minutes, or is wrong")

    def board_of(self, token: str) -> BrowserBoard:
        """The board of the browser with this token."""
        for board in list(self._boards.values()):
            if board.recognises(token):
                return board
        raise RefusedError(403, "this browser is not paired")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], served: BrowserServer) -> None:
        self.served, self._free = served, threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that end early are no event of the driver."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "subnet-nas", ""
    timeout = _SOCKET_S
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    def do_GET(self) -> None:
        file = self.server.served.files.get(self.path)
        if file is None:
            return self._send(HTTPStatus.NOT_FOUND, b"", "text/plain")
        return self._send(HTTPStatus.OK, file.read_bytes(), _KINDS[file.suffix])

    def do_POST(self) -> None:
        try:
            action = self._ACTIONS.get(self.path)
            if action is None:
                raise RefusedError(404, "there is nothing here")
            answer = action(self, messages.parse(self._body()))
        except RefusedError as error:
            return self._send_json(error.status, {"message": str(error)})
        except MessageError as error:
            return self._send_json(400, {"message": str(error)})
        if isinstance(answer, bytes):
            return self._send(HTTPStatus.OK, answer, "application/octet-stream")
        return self._send_json(200, answer)

    def _body(self) -> bytes:
        origin, host = self.headers.get("Origin"), self.headers.get("Host", "")
        length = self.headers.get("Content-Length", "")
        self.close_connection = True  # unless the body is read
        if origin is not None and origin.partition("://")[2] != host:
            raise RefusedError(403, "requests of other sites are refused")
        if not length.isdigit() or len(length) > 12:
            raise RefusedError(411, "a request needs its length")
        if int(length) > messages.MAX_BODY:
            raise RefusedError(413, f"{length} bytes; expected at most {messages.MAX_BODY}")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise MessageError("the request is shorter than its length")
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        return body

    def _join(self, data: Any) -> dict[str, Any]:
        return self.server.served.join(data)

    def _command(self, data: Any) -> bytes | dict[str, Any]:
        board, visit = self._visit(data)
        return board.command(visit, _POLL_S) or {}

    def _answer(self, data: Any) -> dict[str, Any]:
        board, visit = self._visit(data, "command", "answer")
        board.answer(visit, messages.integer(data["command"], "command", 1, 2**53), data["answer"])
        return {}

    def _beat(self, data: Any) -> dict[str, Any]:
        board, visit = self._visit(data, "visible", "left")
        board.beat(visit, visible=messages.flag(data["visible"], "visible"), left=messages.flag(data["left"], "left"))
        return {}

    def _visit(self, data: Any, *keys: str) -> tuple[BrowserBoard, int]:
        bearer = _BEARER.fullmatch(self.headers.get("Authorization", ""))
        if bearer is None:
            raise RefusedError(403, "this browser is not paired")
        board = self.server.served.board_of(bearer[1])
        return board, messages.integer(messages.mapping(data, ("visit", *keys))["visit"], "visit", 1, 2**53)

    _ACTIONS: ClassVar[Mapping[str, Callable[[_Handler, Any], bytes | dict[str, Any]]]] = {
        "/join": _join,
        "/command": _command,
        "/answer": _answer,
        "/beat": _beat,
    }

    def _send_json(self, status: int, value: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@cache
def running_server() -> BrowserServer:
    """The server of this process, which starts with the first call.

    Raises:
        ProfileError: the environment variables are malformed, or it cannot start.
    """
    host, _, port = os.environ.get(LISTEN, _DEFAULT_LISTEN).rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        message = f"{LISTEN}: expected HOST:PORT, such as 0.0.0.0:8443, got {os.environ.get(LISTEN)!r}"
        raise ProfileError(message, code="profile.browser-server")
    tls = os.environ.get(TLS)
    server = BrowserServer(host, int(port), Path(tls) if tls else None)
    atexit.register(server.close)
    return server


def _reachable_address() -> str:
    """This machine's address in its network; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of documentation, which no network has
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
