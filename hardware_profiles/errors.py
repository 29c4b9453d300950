"""The errors that profiling raises for its users."""


class ProfilingError(Exception):
    """Base of all errors of this package; the text says what came, what was expected and what to do."""


class ProfileError(ProfilingError):
    """A hardware profile is unknown, malformed, or asks for what this machine does not have."""


class WorkerError(ProfilingError):
    """The measuring process cannot start, or died and cannot be restarted."""


class ModelError(ProfilingError):
    """A file is no ONNX model, or the runtime refuses it."""


class PrecisionError(ProfilingError):
    """A model cannot be had in a precision, or a provider does not run it."""
