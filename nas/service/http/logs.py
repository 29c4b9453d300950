"""Structured logs: one line of JSON for each record."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
"""Attributes of every record; others are extra fields: a run, a request, ..."""
_MINUTE_S = 60.0


class JsonLines(logging.Formatter):
    """Time, level, logger and text of a record, and its extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _OWN and name[0] != "_"}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class Throttle(logging.Filter):
    """Limits warnings and errors of each place in the code to some per minute; the next line has the number of omitted ones.

    Clients cause warnings, with tracebacks where the system has no more files: without a limit they would fill the disk.

    Args:
        max_per_minute: Records of one place in the code that pass in a minute.
        clock: Seconds, of any origin.
    """

    def __init__(self, max_per_minute: int = 20, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._max_per_minute, self._clock, self._lock = max_per_minute, clock, threading.Lock()
        self._places: dict[tuple[str, int], tuple[float, int]] = {}  # the minute's begin, and its lines

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        place, now = (record.pathname, record.lineno), self._clock()
        with self._lock:
            begun, n = self._places.get(place, (now, 0))
            omitted = 0
            if now - begun >= _MINUTE_S:
                begun, n, omitted = now, 0, max(0, n - self._max_per_minute)
            self._places[place] = (begun, n + 1)
        if omitted:
            record.omitted = omitted
        return n < self._max_per_minute


def log_to_stderr(level: str) -> None:
    """Sends all logs of this process to stderr as JSON lines, those of this project from a level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(Throttle())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("nas").setLevel(level.upper())
