"""The errors that supernets raise for their users."""

HOW_TO_ADD_A_FAMILY = "docs/how-to/extending/family.md"
"""The page that messages about families of plug-ins name."""


class SupernetError(Exception):
    """Base of all errors of this package; the message says what happened, what was expected and what to do.

    Attributes:
        code: stable identifier of the kind of error, e.g. ``data.missing``; each class has a default,
            which a raise may replace by a more specific one.
        parameter: name of the argument that is wrong, where the message begins with it; else "".
    """

    code = "supernet.error"

    def __init__(self, message: str, *, code: str | None = None, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter
        if code is not None:
            self.code = code


class SpaceError(SupernetError):
    """A search space, an architecture or a way of sharing weights is invalid."""

    code = "space.invalid"


class DimensionError(SpaceError):
    """A dimension of a space is missing, or its value makes no network.

    Attributes:
        dimension: Name of the dimension, which is a key of a job file.
        text: Description of the problem.
    """

    code = "space.invalid-dimension"

    def __init__(self, dimension: str, text: str, *, code: str | None = None) -> None:
        super().__init__(f"{dimension}: {text}", code=code)
        self.dimension, self.text = dimension, text


class DataError(SupernetError):
    """A data set is missing, empty or unfit for training."""

    code = "data.invalid"


class CheckpointError(SupernetError):
    """A checkpoint or a pretrained network is missing, damaged or of another supernet."""

    code = "checkpoint.invalid"


class TrainingError(SupernetError):
    """Training cannot continue (for instance, the loss is not finite)."""

    code = "training.failed"


class ExportError(SupernetError):
    """A subnet could not be written as ONNX."""

    code = "export.unsupported"


class LoweringError(SupernetError):
    """`supernets.networks.onnx_graph` cannot write a module as ONNX nodes."""

    code = "export.unknown-operation"


class CaptureError(SupernetError):
    """A user's module cannot be captured as data."""

    code = "capture.failed"
