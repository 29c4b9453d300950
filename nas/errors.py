"""The errors that the engine raises for its users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class NasError(Exception):
    """Base of all errors of this package; the message says what came, what was expected and what to do.

    Attributes:
        code: stable identifier of the kind of error, e.g. ``job.unknown-key``; each class has a default,
            which a raise may replace by a more specific one.
    """

    code = "nas.error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class JobError(NasError):
    """A job file is missing, is no YAML, or says something that cannot be done.

    Attributes:
        fields: what is wrong by field, as (path, text), where that is known: the path is e.g. ``search.evaluations``, or ""
            for the whole.
    """

    code = "job.invalid"

    def __init__(self, message: str, *, code: str | None = None, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, code=code)
        self.fields = tuple(fields)


class UnknownNameError(NasError):
    """A name (of a recipe, a run, an objective, ...) that nothing answers to.

    Attributes:
        kind: what it should be the name of, e.g. ``run``.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: str = "", hint: str = "") -> None:
        self.kind = kind
        known = list(known)
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        ask = f"; did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(known[:20]) if known else "none"
        prefix = f"{where}: " if where else ""
        tail = f" {hint}" if hint else ""
        super().__init__(
            f"{prefix}unknown {kind} {name!r}{ask} Known: {listed}.{tail}"
            if near
            else f"{prefix}unknown {kind} {name!r}. Known: {listed}.{tail}",
            code=f"{kind.replace(' ', '-')}.unknown",
        )


class StoreError(NasError):
    """A run's database is damaged, of another version, or cannot be written."""

    code = "store.unusable"


class OutdatedStoreError(StoreError):
    """A database has the tables of an earlier version, which whoever only reads does not change."""

    code = "store.outdated"


class StoreAwayError(StoreError):
    """The database server that a run's rows are on does not answer, or lets nobody in, now."""

    code = "store.unreachable"


class RunHeldError(StoreError):
    """Another live driver holds the run, or this driver was given up for dead and its lease taken over."""

    code = "run.held"


class SelectionError(NasError):
    """A `--select` expression is malformed or nothing satisfies it."""

    code = "selection.invalid"


class EvaluationError(NasError):
    """Evaluations failed in a way that ends the search."""

    code = "evaluation.failed"


class ClusterError(EvaluationError):
    """No Ray cluster answers where one was said to be."""

    code = "cluster.unreachable"


class ExportFailedError(NasError):
    """The exported file failed its check and was not written."""

    code = "export.failed"


class LoggerError(NasError):
    """What a run tells cannot be written to where `--log-to` says."""

    code = "logger.failed"


class ServiceError(NasError):
    """The service, or what runs its jobs, does not answer or refuses."""

    code = "service.unavailable"


class RunStateError(NasError):
    """Where a run stands does not allow what is asked for: it is being driven, has ended, or is of the other kind."""

    code = "run.wrong-state"


class TooLargeError(NasError):
    """What was sent is larger than the service takes."""

    code = "request.too-large"


class TooManyError(NasError):
    """There is as much of something as the service allows at once; try again later."""

    code = "request.too-many"
