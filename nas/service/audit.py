"""The audit log: who did what to which thing, when and from which address, as lines of JSON."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from nas.errors import StoreError
from nas.service.api.schemas import AuditEntry, AuditPage, AuditQuery
from nas.service.file_permissions import locked

_MAX_BYTES = 4 * 2**20
"""Of a file; an entry takes some 200."""
_MAX_TEXT = 200
"""Characters of an action or a thing, which may be any path that a client asks for."""
_MAX_FILES = 6
"""The present one and those before it."""


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
        entry = {
            "time": self._clock(),
            "who": who,
            "role": role,
            "action": action[:_MAX_TEXT],
            "thing": thing[:_MAX_TEXT],
        }
        entry |= {"outcome": outcome, "status": 0, "address": "", "request": "", **details}
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        try:
            with locked(self._path.with_suffix(".lock")):
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
            with suppress(ValidationError):
                entries.append(AuditEntry.model_validate_json(line))
        return entries[::-1]

    def page(self, query: AuditQuery) -> AuditPage:
        """Some of the entries that match, the newest first; a person and an outcome match as a whole, other words in part."""
        matches = [
            entry
            for entry in self.entries()
            if query.who in ("", entry.who)
            and query.outcome in (None, entry.outcome)
            and query.action.lower() in entry.action
            and query.thing.lower() in entry.thing.lower()
        ]
        page = matches[query.offset : query.offset + query.limit]
        return AuditPage(total=len(matches), offset=query.offset, entries=tuple(page))

    def _rotate(self) -> None:
        for newer, older in reversed(list(zip(self._files, self._files[1:], strict=False))):
            if newer.exists():
                newer.replace(older)
