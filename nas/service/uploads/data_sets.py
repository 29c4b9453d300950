"""Data sets that job files from the network may name: below the configured folders, or uploaded here."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from nas.api import schemas
from nas.errors import JobError, RunStateError
from nas.service.settings import ServiceSettings
from nas.service.uploads.archives import unpack_images
from nas.service.uploads.names import checked_name

UPLOADED = "uploads"
"""The folder by which a job file names what was uploaded: ``path: uploads/NAME``."""


class DataSets:
    """The data sets of a server."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._roots, self._limits = settings.data_roots, settings.limits
        self._folder = settings.uploaded_data

    def resolved(self, path: Path) -> Path:
        """The folder or file on this machine that a job file's path stands for.

        A relative path is below the uploads (``uploads/NAME``), or else below one of the configured folders. Links are
        followed before it is judged where a path lies.

        Raises:
            JobError: it is not below one of them, or there is nothing.
        """
        uploaded = path.parts[:1] == (UPLOADED,)
        candidates = [(self._folder, self._folder.joinpath(*path.parts[1:]))] if uploaded else []
        candidates += [(root, root / path) for root in self._roots]  # an absolute path stays as it is
        for root, candidate in candidates:
            found, base = candidate.resolve(), root.resolve()
            if found != self._folder.resolve() and found.is_relative_to(base) and found.exists():
                return found
        told = ", ".join(map(str, self._roots)) or "none (--data-root names some)"
        raise JobError(
            f"nothing that a job may name is at {str(path)!r}; expected {UPLOADED}/NAME of an uploaded data set, or a path "
            f"below the server's data folders: {told}"
        )

    def add(self, name: str, archive: BinaryIO) -> schemas.DataUpload:
        """See `Service.add_data`.

        Raises:
            JobError: the name is none, or the archive is not such a one.
            RunStateError: there is a data set of this name.
            TooLargeError: the archive is beyond a limit.
        """
        name = checked_name("data set", name)
        target = self._folder / name
        taken = RunStateError(f"there is a data set {name!r} already; take another name")
        if target.exists():
            raise taken
        self._folder.mkdir(parents=True, exist_ok=True)
        with unpack_images(archive, self._folder, self._limits) as unpacked:
            try:
                unpacked.folder.rename(target)
            except OSError:  # a folder that is not empty: somebody was faster
                raise taken from None
        return schemas.DataUpload(
            name=name, path=f"{UPLOADED}/{name}", images=unpacked.images, classes=unpacked.classes
        )
