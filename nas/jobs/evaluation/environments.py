"""The environments (machine, runtime) of a run's measurements; those of two environments are never combined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hardware_profiles.environment import differences
from hardware_profiles.measuring.pace import Speed, better
from nas.errors import EvaluationError

Environment = Mapping[str, Any]


class Environments:
    """The environments of a run's accuracies and of each profile: set by the first measurement, compared with all others.

    Args:
        recorded: Environments of earlier measurements, by name; None without any.
        keep: Called with all environments whenever one is added.
    """

    def __init__(
        self,
        recorded: Mapping[str, Environment] | None = None,
        keep: Callable[[Mapping[str, Environment]], None] = lambda environments: None,
    ) -> None:
        self._recorded, self._keep = dict(recorded or {}), keep

    def usual_speed(self, of: str) -> Speed | None:
        """The speed at which an environment's latencies are given; None before the first."""
        usual = self._recorded.get(of, {}).get("usual")
        return None if usual is None else Speed.from_json(usual)

    def check(self, of: str, environment: Environment) -> None:
        """Records the environment of the first measurement, and of the first on a quiet machine.

        Raises:
            EvaluationError: a later one differs.

        Args:
            of: its name, by `nas.search.problem.variants.environment_name`.
        """
        was = self._recorded.get(of)
        if was is not None and (differing := differences(was, environment)):
            raise EvaluationError(
                f"{of}: the measurements so far come from another environment ({'; '.join(differing)}); "
                "restore it and resume, or start a new run",
                code="evaluation.environment-changed",
            )
        usual = environment.get("usual")
        if was is None or (usual and better(self.usual_speed(of), Speed.from_json(usual))):
            self._recorded[of] = dict(environment)
            self._keep(self._recorded)
