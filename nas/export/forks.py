"""Calls in forks of this process: they have all that was read and loaded here."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any, Generic, TypeVar

from nas.errors import NasError

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Fork(Generic[ResultT]):
    """A call that another process is at."""

    _process: ForkProcess
    _connection: Connection

    def send(self, more: Any) -> None:
        """Gives the called function what it receives by its connection."""
        self._connection.send(more)

    def result(self) -> ResultT:
        """Waits for what the function returns. Of each call, once.

        Raises:
            NasError: the process was killed.
            Exception: whatever the function raises.
        """
        result: ResultT
        try:
            result, error = self._connection.recv()
        except EOFError:
            self._process.join()
            raise NasError(
                f"a process that helped this one ended early (exit code {self._process.exitcode}), perhaps for want of "
                "memory; try again"
            ) from None
        if error is not None:
            raise error
        return result


@contextmanager
def forked(function: Callable[[Connection], ResultT]) -> Iterator[Fork[ResultT]]:
    """A context in which a fork of this process calls a function; its end is the fork's, and so is that of this process.

    For a command that has one thread: a process in which others run, holding locks, must not be forked.

    Args:
        function: called with a connection, by which it receives what `Fork.send` is given.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_call, args=(function, ours, theirs))
    process.start()
    theirs.close()
    try:
        yield Fork(process, ours)
    finally:
        ours.close()
        process.terminate()
        process.join()


def _call(function: Callable[[Connection], object], ours: Connection, theirs: Connection) -> None:
    ours.close()  # or the other process' end would not be seen here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C, the process that waits for this one tells
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # and so ends the forks that this one has made
    outcome: tuple[object, Exception | None]
    try:
        outcome = function(theirs), None
    except Exception as error:
        error.add_note(f"In the process that helped:\n{traceback.format_exc()}")
        outcome = None, error
    with suppress(BrokenPipeError):  # nobody waits any more
        theirs.send(outcome)
