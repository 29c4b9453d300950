"""The errors that predictors raise for their users."""


class PredictorError(Exception):
    """Base of all errors of this package; the text says what came, what was expected and what to do."""
