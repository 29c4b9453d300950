"""The environments (machine, runtime) of a run's measurements; those of two environments are never combined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hardware_profiles.environment import differences
from nas.errors import EvaluationError

Environment = Mapping[str, Any]


class Environments:
    """The environments of a run's accuracies and of each profile: set by the first measurement, compared with all others.

    Args:
        known: those of earlier measurements.
        keep: called with all of them whenever one is added.
        levels: by environment, of the calls of nearly no work in earlier sessions, by which a profiler recognises a slower
            machine.
    """

    def __init__(
        self,
        known: Mapping[str, Environment] | None = None,
        keep: Callable[[Mapping[str, Environment]], None] = lambda environments: None,
        levels: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._known, self._keep = dict(known or {}), keep
        self._levels = {of: list(found) for of, found in (levels or {}).items()}

    def levels(self, of: str) -> list[float]:
        """The levels of an environment's sessions so far; a profiler appends to them."""
        return self._levels.setdefault(of, [])

    def check(self, of: str, environment: Environment) -> None:
        """Records the environment of the first measurement; `EvaluationError` where that of a later one differs.

        Args:
            of: its name, by `nas.problem.variants.environment_name`.
        """
        was = self._known.get(of)
        if was is None:
            self._known[of] = dict(environment)
            self._keep(self._known)
        elif found := differences(was, environment):
            raise EvaluationError(
                f"{of}: the measurements so far come from another environment ({'; '.join(found)}); "
                "restore it and resume, or start a new run",
                code="evaluation.environment-changed",
            )
