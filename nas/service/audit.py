"""The audit log: who did what to which thing, when and from which address, as lines of JSON."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from nas.errors import StoreError

_MAX_BYTES = 4 * 2**20
"""Of a file; an entry takes some 200."""
_MAX_TEXT = 200
"""Characters of an action or a thing, which may be any path that a client asks for."""
_MAX_FILES = 6
"""The present one and those before it."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change that a person made or was denied.

    Attributes:
        time: seconds since the epoch.
        who: name of the token, or for a command that of the operating system's user; "" for the local user, and without a valid
            token.
        role: of that person; "" without a valid token.
        action: e.g. ``cancel run``.
        thing: the name of what was changed or made; "" for none, e.g. of a job that was rejected.
        outcome: ``done``, ``denied`` or ``failed``.
        status: of the response; 0 for a command.
        address: of the client; "" for a command.
        request: the id of the request in the server's log.
    """

    time: float
    who: str
    role: str
    action: str
    thing: str
    outcome: str
    status: int = 0
    address: str = ""
    request: str = ""

    def matches(self, *, who: str = "", action: str = "", thing: str = "", outcome: str = "") -> bool:
        """True if the entry is of this person and outcome, and its action and thing contain these words; "" for any."""
        is_of = who in ("", self.who) and outcome in ("", self.outcome)
        return is_of and action.lower() in self.action and thing.lower() in self.thing.lower()


class AuditLog:
    """The audit log of one server, in files that only its user can read. Several threads and processes may write it.

    A full file becomes ``audit.1.jsonl``, the one before it ``audit.2.jsonl``, and so on; the oldest is removed.

    Args:
        path: of the present file.
        max_bytes: of a file.
        max_files: the present one among them.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = _MAX_BYTES,
        max_files: int = _MAX_FILES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._max_bytes, self._clock = path, max_bytes, clock
        self._files = [path, *(path.with_suffix(f".{number}{path.suffix}") for number in range(1, max_files))]

    def record(self, who: str, role: str, action: str, thing: str, outcome: str = "done", **details: int | str) -> None:
        """Writes an entry with the present time.

        Raises:
            StoreError: it cannot be written.
        """
        short_action, short_thing = action[:_MAX_TEXT], thing[:_MAX_TEXT]
        entry = AuditEntry(self._clock(), who, role, short_action, short_thing, outcome, **details)  # type: ignore[arg-type]
        line = json.dumps(asdict(entry), separators=(",", ":")).encode() + b"\n"
        try:
            with self._locked():
                if self._path.exists() and self._path.stat().st_size + len(line) > self._max_bytes:
                    self._rotate()
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                with open(descriptor, "ab", buffering=0) as file:
                    file.write(line)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be written: {error.strerror}", code="file.not-writable") from None

    def lines(self) -> Iterator[bytes]:
        """The lines of all files, the oldest first."""
        for path in reversed(self._files):
            try:
                with path.open("rb") as file:
                    yield from file
            except FileNotFoundError:
                continue

    def entries(self) -> list[AuditEntry]:
        """All entries, the newest first; a line that was cut off by a full disk is left out."""
        entries = []
        for line in self.lines():
            try:
                entries.append(AuditEntry(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return entries[::-1]

    def _rotate(self) -> None:
        for newer, older in reversed(list(zip(self._files, self._files[1:], strict=False))):
            if newer.exists():
                newer.replace(older)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
