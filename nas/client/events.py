"""Server-sent events, as the HTML standard (9.2.6) has them parsed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nas.errors import ServiceError

MAX_BYTES = 1024 * 1024
"""Of one event; a server that sends more is none of ours."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream.

    Attributes:
        kind: ``message`` where the server named none.
        id: of the last event that had one, to go on after; "" for none.
        retry_ms: how long to wait before connecting again, where the server said so.
    """

    data: str
    kind: str
    id: str
    retry_ms: int | None


def parse_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """The events in a stream; one that the stream ends in the middle of is dropped.

    Args:
        chunks: pieces of the stream, cut anywhere.

    Raises:
        ServiceError: an event is larger than `MAX_BYTES`.
    """
    data: list[str] = []
    kind, last, retry, size = "", "", None, 0
    for line in _lines(chunks):
        if not line:
            if data:
                yield Event("\n".join(data), kind or "message", last, retry)
            data, kind, size = [], "", 0
            continue
        size += len(line)
        if size > MAX_BYTES:
            raise ServiceError(f"an event of more than {MAX_BYTES} bytes; expected the progress of a run")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last = value
        elif name == "retry" and value.isascii() and value.isdigit():
            retry = int(value)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines that end in CR LF, LF or CR, as they are completed. Not `str.splitlines`, which ends lines at more than these."""
    rest, ended_in_cr = bytearray(), False
    for chunk in chunks:
        if ended_in_cr and chunk[:1] == b"\n":  # the other half of the last line's end
            chunk = chunk[1:]
        ended_in_cr = chunk[-1:] == b"\r" or (ended_in_cr and not chunk)
        rest += chunk
        if len(rest) > MAX_BYTES and not {10, 13} & set(rest[-len(chunk) :]):
            raise ServiceError(f"a line of more than {MAX_BYTES} bytes; expected the progress of a run")
        *whole, tail = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest = bytearray(tail)
        for line in whole:
            yield line.decode(errors="replace")
