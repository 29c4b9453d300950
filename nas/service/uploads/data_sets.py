"""Data sets that submitted jobs may name: uploaded ones, and those below the configured folders."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from nas.engine.store.folder import write_atomically
from nas.errors import JobError, RunStateError, UnknownNameError
from nas.service.api import schemas
from nas.service.ownership import Ownership, Thing, ThingKind
from nas.service.people import current_caller
from nas.service.settings import ServiceSettings
from nas.service.uploads.archives import unpack_images
from nas.service.uploads.deletion import delete_folder
from nas.service.uploads.storage_checks import check_quota, checked_name
from nas.service.views.open_runs import OpenRuns

UPLOADED = "uploads"
"""The folder of uploads in paths of job files: ``path: uploads/NAME``."""
_DELETE = "DELETE /api/v1/data/NAME"


class DataSets:
    """The data sets of a server.

    Args:
        users: the runs that need them.
        owners: records whom they belong to.
    """

    def __init__(self, settings: ServiceSettings, users: OpenRuns, owners: Ownership) -> None:
        self._roots, self._limits, self._users, self._owners = settings.data_roots, settings.limits, users, owners
        self._folder, self._records, self._trash = settings.uploaded_data, settings.data_records, settings.trash

    def resolved(self, path: Path) -> Path:
        """The folder or file on this machine that a job file's path refers to.

        A relative path is below the uploads (``uploads/NAME``), or else below one of the configured folders. Links are
        followed before the location is checked.

        Raises:
            JobError: it is not below one of them, or does not exist.
        """
        uploaded = path.parts[:1] == (UPLOADED,)
        candidates = [(self._folder, self._folder.joinpath(*path.parts[1:]))] if uploaded else []
        candidates += [(root, root / path) for root in self._roots]  # an absolute path stays the same
        for root, candidate in candidates:
            resolved_path, base = candidate.resolve(), root.resolve()
            if (
                resolved_path != self._folder.resolve()
                and resolved_path.is_relative_to(base)
                and resolved_path.exists()
            ):
                return resolved_path
        below = f", or a path below one of the server's {len(self._roots)} data folders" if self._roots else ""
        text = (
            f"{str(path)!r} does not exist or is not allowed; expected {UPLOADED}/NAME of an uploaded data set{below}"
        )
        raise JobError(text, code="job.not-allowed")

    def add(self, name: str, archive: BinaryIO) -> schemas.DataUpload:
        """A data set from a zip archive of images, one folder a class.

        Raises:
            JobError: the name or the archive is invalid.
            RunStateError: there is a data set of this name, or the data sets exceed the server's limits.
            TooLargeError: the archive exceeds a limit.
        """
        name = checked_name("data set", name)
        target = self._folder / name
        name_error = RunStateError(f"there is a data set {name!r} already; choose another name", code="name.taken")
        if target.exists():
            raise name_error
        stored = self.list()
        check_quota("data sets", len(stored), self._limits.data_sets, _DELETE)
        self._folder.mkdir(parents=True, exist_ok=True)
        with unpack_images(archive, self._folder, self._limits) as unpacked:
            data_set = counted(unpacked, name)
            self._check_size(data_set.bytes, sum(existing.bytes for existing in stored))
            try:
                unpacked.rename(target)
            except OSError:  # it is a folder that is not empty: another request was faster
                raise name_error from None
            self._owners.record(Thing(ThingKind.DATA_SET, name), current_caller().name)
            self._record(data_set)
        return schemas.DataUpload(**data_set.model_dump(include=set(schemas.DataUpload.model_fields)))

    def list(self) -> tuple[schemas.DataSet, ...]:
        """The uploaded data sets, by name."""
        folders = sorted(path for path in self._folder.glob("[!.]*") if path.is_dir())
        owner = {path: self._owners.owner(Thing(ThingKind.DATA_SET, path.name)) or "" for path in folders}
        return tuple(self._recorded(path).model_copy(update={"owner": owner[path]}) for path in folders)

    def delete(self, name: str) -> None:
        """Removes an uploaded data set; runs that have ended can then no longer be resumed or exported.

        Raises:
            RunStateError: a run that waits or runs uses it.
        """
        names = [data_set.name for data_set in self.list()]
        if name not in names:
            raise UnknownNameError("data set", name, names)
        self._users.check_unused(self._folder.absolute() / name, f"the data set {name!r}")
        delete_folder(self._folder / name, self._trash)
        self._record_of(name).unlink(missing_ok=True)
        self._owners.forget(Thing(ThingKind.DATA_SET, name))

    def _check_size(self, new: int, used: int) -> None:
        max_bytes = self._limits.data_bytes
        if used + new > max_bytes:
            text = (
                f"the data set has {_gib(new)} GiB, and those that the server stores {_gib(used)} of at most "
                f"{_gib(max_bytes)} GiB; delete some first, e.g. with: {_DELETE}"
            )
            raise RunStateError(text, code="storage.quota")

    def _record_of(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _record(self, data_set: schemas.DataSet) -> None:
        self._records.mkdir(parents=True, exist_ok=True)
        write_atomically(self._record_of(data_set.name), data_set.model_dump_json().encode())

    def _recorded(self, folder: Path) -> schemas.DataSet:
        """The record of a data set; counted again where it has none, as those of version 0.1 have."""
        with suppress(OSError, ValidationError):
            return schemas.DataSet.model_validate_json(self._record_of(folder.name).read_bytes())
        data_set = counted(folder, folder.name)
        self._record(data_set)
        return data_set


def counted(folder: Path, name: str) -> schemas.DataSet:
    """The description of a data set of this name in a folder, by reading the names and sizes of its files."""
    images, size, classes = 0, 0, set[str]()
    for at, _, names in os.walk(folder):
        if names:
            classes.add(Path(at).name)
        images += len(names)
        size += sum((Path(at) / file).stat().st_size for file in names)
    return schemas.DataSet(
        name=name,
        path=f"{UPLOADED}/{name}",
        images=images,
        classes=tuple(sorted(classes)),
        bytes=size,
        uploaded=datetime.fromtimestamp(folder.stat().st_mtime, UTC),
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g}"
