"""The errors that profiling raises for its users."""


class ProfilingError(Exception):
    """Base of all errors of this package; the message says what came, what was expected and what to do.

    Attributes:
        code: stable identifier of the kind of error, e.g. ``profile.unknown``; each class has a default,
            which a raise may replace by a more specific one.
    """

    code = "profiling.error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ProfileError(ProfilingError):
    """A hardware profile is unknown, malformed, or asks for what this machine does not have."""

    code = "profile.invalid"


class WorkerError(ProfilingError):
    """The measuring process cannot start, or died and cannot be restarted."""

    code = "worker.failed"


class ModelError(ProfilingError):
    """A file is no ONNX model, or the runtime refuses it."""

    code = "model.invalid"


class PrecisionError(ProfilingError):
    """A model cannot be had in a precision, or a provider does not run it."""

    code = "precision.unavailable"
