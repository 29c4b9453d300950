"""Data sets that submitted jobs may name: uploaded ones, and those below the configured folders."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from nas.api import schemas
from nas.errors import JobError, RunStateError
from nas.service.settings import ServiceSettings
from nas.service.uploads.archives import unpack_images
from nas.service.uploads.storage_checks import checked_name

UPLOADED = "uploads"
"""The folder of uploads in paths of job files: ``path: uploads/NAME``."""


class DataSets:
    """The data sets of a server."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._roots, self._limits = settings.data_roots, settings.limits
        self._folder = settings.uploaded_data

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
            found, base = candidate.resolve(), root.resolve()
            if found != self._folder.resolve() and found.is_relative_to(base) and found.exists():
                return found
        roots = ", ".join(map(str, self._roots)) or "none (`nas serve --data-root` adds one)"
        raise JobError(
            f"{str(path)!r} does not exist or is not allowed; expected {UPLOADED}/NAME of an uploaded data set, or a path "
            f"below the server's data folders: {roots}",
            code="job.not-allowed",
        )

    def add(self, name: str, archive: BinaryIO) -> schemas.DataUpload:
        """A data set from a zip archive of images, one folder a class.

        Raises:
            JobError: the name or the archive is invalid.
            RunStateError: there is a data set of this name.
            TooLargeError: the archive exceeds a limit.
        """
        name = checked_name("data set", name)
        target = self._folder / name
        taken = RunStateError(f"there is a data set {name!r} already; choose another name", code="name.taken")
        if target.exists():
            raise taken
        self._folder.mkdir(parents=True, exist_ok=True)
        with unpack_images(archive, self._folder, self._limits) as unpacked:
            try:
                unpacked.folder.rename(target)
            except OSError:  # it is a folder that is not empty: another request was faster
                raise taken from None
        return schemas.DataUpload(
            name=name, path=f"{UPLOADED}/{name}", images=unpacked.images, classes=unpacked.classes
        )
