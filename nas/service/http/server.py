"""The server process: one for each runs folder, with its socket, signals and parts."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn
from starlette.types import ASGIApp

from nas.engine.store.postgres import parse_url
from nas.errors import ServiceError
from nas.service.file_permissions import UMASK, close_files, make_private, write_secret
from nas.service.http.app import create_app
from nas.service.http.connections import BACKLOG, BoundedProtocol, OpenConnections, listening
from nas.service.http.tokens import Tokens
from nas.service.jobs.dispatcher import Dispatcher
from nas.service.jobs.ray_head import RayHead, cluster_of
from nas.service.jobs.ray_jobs import RayJobs
from nas.service.ownership import Ownership
from nas.service.pages.rendering import prepare
from nas.service.path_privacy import PathPrivacy
from nas.service.server_lock import exclusive
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from nas.service.state import ServiceState
from nas.service.uploads.deletion import remove, stale_files
from nas.service.views.event_stream import EventStreams
from nas.service.views.run_index import RunIndex
from nas.service.webhooks import Webhooks

_ACCEPTED = 64
"""Connections that are accepted before they are counted."""
_OPEN_FILES = 65_536
_OTHER_FILES = 256
"""Open files beside connections: those that are accepted, and those of runs, uploads and libraries."""
_KEEP_ALIVE_S = 20
_SWITCH_S = 0.0005
"""Switch interval of threads: listing runs reads many small files, and after each may wait this long for event streams."""
_COLLECT = (50_000, 20, 20)
"""Thresholds of the garbage collector: a report of 10,000 networks has hundreds of thousands of objects, and with Python's 700
a quarter of the time of reading it would be collection."""
_GRACE_S = 10
"""For open requests when the server ends."""

logger = logging.getLogger(__name__)


def serve(settings: ServiceSettings, announce: Callable[[str], None]) -> None:
    """Answers requests until SIGTERM or Ctrl-C; jobs continue without it.

    Args:
        announce: called with the URL once connections are accepted.

    Raises:
        ServiceError: another server has the runs folder, the address is in use, or there is no token where one is needed.
        StoreError: the runs folder cannot be written, or the URL of the run store is invalid.
    """
    if settings.store is not None:
        parse_url(settings.store)
    settings.runs.check_writable()
    make_private(settings.folder)
    tokens = Tokens(settings.tokens_file)
    _check_tokens(settings, tokens)
    tls = _tls(settings)
    signal.signal(signal.SIGTERM, _interrupt)
    sys.setswitchinterval(_SWITCH_S)
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        stack.callback(os.umask, os.umask(UMASK))
        stack.enter_context(exclusive(settings))
        opened = stack.enter_context(listening(settings))
        state = ServiceState.open(settings.database)
        stack.callback(state.close)
        threading.Thread(target=close_files, args=(settings,), name="permissions", daemon=True).start()
        settings = Ownership(settings, state).visible(settings)
        remove(stale_files(settings, state))
        cluster = cluster_of(settings)
        index = RunIndex(settings.runs, state.submitted_kind, hide_paths=PathPrivacy(settings))
        jobs = RayJobs(cluster.ready, password_file=_password_file(settings))
        webhooks = Webhooks(settings, state, address=_url(settings, opened) + settings.root_path)
        dispatcher = Dispatcher(
            settings, state, jobs, address=lambda: cluster.ready().address, index=index, ended=webhooks.run_ended
        )
        service = Service(
            settings,
            state,
            jobs,
            index=index,
            run_queue=dispatcher.queue,
            wake=dispatcher.wake,
            problem=lambda: dispatcher.problem,
            driver_deaths=lambda: dispatcher.driver_deaths,
        )
        app = create_app(service, settings, tokens=tokens)
        server = _Server(uvicorn_config(app, settings.limits, tls), app.state.streams)
        ray_head = [cluster] if isinstance(cluster, RayHead) else []
        for rounds in (*ray_head, webhooks, service.retention, dispatcher):
            rounds.start()
            stack.callback(rounds.close)
        gc.freeze()  # these objects stay
        gc.set_threshold(*_COLLECT)
        threading.Thread(target=prepare, daemon=True).start()
        threading.Thread(target=service.runs.warm, name="warm-up", daemon=True).start()
        announce(_url(settings, opened))
        logger.info("serving", extra={"url": _url(settings, opened), "runs": str(settings.runs.root)})
        server.run(sockets=[opened])


class _Server(uvicorn.Server):
    """Accepts a few connections at a time, and closes event streams on shutdown, which would otherwise wait for them."""

    def __init__(self, config: uvicorn.Config, streams: EventStreams) -> None:
        super().__init__(config)
        self._streams = streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for opened in sockets or ():
            opened.listen(BACKLOG)  # those that wait in the kernel need no file; asyncio has one number for both

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._streams.close()
        await super().shutdown(sockets)


def uvicorn_config(app: ASGIApp, limits: Limits, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    """How uvicorn serves an application: over limited connections, with TLS where there is a context."""
    max_connections = min(limits.connections, max(_OTHER_FILES, open_files() - _OTHER_FILES))
    if max_connections < limits.connections:
        text = "at most %d connections at once: the limit of open files is low; raise it (LimitNOFILE, ulimit -Hn)"
        logger.warning(text, max_connections)
    connections = OpenConnections(max_connections, min(limits.connections_per_address, max_connections // 2))
    return uvicorn.Config(
        app,
        http=partial(BoundedProtocol, connections=connections, limits=limits, tls=tls),  # type: ignore[arg-type]
        loop="asyncio",  # uvloop, which uvicorn takes where it is installed, has another TLS below the protocol
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # clients could claim any address with them
        backlog=_ACCEPTED,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


def open_files() -> int:
    """The limit of open files of this process, after raising it as far as is allowed and useful."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _OPEN_FILES if soft == resource.RLIM_INFINITY else soft


def _check_tokens(settings: ServiceSettings, tokens: Tokens) -> None:
    now = time.time()
    if settings.needs_token and settings.sign_on is None and not any(token.valid(now) for token in tokens.entries()):
        text = f"{settings.host} can be reached from other machines, so clients need a token; make one: nas token make NAME"
        raise ServiceError(f"{text} --role administrator --runs {settings.runs.root}", code="token.missing")


def _tls(settings: ServiceSettings) -> ssl.SSLContext | None:
    """The context of the server's certificate; None without one."""
    if settings.certificate is None or settings.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        text = f"the certificate {settings.certificate} and the key {settings.key} cannot be used: {error}; expected PEM files"
        raise ServiceError(f"{text} that belong together", code="server.certificate-unusable") from None
    return context


def _password_file(settings: ServiceSettings) -> Path | None:
    """The file from which jobs take the passwords of database servers; None where they need none, or have ~/.pgpass.

    A password of the environment is written into a file of this user alone.
    """
    if password := os.environ.get("PGPASSWORD"):
        escaped = password.replace("\\", r"\\").replace(":", r"\:")
        write_secret(settings.password_file, f"*:*:*:*:{escaped}\n")
        return settings.password_file
    path = os.environ.get("PGPASSFILE")
    return None if path is None else Path(path).absolute()


def _url(settings: ServiceSettings, opened: socket.socket) -> str:
    scheme = "http" if settings.certificate is None else "https"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{opened.getsockname()[1]}"


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
