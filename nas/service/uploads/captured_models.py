"""Captured models and pretrained networks that submitted jobs may name: data of the client's, which the server does not run."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

from nas.engine.store.folder import write_atomically
from nas.errors import JobError, RunStateError, UnknownNameError
from nas.service.api import schemas
from nas.service.ownership import Ownership, Thing, ThingKind
from nas.service.settings import PRETRAINED_RECORD, ServiceSettings
from nas.service.uploads.archives import unpack
from nas.service.uploads.content_check import UploadedContent, check_content
from nas.service.uploads.deletion import move_away
from nas.service.uploads.storage_checks import (
    UPLOADING,
    check_disk_space,
    check_quota,
    check_upload_size,
    checked_name,
    size_of,
    write_upload,
)
from nas.service.views.open_runs import OpenRuns
from supernets.networks.formats.pretrained import GGUF, is_of_pretrained

MODELS = "models"
"""The folder of models in job files: ``model: models/NAME``, or ``pretrained: models/NAME``."""
Kind = Literal["captured", "pretrained"]
_KEYS: dict[Kind, str] = {"captured": "supernet.model", "pretrained": "supernet.pretrained"}
"""The keys of jobs that name models of each kind."""
_SUFFIX = ".capture"
_HEADER, _FIRST = b"PK\x03\x04", b"program.json"
"""How the files begin that `nas capture` writes: a member of a zip archive, stored without compression."""
_GGUF = b"GGUF"
_HEADER_BYTES = 30 + len(_FIRST)
_DELETE = "DELETE /api/v1/models/NAME"


class CapturedModels:
    """The captured models and pretrained networks of a server.

    Args:
        users: the runs that need them.
        owners: records whom they belong to, and decides who sees them.
    """

    def __init__(self, settings: ServiceSettings, users: OpenRuns, owners: Ownership) -> None:
        self._folder, self._file_of, self._limits = settings.captured_models, settings.captured_model, settings.limits
        self._users, self._owners, self._trash = users, owners, settings.trash

    def resolved(self, reference: str, kind: Kind) -> Path | None:
        """The file or folder of a job's model; None where its name is not that of an uploaded one.

        Args:
            reference: The value of the job's key.
            kind: The kind of model that the key names.

        Raises:
            JobError: there is no such model.
        """
        folder, _, name = reference.partition("/")
        if folder != MODELS:
            return None
        by_name = {model.name: model for model in self.list()}
        if name in by_name and by_name[name].kind == kind:
            return self._place_of(by_name[name]).resolve()
        names = [model.name for model in by_name.values() if model.kind == kind]
        alternatives = f", or take one of {', '.join(names[:10])}" if names else ""
        noun = "captured model" if kind == "captured" else "pretrained network"
        text = f"there is no {noun} {name[:80]!r}; upload its file (POST /api/v1/models){alternatives}"
        if name in by_name:
            stored_kind = by_name[name].kind
            text = f"{name!r} is a {stored_kind} model, and jobs name it in {_KEYS[stored_kind]}"
            text = f"{text}; expected a {noun}{alternatives}"
        raise JobError(text, code="job.not-allowed")

    def add(self, name: str, content: BinaryIO) -> schemas.CapturedModel:
        """Stores a file that `nas capture` wrote, of which the first bytes are checked, and a driver reads the rest; or a
        pretrained network, which is read as a job reads it.

        Args:
            name: The name of the model.
            content: A captured model; a zip archive of the folder of a pretrained network; or a GGUF file.

        Raises:
            JobError: the name is invalid, or this is no such file.
            RunStateError: there is a model of this name, or the models exceed the server's limits.
            TooLargeError: it exceeds the limit of uploads.
            StoreError: the disk is nearly full.
        """
        checked_name("model", name)
        stored = self._stored()
        if name in {model.name for model in stored}:
            raise _name_taken(name)
        check_quota("models", len(stored), self._limits.models, _DELETE)
        self._folder.mkdir(parents=True, exist_ok=True)
        check_disk_space(self._folder)
        size = size_of(content)
        start = content.read(_HEADER_BYTES)
        if _is_capture(start):
            check_upload_size(size, self._limits, "model")
            self._check_quota(size, stored)
            self._add_capture(name, content)
        elif start.startswith((_GGUF, _HEADER)):
            filename = f"model{GGUF}" if start.startswith(_GGUF) else ""
            try:
                self._add_pretrained(name, content, filename, stored)
            except JobError as error:  # of the form's field with this name
                raise JobError(str(error), code=error.code, fields=[("model", str(error))]) from None
        else:
            state = "this is no model" if size else "the file is empty"
            expected = "a captured model, or the zip archive of a pretrained network's folder, or its GGUF file"
            text = f"{state}; expected {expected}"
            raise JobError(text, code="capture.malformed", fields=[("model", text)])
        return self.get(name)

    def list(self) -> tuple[schemas.CapturedModel, ...]:
        """The models that the sender of the request sees, by name."""
        return tuple(model for model in self._stored() if self._owners.sees(Thing(ThingKind.MODEL, model.name)))

    def _stored(self) -> tuple[schemas.CapturedModel, ...]:
        models = []
        paths = [
            *self._folder.glob(f"[!.]*{_SUFFIX}"),
            *(path.parent for path in self._folder.glob(f"[!.]*/{PRETRAINED_RECORD}")),
        ]
        for path in sorted(paths, key=lambda path: path.name.removesuffix(_SUFFIX)):
            with suppress(FileNotFoundError):  # another request has deleted it
                models.append(self._described(path))
        return tuple(models)

    def get(self, name: str) -> schemas.CapturedModel:
        """One model.

        Raises:
            UnknownNameError: there is none of this name.
        """
        by_name = {model.name: model for model in self.list()}
        if name not in by_name:
            raise UnknownNameError("captured model", name, by_name)
        return by_name[name]

    def delete(self, name: str) -> None:
        """Removes a model; a run that has begun keeps its own copy of a captured one.

        Raises:
            RunStateError: a run that waits or runs names it.
            UnknownNameError: there is none of this name.
        """
        with self._owners.releasing(Thing(ThingKind.MODEL, name)):
            path = self._file_of(name) if self.get(name).kind == "captured" else self._folder / name
            self._users.check_unused(path.resolve(), f"the model {name!r}")
            trashed = move_away(path, self._trash)
        if trashed.is_dir():
            shutil.rmtree(trashed, ignore_errors=True)
        else:
            trashed.unlink(missing_ok=True)

    @contextmanager
    def _taking(self, name: str) -> Iterator[None]:
        """Takes the name of a new model, which both kinds share, once the block has put the model in its place."""
        with self._owners.taking(Thing(ThingKind.MODEL, name)):
            if self._file_of(name).exists() or (self._folder / name).exists():  # another request was faster
                raise _name_taken(name)
            yield

    def _add_capture(self, name: str, content: BinaryIO) -> None:
        part = self._folder / f"{UPLOADING}{secrets.token_hex(8)}"
        try:
            write_upload(content, part)
            with self._taking(name):
                part.rename(self._file_of(name))
        finally:
            part.unlink(missing_ok=True)

    def _add_pretrained(
        self, name: str, content: BinaryIO, filename: str, stored: Sequence[schemas.CapturedModel]
    ) -> None:
        with unpack(content, filename, self._folder, self._limits, lambda path: is_of_pretrained(path.name)) as folder:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            self._check_quota(size, stored)
            facts = check_content(UploadedContent(folder, "model"), self._limits)
            model = schemas.CapturedModel(
                name=name,
                path=f"{MODELS}/{name}",
                bytes=size,
                uploaded=datetime.now(UTC),
                kind="pretrained",
                family=facts["family"],
                parameters=facts["parameters"],
            )
            write_atomically(folder / PRETRAINED_RECORD, model.model_dump_json().encode())
            with self._taking(name):
                folder.rename(self._folder / name)

    def _check_quota(self, size: int, stored: Sequence[schemas.CapturedModel]) -> None:
        if size + sum(model.bytes for model in stored) > self._limits.model_bytes:
            text = f"the server's models would take more than {self._limits.model_bytes} bytes"
            raise RunStateError(f"{text}; delete some first, e.g. with: {_DELETE}", code="storage.quota")

    def _place_of(self, model: schemas.CapturedModel) -> Path:
        """The file or folder that a job names."""
        if model.kind == "captured":
            return self._file_of(model.name)
        folder = self._folder / model.name
        return next(folder.glob(f"*{GGUF}"), folder)

    def _described(self, path: Path) -> schemas.CapturedModel:
        name = path.name.removesuffix(_SUFFIX)
        owner = self._owners.owner(Thing(ThingKind.MODEL, name)) or ""
        if path.is_dir():
            model = schemas.CapturedModel.model_validate_json((path / PRETRAINED_RECORD).read_bytes())
            return model.model_copy(update={"owner": owner})
        file_stat = path.stat()
        return schemas.CapturedModel(
            name=name,
            path=f"{MODELS}/{name}",
            bytes=file_stat.st_size,
            uploaded=datetime.fromtimestamp(file_stat.st_mtime, UTC),
            owner=owner,
        )


def _is_capture(start: bytes) -> bool:
    """True if the first member is the stored program, by its local header (APPNOTE.TXT 4.3.7)."""
    stored, name = start[8:10] == b"\0\0", start[30:]
    return start.startswith(_HEADER) and stored and name == _FIRST


def _name_taken(name: str) -> RunStateError:
    return RunStateError(f"there is a model {name!r} already; choose another name", code="name.taken")
