"""The errors that predictors raise for their users."""


class PredictorError(Exception):
    """Base of all errors of this package; the message says what came, what was expected and what to do.

    Attributes:
        code: stable identifier of the kind of error, e.g. ``predictor.too-few-rows``; each class has a default,
            which a raise may replace by a more specific one.
    """

    code = "predictor.invalid"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
