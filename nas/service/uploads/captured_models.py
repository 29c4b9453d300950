"""Captured models that submitted jobs may name: data of the client's, which drivers alone read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from nas.errors import JobError, RunStateError, UnknownNameError
from nas.service.api import schemas
from nas.service.ownership import Ownership, Thing, ThingKind
from nas.service.people import current_caller
from nas.service.settings import ServiceSettings
from nas.service.uploads.storage_checks import (
    check_disk_space,
    check_quota,
    check_upload_size,
    checked_name,
    size_of,
    write_upload,
)
from nas.service.views.open_runs import OpenRuns

MODELS = "models"
"""The folder of captured models in job files: ``model: models/NAME``."""
UPLOADING = ".uploading-"
"""Prefix of files that are being received."""
_SUFFIX = ".capture"
_HEADER, _FIRST = b"PK\x03\x04", b"program.json"
"""How the files begin that `nas capture` writes: a member of a zip archive, stored without compression."""
_HEADER_BYTES = 30 + len(_FIRST)
_DELETE = "DELETE /api/v1/models/NAME"


class CapturedModels:
    """The captured models of a server.

    Args:
        users: the runs that need them.
        owners: records whom they belong to.
    """

    def __init__(self, settings: ServiceSettings, users: OpenRuns, owners: Ownership) -> None:
        self._folder, self._file_of, self._limits = settings.captured_models, settings.captured_model, settings.limits
        self._users, self._owners = users, owners

    def resolved(self, model: str) -> Path | None:
        """The file of a job's model; None where its name is not that of an uploaded one.

        Raises:
            JobError: there is no such model.
        """
        folder, _, name = model.partition("/")
        if folder != MODELS:
            return None
        names = [captured.name for captured in self.list()]
        if name not in names:
            text = f"there is no captured model {name[:80]!r}; send its file to POST /api/v1/models"
            alternatives = f", or take one of {', '.join(names[:10])}" if names else ""
            raise JobError(f"{text}{alternatives}", code="job.not-allowed")
        return self._file_of(name).resolve()

    def add(self, name: str, content: BinaryIO) -> schemas.CapturedModel:
        """Stores a file that `nas capture` wrote. Only its size and its first bytes are checked: a driver reads the rest.

        Raises:
            JobError: the name is invalid, or this is no such file.
            RunStateError: there is a model of this name, or the models exceed the server's limits.
            TooLargeError: it exceeds the limit of uploads.
            StoreError: the disk is nearly full.
        """
        target = self._file_of(checked_name("model", name))
        stored = self.list()
        check_quota("captured models", len(stored), self._limits.models, _DELETE)
        self._folder.mkdir(parents=True, exist_ok=True)
        check_disk_space(self._folder)
        self._check(content, stored)
        part = self._folder / f"{UPLOADING}{secrets.token_hex(8)}"
        try:
            write_upload(content, part)
            os.link(part, target)  # unlike a rename, it replaces no file
        except FileExistsError:
            text = f"there is a model {name!r} already; choose another name"
            raise RunStateError(text, code="name.taken") from None
        finally:
            part.unlink(missing_ok=True)
        self._owners.record(Thing(ThingKind.MODEL, name), current_caller().name)
        return self._described(target)

    def list(self) -> tuple[schemas.CapturedModel, ...]:
        """The models, by name."""
        models = []
        for path in sorted(self._folder.glob(f"[!.]*{_SUFFIX}")):
            with suppress(FileNotFoundError):  # another request has deleted it
                models.append(self._described(path))
        return tuple(models)

    def delete(self, name: str) -> None:
        """Removes a model; a run that has begun keeps its own copy.

        Raises:
            RunStateError: a run that waits or runs names it.
            UnknownNameError: there is none of this name.
        """
        names = [captured.name for captured in self.list()]
        if name not in names:
            raise UnknownNameError("captured model", name, names)
        self._users.check_unused(self._file_of(name).resolve(), f"the model {name!r}")
        self._file_of(name).unlink(missing_ok=True)
        self._owners.forget(Thing(ThingKind.MODEL, name))

    def _check(self, content: BinaryIO, stored: Sequence[schemas.CapturedModel]) -> None:
        size = size_of(content)
        if not _begins_well(content.read(_HEADER_BYTES)):
            no_model = "this is no captured model; expected the file of one"
            text = no_model if size else "the file is empty; expected a captured model"
            raise JobError(text, code="capture.malformed", fields=[("model", text)])
        check_upload_size(size, self._limits, "model")
        if size + sum(captured.bytes for captured in stored) > self._limits.model_bytes:
            text = f"the server's captured models would take more than {self._limits.model_bytes} bytes"
            raise RunStateError(f"{text}; delete some first, e.g. with: {_DELETE}", code="storage.quota")

    def _described(self, path: Path) -> schemas.CapturedModel:
        file_stat, name = path.stat(), path.name.removesuffix(_SUFFIX)
        return schemas.CapturedModel(
            name=name,
            path=f"{MODELS}/{name}",
            bytes=file_stat.st_size,
            uploaded=datetime.fromtimestamp(file_stat.st_mtime, UTC),
            owner=self._owners.owner(Thing(ThingKind.MODEL, name)) or "",
        )


def _begins_well(start: bytes) -> bool:
    """True if the first member is the stored program, by its local header (APPNOTE.TXT 4.3.7)."""
    stored, name = start[8:10] == b"\0\0", start[30:]
    return start.startswith(_HEADER) and stored and name == _FIRST
