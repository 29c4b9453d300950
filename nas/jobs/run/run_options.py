"""The options of a run that are not part of its job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nas.engine.console import MinuteProgress
from nas.engine.progress import ProgressObserver
from nas.engine.store.folder import RunsFolder
from nas.errors import checked_path
from nas.plugins.parts import has


@dataclass(frozen=True)
class RunOptions:
    """How a job is run, as opposed to what it is.

    Attributes:
        runs: folder of all runs, in which the new run is created, or its path; by default ``runs`` in the current directory.
        inline: score in this process, without Ray.
        address: a running Ray cluster to join; None starts one here.
        store: the URL of a PostgreSQL database for a new run's store; None for a file in the run's folder.
        replay: another run of the same supernet whose measurements are reused where it has them.
        objects: plug-ins passed from Python, classes or objects, by the key of the job that names them; see `nas.run`.
        accept_plugin_versions: continue a run whose plug-ins are installed in other versions than it recorded.
        await_machines: wait for the machine of a profile that cannot be reached when the run begins or resumes; one that was
            reached is waited for in any case, as its profile says.
        observer: its methods are called with the progress; by default it prints a line a minute on stderr, and a
            `nas.ProgressObserver()` nothing.
    is_command: this process was started for the run, so that its start counts for the run's time.
    """

    runs: RunsFolder = field(default_factory=lambda: RunsFolder(Path("runs")))
    inline: bool = False
    address: str | None = None
    store: str | None = None
    replay: str | None = None
    objects: Mapping[str, object] = field(default_factory=dict)
    accept_plugin_versions: bool = False
    await_machines: bool = True
    observer: ProgressObserver = field(default_factory=MinuteProgress)
    is_command: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.runs, RunsFolder):
            object.__setattr__(self, "runs", RunsFolder(checked_path("runs", self.runs)))

    @property
    def scores_here(self) -> bool:
        """True if networks are scored in this process: as asked for, or because Ray is not installed."""
        return self.inline or not has("ray")
