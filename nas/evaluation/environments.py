"""Which environment figures come from, by what they are of: figures of two environments are never put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hardware_profiles.environment import differences
from nas.errors import EvaluationError

Environment = Mapping[str, Any]


class Environments:
    """The environments of a run, of accuracies and of each profile: the first figure sets its own, the others must agree.

    Args:
        known: those of figures taken before.
        keep: called with all of them whenever one is added.
        levels: by profile, the sentinels' levels in the sessions before, by which a profiler knows a calm machine.
    """

    def __init__(
        self,
        known: Mapping[str, Environment] | None = None,
        keep: Callable[[Mapping[str, Environment]], None] = lambda environments: None,
        levels: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._known, self._keep = dict(known or {}), keep
        self._levels = {profile: list(found) for profile, found in (levels or {}).items()}

    def levels(self, profile: str) -> list[float]:
        """The sentinels' levels in a profile's sessions until now; whoever measures adds to them."""
        return self._levels.setdefault(profile, [])

    def check(self, of: str, environment: Environment) -> None:
        """Lets a figure's environment pass, or keeps it where it is the first of its kind.

        Args:
            of: what the figures are of, in words: ``accuracy``, or ``profile NAME``.

        Raises:
            EvaluationError: it is another one than that of the run's figures; the text names what differs.
        """
        was = self._known.get(of)
        if was is None:
            self._known[of] = dict(environment)
            self._keep(self._known)
        elif found := differences(was, environment):
            raise EvaluationError(
                f"{of}: the figures taken so far come from another environment ({'; '.join(found)}); "
                "put it back and go on, or start anew"
            )
