"""A fork's call: its result, its errors, and its end with the process that waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from nas.errors import NasError, UnknownNameError
from nas.visualization.forks import forked


def test_the_function_is_called_in_another_process_with_what_is_sent() -> None:
    with forked(lambda connection: (os.getpid(), connection.recv() + connection.recv())) as fork:
        fork.send(2)
        fork.send(3)
        process, total = fork.result()
    assert total == 5
    assert process != os.getpid()
    assert not is_there(process)


def test_an_error_is_raised_where_the_result_is_wanted_and_tells_where_it_came_from() -> None:
    def wrong(connection: Connection) -> None:
        raise LookupError(f"nothing to draw of {connection.recv()}")

    with forked(wrong) as fork:
        fork.send("this")
        with pytest.raises(LookupError, match="nothing to draw of this") as caught:
            fork.result()
    assert "In the process that helped" in caught.value.__notes__[0]
    assert "in wrong" in caught.value.__notes__[0]


@pytest.mark.parametrize("when", ["before", "unread", "received", "sending"])
def test_a_killed_fork_is_told(when: str) -> None:
    def killed(connection: Connection) -> None:
        if when in ("received", "sending"):
            connection.recv()
        if when == "sending":
            os.write(connection.fileno(), b"\x00\x00\x10\x00part of 4,096 bytes")
        if when == "unread":
            connection.poll(None)
        os.kill(os.getpid(), signal.SIGKILL)

    with forked(killed) as fork:
        if when == "before":
            fork._process.join()
        fork.send(bytes(10_000))
        with pytest.raises(NasError, match=r"ended early \(exit code -9\)"):
            fork.result()


def test_an_error_before_anything_is_received_is_the_one_that_is_told() -> None:
    def wrong(_: Connection) -> None:
        raise ImportError("no such library")

    with forked(wrong) as fork:
        fork._process.join()
        fork.send(bytes(1_000_000))
        with pytest.raises(ImportError, match="no such library"):
            fork.result()


def test_an_error_that_cannot_be_sent_is_told_in_its_words() -> None:
    def unknown(_: Connection) -> None:
        raise UnknownNameError("profile", "bord", ["board"])

    def odd(_: Connection) -> None:
        raise LookupError(lambda: None)

    with forked(unknown) as fork, pytest.raises(NasError, match="did you mean 'board'") as caught:
        fork.result()
    assert not hasattr(caught.value, "__notes__")  # the text says all that a user needs
    with forked(odd) as fork, pytest.raises(RuntimeError, match="LookupError: <function"):
        fork.result()


@pytest.mark.parametrize(
    "work", [lambda connection: connection.recv(), lambda _: time.sleep(600)], ids=["waits", "works"]
)
def test_a_fork_that_nobody_wants_any_more_is_ended(work: Callable[[Connection], object], tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def told(connection: Connection) -> object:
        begun.symlink_to(str(os.getpid()))  # whole at once
        return work(connection)

    def fail_meanwhile() -> None:
        with forked(told):
            eventually(begun.is_symlink)
            raise NasError("an error here")

    with pytest.raises(NasError, match="an error here"):
        fail_meanwhile()
    assert not is_there(int(begun.readlink().name))


def test_the_forks_of_a_fork_end_with_it(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def inner(_: Connection) -> None:
        begun.symlink_to(str(os.getpid()))
        time.sleep(600)

    def outer(_: Connection) -> None:
        with forked(inner) as fork:
            fork.result()

    with forked(outer):
        eventually(begun.is_symlink)
    assert not is_there(int(begun.readlink().name))


WAITING = """
import os, sys, time
from nas.visualization.forks import forked

def waits(connection):
    print(os.getpid(), flush=True)
    connection.recv()

with forked(waits) as fork:
    time.sleep(600)
"""


def test_a_fork_that_waits_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        fork = int(parent.stdout.readline())
        parent.kill()
        eventually(lambda: not is_there(fork))
        assert parent.stderr.read() == b""


def test_an_interrupt_is_left_to_the_parent() -> None:
    def interrupted(_: Connection) -> str:
        os.kill(os.getpid(), signal.SIGINT)  # as a terminal sends it to both
        return "went on"

    with forked(interrupted) as fork:
        assert fork.result() == "went on"


def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("not within a minute")


def is_there(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
