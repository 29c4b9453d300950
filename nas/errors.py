"""The errors that the engine raises for its users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from os import PathLike
from pathlib import Path

_QUOTED = 80
"""Characters of a name that an error quotes."""
_LISTED = 20
"""Known names that an error lists."""


def quoted(text: str) -> str:
    """A text in quotes, cut to a line."""
    shown = repr(text)
    return shown if len(shown) <= _QUOTED else f"{shown[: _QUOTED - 3]}... ({len(text):,} characters)"


@dataclass(frozen=True, slots=True)
class Remedy:
    """The next step after an error, or after a run that is not finished, as a value.

    The command line prints it as a command and the server as a request; the message of an error names neither.

    Attributes:
        action: What to do, e.g. ``resume``, ``export`` or ``upgrade``; `REPEAT` is the same action with other options.
        target: The run, file or name on which it is done; "" for none.
        options: Values of its options by name, e.g. ``{"retry_failed": True}``.
    """

    action: str
    target: str = ""
    options: Mapping[str, str | int | bool] = field(default_factory=dict)


REPEAT = "repeat"
"""The action of a `Remedy` that repeats what failed with other options."""


def attach_remedy(error: BaseException, remedy: Remedy) -> None:
    """Sets the remedy of an error that has none, also of an error of another package."""
    if remedy_of(error) is None:
        error.remedy = remedy  # type: ignore[attr-defined]  # errors of other packages do not declare it


def remedy_of(error: BaseException) -> Remedy | None:
    """The remedy of an error; None if it has none."""
    remedy: Remedy | None = getattr(error, "remedy", None)
    return remedy


class NasError(Exception):
    """Base of all errors of this package; the message says what came, what was expected and what to do.

    Attributes:
        code: stable identifier of the kind of error, e.g. ``job.unknown-key``; each class has a default,
            which a raise may replace by a more specific one.
        remedy: the next step, where there is a concrete one.
        parameter: name of the argument that is wrong, e.g. ``log_to``, where the message begins with it, or with the run and
            then it; else "". The command line prints it as its option.
    """

    code = "nas.error"

    def __init__(
        self, message: str, *, code: str | None = None, remedy: Remedy | None = None, parameter: str = ""
    ) -> None:
        super().__init__(message)
        self.remedy, self.parameter = remedy, parameter
        if code is not None:
            self.code = code


class JobError(NasError):
    """A job file is missing, is not YAML, or is invalid.

    Attributes:
        fields: the problems as (path, text), e.g. of ``search.evaluations``; the path is "" for the whole file.
    """

    code = "job.invalid"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fields: Sequence[tuple[str, str]] = (),
        remedy: Remedy | None = None,
        parameter: str = "",
    ) -> None:
        super().__init__(message, code=code, remedy=remedy, parameter=parameter)
        self.fields = tuple(fields)


def checked_path(parameter: str, path: object) -> Path:
    """The path that a call from Python was given; raises `JobError` for what is none."""
    if not isinstance(path, (str, PathLike)):
        raise JobError(f"{parameter}: expected a path, got {path!r}", code="job.invalid-value")
    return Path(path)


class UnknownNameError(NasError):
    """An unknown name (of a recipe, a run, an objective, ...).

    Attributes:
        kind: what the name should refer to, e.g. ``run``.

    The message begins with `where`; `within` is a folder that was searched, for errors that others put a place before.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known_names: Iterable[str],
        *,
        where: str = "",
        within: str = "",
        hint: str = "",
        remedy: Remedy | None = None,
        parameter: str = "",
    ) -> None:
        self.kind = kind
        names = list(known_names)
        near = get_close_matches(name[:_QUOTED], [k for k in names if k != name], n=1, cutoff=0.5)
        ask = f"; did you mean {near[0]!r}?" if near else "."
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        listed = f" Known: {', '.join(names[:_LISTED]) if names else 'none'}{more}."
        listed = listed if names or not hint else ""
        prefix, place = f"{where}: " if where else "", f" in {within}" if within else ""
        tail = f" {hint}" if hint else ""
        code = f"{kind.replace(' ', '-')}.unknown"
        message = f"{prefix}unknown {kind} {quoted(name)}{place}{ask}{listed}{tail}"
        super().__init__(message, code=code, remedy=remedy, parameter=parameter)


class PluginError(NasError):
    """A plug-in cannot be imported, does not fulfil its contract, or its code raised an error; the message names it."""

    code = "plugin.failed"


class StoreError(NasError):
    """A run's database is damaged, of another version, or cannot be written."""

    code = "store.unusable"


class OutdatedStoreError(StoreError):
    """A database has the tables of an earlier version, which a reader does not change."""

    code = "store.outdated"


class StoreAwayError(StoreError):
    """The database server of a run does not answer or denies access."""

    code = "store.unreachable"


class RunHeldError(StoreError):
    """Another live driver holds the run, or has taken over the lease of this one."""

    code = "run.held"


class PartError(NasError):
    """An optional part of the installation is missing; the message has the command that installs it."""

    code = "part.missing"


class SelectionError(NasError):
    """An expression that selects networks is malformed, or nothing satisfies it."""

    code = "selection.invalid"


class EvaluationError(NasError):
    """Evaluations failed in a way that ends the search."""

    code = "evaluation.failed"


class ClusterError(EvaluationError):
    """No Ray cluster answers at the given address."""

    code = "cluster.unreachable"


class ExportFailedError(NasError):
    """The exported file failed its check and was not written."""

    code = "export.failed"


class LoggerError(NasError):
    """The metrics of a run cannot be written to the target of ``log_to``."""

    code = "logger.failed"


class ServiceError(NasError):
    """The service, or the cluster that runs its jobs, does not answer or rejects a request."""

    code = "service.unavailable"


class RunStateError(NasError):
    """The state of the run does not allow this: it is running, has ended, or is of the other kind."""

    code = "run.wrong-state"


class NotAllowedError(NasError):
    """The person may not do this: it belongs to another one, or needs another role."""

    code = "access.denied"


class TooLargeError(NasError):
    """The request is larger than the service accepts."""

    code = "request.too-large"


class TooManyError(NasError):
    """A limit of the service is reached; try again later."""

    code = "request.too-many"
