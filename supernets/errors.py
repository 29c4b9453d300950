"""The errors that supernets raise for their users."""


class SupernetError(Exception):
    """Base of all errors of this package; the text says what came, what was expected and what to do."""


class SpaceError(SupernetError):
    """A search space or an architecture does not make sense."""


class DataError(SupernetError):
    """A data set is missing, empty or unfit for training."""


class CheckpointError(SupernetError):
    """A checkpoint is missing, damaged or belongs to another supernet."""


class TrainingError(SupernetError):
    """Training cannot go on (for instance, the loss is not finite)."""


class ExportError(SupernetError):
    """A subnet could not be written as ONNX."""


class LoweringError(SupernetError):
    """A module holds an operation that the walk of `supernets.graph` cannot write as ONNX nodes."""
