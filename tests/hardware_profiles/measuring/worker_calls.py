"""Commands to a worker process, as its tests send them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.measuring.session import _TRIVIAL as TRIVIAL
from hardware_profiles.transports.connection import LocalConnection
from nas.plugins.testing.onnx_networks import conv_net


def packed(*arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, *arrays)
    return file.getvalue()


NET = (conv_net(), packed(np.ones((1, 3, 16, 16), np.float32)))
"""A model and its inputs as the worker's payloads."""


def ask(connection: LocalConnection, payloads: Sequence[bytes] = (), **command: Any) -> dict[str, Any]:
    connection.send(command, payloads)
    return connection.receive(seconds=60)


def load(connection: LocalConnection, payloads: Sequence[bytes] = NET, *, n_calls: int = 1) -> dict[str, Any]:
    return ask(connection, payloads, do="load", id="0", names=[["x"]] * n_calls)


def start(connection: LocalConnection, threads: int = 1, provider: str = "CPUExecutionProvider") -> dict[str, Any]:
    started = ask(connection, do="start", threads=threads, provider=provider, trivial=TRIVIAL.hex())
    environment: dict[str, Any] = started["environment"]
    return environment
