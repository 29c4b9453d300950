"""The runs folder as the sender of the present request sees it on a private server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nas.engine.store.folder import RunFolder, RunsFolder
from nas.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class VisibleRuns(RunsFolder):
    """The runs of a folder that a rule shows; the others do not exist for readers. New runs avoid the names of all.

    Attributes:
        sees: whether the rule shows a run of this id now.
    """

    sees: Callable[[str], bool]

    # `super()` without arguments does not work in a class with slots.

    def holds(self, run: str) -> bool:
        """True if there is a run of this id to see."""
        return RunsFolder.holds(self, run) and self.sees(run)

    def get(self, run: str) -> RunFolder:
        """The run of this id; raises as `RunsFolder.get`, also for a hidden one."""
        if RunsFolder.holds(self, run) and not self.sees(run):
            raise UnknownNameError("run", run, [folder.id for folder in self.list()], where=str(self.root))
        return RunsFolder.get(self, run)

    def list(self) -> list[RunFolder]:
        """The runs to see, oldest first."""
        return [folder for folder in RunsFolder.list(self) if self.sees(folder.id)]
