"""Pairing and presence of a browser: one device per profile, which returns, and others never take its place."""

from __future__ import annotations

import io

import numpy as np
import pytest

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ConnectionLostError, UnreachableError
from hardware_profiles.transports.browser.board import CODE_MINUTES, MAX_WRONG_CODES, PRESENT_S, BrowserBoard
from hardware_profiles.transports.browser.connection import connect_by_browser
from hardware_profiles.transports.browser.messages import device
from hardware_profiles.transports.browser.server import BrowserServer
from tests.hardware_profiles.transports.browser.visitor import DEVICE, Visitor

PROFILE = HardwareProfile("phone", browser=True, provider="wasm")


def connect_code(server: BrowserServer) -> str:
    """The code that a first attempt to connect announces."""
    announced: list[str] = []
    with pytest.raises(UnreachableError, match="no browser has opened its page"):
        connect_by_browser(PROFILE, announce=announced.append)
    assert server.address in announced[0]
    return announced[0].partition("#")[2].split()[0]


def test_a_code_pairs_one_device_which_returns_by_its_token(server: BrowserServer) -> None:
    code = connect_code(server)
    phone, other = Visitor(server.address), Visitor(server.address, key="f" * 32)
    assert phone.join(code=code).status_code == 200
    connection = connect_by_browser(PROFILE)
    assert other.join(code=code).status_code == 403  # it was used
    assert other.join(token=phone.token).status_code == 403  # it says of itself that it is another
    with pytest.raises(UnreachableError, match="differs from it"):
        connect_by_browser(PROFILE)
    assert phone.join(token=phone.token).status_code == 200
    with pytest.raises(ConnectionLostError, match="loaded again"):
        connection.send({"do": "acquire", "lock": "", "seconds": 1})
    connect_by_browser(PROFILE)


def test_a_reload_a_closed_and_a_hidden_page_lose_the_connection(server: BrowserServer) -> None:
    phone = Visitor(server.address)
    phone.join(code=connect_code(server))
    for end, reason in (
        (lambda: phone.join(token=phone.token), "loaded again"),
        (lambda: phone.beat(left=True), "closed"),
        (lambda: phone.beat(visible=False), "background"),
    ):
        connection = connect_by_browser(PROFILE)
        connection.send({"do": "release"})
        end()
        with pytest.raises(ConnectionLostError, match=reason):
            connection.receive(seconds=5)
        connection.close()
        phone.beat()


def test_a_page_that_is_not_isolated_is_refused_and_keeps_the_code(server: BrowserServer) -> None:
    code, phone = connect_code(server), Visitor(server.address)
    coarse = Visitor(server.address, isolated=False)
    assert "https" in coarse.join(code=code).json()["message"]
    with pytest.raises(UnreachableError, match="not from a secure address"):
        connect_by_browser(PROFILE)
    assert phone.join(code=code).status_code == 200


def test_a_code_ends_after_ten_minutes_and_after_many_wrong_ones() -> None:
    now = [0.0]
    board = BrowserBoard("phone", clock=lambda: now[0])
    code = board.new_code()
    assert board.new_code() == ""
    assert board.accepts(code)
    now[0] = 60 * CODE_MINUTES
    assert not board.accepts(code)
    replacement = board.new_code()
    assert replacement not in ("", code)
    for _ in range(MAX_WRONG_CODES):
        assert not board.accepts(code)
    assert not board.accepts(replacement)


def test_a_page_that_says_nothing_is_away() -> None:
    now = [0.0]
    board = BrowserBoard("phone", clock=lambda: now[0])
    assert board.away() == "no browser has opened its page"
    board.join(device(DEVICE), by_code=True)
    assert board.away() == ""
    now[0] = PRESENT_S + 1
    assert board.away() == "its page is not heard of"


def test_the_page_gets_a_model_with_its_inputs_and_short_runs_are_timed_together(server: BrowserServer) -> None:
    phone = Visitor(server.address)
    phone.join(code=connect_code(server))
    connection = connect_by_browser(PROFILE)
    stored, image = io.BytesIO(), np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.savez(stored, image)
    connection.send({"do": "load", "id": "0", "names": [["x"]]}, [b"model", stored.getvalue()])
    command = phone.command()
    assert command["calls"] == [[{"name": "x", "type": "float32", "dims": [1, 2, 3]}]]
    assert command["content"] == b"model" + image.tobytes()
    phone.answer(command["command"], {"event": "loaded", "warm_ms": 0.05, "session_ms": [9.0, 3.0]})
    assert connection.receive(seconds=1)["warm_ms"] == 0.05
    connection.send({"do": "round", "order": [("0", 80)]})
    command = phone.command()
    assert command["order"] == [["0", 8, 10]]  # 8 times of 10 runs of 0.05 ms: half a millisecond each
    phone.answer(command["command"], {"event": "round", "entries": {"0": {"wall_ms": [0.5] * 8}}})
    assert connection.receive(seconds=1)["entries"]["0"]["wall_ms"] == pytest.approx([0.05] * 8)
