"""Calls in forks of this process: they have all that was read and loaded here."""

from __future__ import annotations

import multiprocessing
import pickle
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
        with suppress(ConnectionError):  # it has ended: why, `result` tells
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
        except (EOFError, OSError):  # at its end, or within what it was sending
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
    """A context in which a fork of this process calls a function; its end is the fork's.

    Where this process is killed, the fork ends when it next receives or sends. For a command that has one thread: a process
    in which others run, holding locks, must not be forked.

    Args:
        function: called with a connection, by which it receives what `Fork.send` is given.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_call, args=(function, ours, theirs))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the fork does not ignore from the start
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
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
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # and so ends the forks that this one has made
    outcome: tuple[object, Exception | None]
    try:
        outcome = function(theirs), None
    except Exception as error:
        outcome = None, _sendable(error)
    with suppress(ConnectionError):  # nobody waits any more
        theirs.send(outcome)


def _sendable(error: Exception) -> Exception:
    """The error with where it was raised, or, where it could not be read at the other end, one that says the same."""
    note = f"In the process that helped:\n{''.join(traceback.format_exception(error))}"
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = (
            NasError(str(error)) if isinstance(error, NasError) else RuntimeError(f"{type(error).__name__}: {error}")
        )
    if not isinstance(error, NasError):  # whose text says all
        error.add_note(note)
    return error
