"""The runs folder: one folder per run, with its job file, database, checkpoint and results."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.errors import REPEAT, Remedy, StoreError, UnknownNameError
from supernets import files

DEFAULT_ROOT = Path("runs")
_OTHER_ROOT = Remedy(REPEAT, options={"runs": "FOLDER"})
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run."""

    path: Path

    @property
    def holds_a_run(self) -> bool:
        return os.path.isfile(self.database) or os.path.isfile(self.store_file)  # as in `RunsFolder.exists`

    @property
    def id(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def job_file(self) -> Path:
        """The job as it was submitted, with absolute paths."""
        return self.path / "job.yaml"

    @property
    def submitted_file(self) -> Path:
        """The job as a client of a server wrote it; there is none in a run that a command started."""
        return self.path / "submitted.yaml"

    @property
    def written(self) -> int:
        """When its job file was, in nanoseconds since the epoch; 0 where there is none, or the run is gone."""
        try:
            return self.job_file.stat().st_mtime_ns
        except OSError:
            return 0

    @property
    def database(self) -> Path:
        """The run's store."""
        return self.path / "run.db"

    @property
    def store_file(self) -> Path:
        """The file that names the database of the run's store, where that is not the file in this folder."""
        return self.path / "store.json"

    @property
    def labels_file(self) -> Path:
        """Tags and a note of its users, where somebody wrote any."""
        return self.path / "labels.json"

    @property
    def checkpoint(self) -> Path:
        """The trained supernet, where this run trained one."""
        return self.path / "checkpoint"

    @property
    def pretrained(self) -> Path:
        """The copy of the pretrained network's files that its supernet is made of, as they were when the run began: the
        ``config.json``, the ``tokenizer.json`` or ``preprocessor_config.json``, and the weights' digest in ``weights.json``.

        Not there where it is made of none, and in runs of versions that kept nothing."""
        return self.path / "pretrained"

    @property
    def vocabulary_file(self) -> Path:
        """The tokens that its networks have of the pretrained network's; not there where they have all, and for other data."""
        return self.path / "vocabulary.json"

    @property
    def model_file(self) -> Path:
        """The user's model that the run's supernet is made of, captured; not there where it is made of none."""
        return self.path / "model.capture"

    @property
    def model_tokenizer(self) -> Path:
        """The ``tokenizer.json`` of the sentences that the user's model reads; not there for other data."""
        return self.path / "model.tokenizer.json"

    @property
    def predictions_file(self) -> Path:
        """Predictions of its best networks; not there before it ends, and for tasks without pictures."""
        return self.path / "predictions.npz"

    @property
    def logs(self) -> Path:
        """The output of the drivers that a server started, a file each."""
        return self.path / "logs"

    @property
    def plots(self) -> Path:
        """The default folder of its plots."""
        return self.path / "plots"


@dataclass(frozen=True, slots=True)
class RunsFolder:
    """All runs below one folder."""

    root: Path

    def check_writable(self) -> None:
        """Makes the folder where it is missing; `StoreError` if it cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"the runs folder {self.root} cannot be made: {error.strerror}; choose another folder"
            raise StoreError(text, remedy=_OTHER_ROOT) from None
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise StoreError(
                f"the runs folder {self.root} cannot be written; choose another folder", remedy=_OTHER_ROOT
            )

    def create(self, name: str, job: str, *, store: Mapping[str, str] | None = None) -> RunFolder:
        """A new run ``name-N`` that holds its job file; N is the first number that is free.

        Args:
            job: the text of the job file.
            store: the url and the schema of its store; None for a file in the folder.
        """
        self.check_writable()
        number = 1 + max(
            (int(m[1]) for p in self.root.iterdir() if (m := re.fullmatch(rf"{name}-(\d+)", p.name))), default=0
        )
        while True:
            path = self.root / f"{name}-{number}"
            try:
                path.mkdir()
                break
            except FileExistsError:
                number += 1
            except OSError as error:
                raise StoreError(
                    f"the runs folder {self.root} cannot be written: {error.strerror}; choose another folder",
                    remedy=_OTHER_ROOT,
                ) from None
        folder = RunFolder(path)
        try:
            if store is not None:
                write_atomically(folder.store_file, json.dumps(dict(store), indent=1).encode())
            write_atomically(folder.job_file, job.encode())
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return folder

    def holds(self, run: str) -> bool:
        """True if there is a run of this id."""
        return _RUN_ID.fullmatch(run) is not None and RunFolder(self.root / run).holds_a_run

    def get(self, run: str) -> RunFolder:
        """The run of this id.

        Raises:
            UnknownNameError: there is none; the message has the nearest, or says that there is no runs folder.
            StoreError: the run's folder was renamed to what is no id.
        """
        if self.holds(run):
            return RunFolder(self.root / run)
        if not self.exists:
            raise UnknownNameError("run", run, [], hint=self._missing, remedy=_OTHER_ROOT)
        run_ids = [folder.id for folder in self.list()]
        if run in run_ids:
            raise StoreError(
                f"{self.root / run}: the name of a run's folder has at most 80 letters, digits, - and _, and begins with a "
                "letter or digit; rename the folder",
                code="run.misnamed",
            )
        empty = _RUN_ID.fullmatch(run) is not None and (self.root / run).is_dir()
        hint = f"Its folder has no {RunFolder(self.root / run).database.name}; restore it from a copy." if empty else ""
        raise UnknownNameError("run", run, filter(_RUN_ID.fullmatch, run_ids), within=str(self.root), hint=hint)

    @property
    def exists(self) -> bool:
        """True if the runs folder exists."""
        return os.path.isdir(self.root)  # False for a path that no file system takes, of which `Path` raises

    @property
    def root_is_file(self) -> bool:
        """True if a file is where the folder is expected."""
        return os.path.isfile(self.root)

    def check_exists(self) -> None:
        """`StoreError` where there is no such folder."""
        if not self.exists:
            raise StoreError(self._missing, code="store.no-folder", remedy=_OTHER_ROOT)

    @property
    def _missing(self) -> str:
        fault = (
            f"{self.root} is a file, no runs folder" if self.root_is_file else f"There is no runs folder {self.root}"
        )
        return f"{fault}; a search makes one."

    def list(self) -> list[RunFolder]:
        """All runs, oldest first, those with names that are no ids included; folders that hold no run are passed over."""
        if not self.exists:
            return []
        folders = [folder for path in self.root.iterdir() if (folder := RunFolder(path)).holds_a_run]
        return sorted(folders, key=lambda folder: (folder.written, folder.id))


def write_atomically(path: Path, content: bytes) -> None:
    """Writes as `supernets.files.write_atomically`; `StoreError` where it cannot be written."""
    try:
        files.write_atomically(path, content)
    except OSError as error:
        remedy = "free space there, or choose another folder"
        raise StoreError(f"{path} cannot be written: {error.strerror}; {remedy}", code="file.not-writable") from None


def check_folder(folder: Path) -> None:
    """Raises `StoreError` where a path can be no folder to write to: a file is in its place or in the way, or it is locked.

    A folder that is missing passes if it can be made.
    """
    existing = next((path for path in (folder, *folder.absolute().parents) if os.path.lexists(path)), folder)
    if not existing.is_dir():
        kind = "a file" if existing.is_file() else "no folder"
        place = folder if existing == folder else f"{folder}: {existing}"
        raise StoreError(
            f"{place} is {kind}; expected a folder to write to, which is made "
            "where it is missing; name another, or move the file",
            code="file.not-a-folder",
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StoreError(f"{folder}: {existing} cannot be written; name another folder", code="file.not-writable")


def make_folder(folder: Path) -> None:
    """Makes a folder with those above it where it is missing; `StoreError` if it cannot be made, as of `check_folder`."""
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"the folder {folder} cannot be made: {error.strerror}; name another folder"
        raise StoreError(text, code="file.not-writable") from None


def write_all(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Writes files by name into a folder, made where it is missing, each as `write_atomically`; returns their paths."""
    make_folder(folder)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]
