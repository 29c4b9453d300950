"""Errors of latency profiling, each with a stable code."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from hardware_profiles.waiting import Wait


class ProfilingError(Exception):
    """Base of all errors of this package. A raise may replace the class's code by a more specific one."""

    code = "profiling.error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ProfileError(ProfilingError):
    """A hardware profile is unknown, malformed, or asks for what its machine does not have."""

    code = "profile.invalid"


class UnreachableError(ProfileError):
    """The ssh host does not answer, or no node of the Ray cluster offers the resource.

    Attributes:
        doubtful: True if a mistake in the profile gives the same error, so that waiting only helps where the machine was
            reached before.
        profile: Name of the profile.
        reason: What happened, in a few words.
        wait: The wait that ended without an answer; None where there was none.
    """

    code = "profile.unreachable"
    wait: Wait | None = None

    def __init__(
        self, message: str, *, profile: str, reason: str, code: str | None = None, doubtful: bool = False
    ) -> None:
        super().__init__(message, code=code)
        self.profile, self.reason, self.doubtful = profile, reason, doubtful


class WorkerError(ProfilingError):
    """The measuring process cannot start, or died and cannot be restarted."""

    code = "worker.failed"


class WorkerDiedError(WorkerError):
    """The measuring process ended, or gave no answer in time and was ended.

    Attributes:
        suspects: indices of the graphs that it was working on; empty where none can be to blame.
    """

    code = "worker.died"
    suspects: tuple[int, ...] = ()


class ConnectionLostError(WorkerDiedError):
    """The connection to the measuring process broke, or its machine failed; no model is to blame."""

    code = "worker.connection-lost"


class ModelError(ProfilingError):
    """A file is no ONNX model, or the runtime refuses it."""

    code = "model.invalid"


class PrecisionError(ProfilingError):
    """A model cannot be converted to a precision, or a provider does not run it."""

    code = "precision.unavailable"


class LookupTableError(ProfilingError):
    """A lookup table's file is damaged, unfinished, or of another format, protocol, profile or machine."""

    code = "lookup-table.invalid"


def suggestion(name: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` with the known name nearest to a misspelt one; empty if none is near."""
    near = get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
