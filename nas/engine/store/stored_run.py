"""A run of a runs folder: its job file and its store."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Self

from nas.engine.store.base import RunStore
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.store.run_facts import Kind, RunFacts


@dataclass(frozen=True)
class StoredRun:
    """A run in any state; every access reads its store anew.

    Attributes:
        folder: Folder of the run, with its job file and its store.
        runs: Folder of all runs, in which other runs that this one refers to are looked up.
    """

    folder: RunFolder
    runs: RunsFolder

    @classmethod
    def open(cls, runs: RunsFolder, run: str) -> Self:
        """The run with this id; `UnknownNameError` if there is none.

        Args:
            runs: Folder of all runs.
            run: Id of the run, e.g. ``digits-cnn-1``.
        """
        return cls(runs.get(run), runs)

    @property
    def id(self) -> str:
        """The run's name in commands."""
        return self.folder.id

    def store(self) -> AbstractContextManager[RunStore]:
        """The run's store, opened for reading, which ``with`` closes."""
        return closing(open_store(self.folder))

    @property
    def facts(self) -> RunFacts | None:
        """The facts of the run; None until a driver has described it."""
        with self.store() as store:
            return store.facts()

    @property
    def kind(self) -> Kind:
        """``training`` if the run only trains a supernet, else ``search``, also until it is described."""
        facts = self.facts
        return "search" if facts is None else facts.kind
