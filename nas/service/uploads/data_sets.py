"""Data sets that submitted jobs may name: uploaded ones, and those below the configured folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from nas.engine.store.folder import write_atomically
from nas.errors import JobError, RunStateError, UnknownNameError
from nas.service.api import schemas
from nas.service.ownership import Ownership, Thing, ThingKind
from nas.service.settings import ServiceSettings
from nas.service.uploads.archives import FORMATS, ArchiveError, Chooser, unpack
from nas.service.uploads.content_check import OPTIONS, UploadedContent, check_content
from nas.service.uploads.deletion import move_away
from nas.service.uploads.storage_checks import check_quota, checked_name
from nas.service.views.open_runs import OpenRuns
from supernets.data.fashion_mnist import FILES as FASHION_MNIST
from supernets.data.table_rows import SUFFIXES as TABLES
from supernets.networks.formats.pretrained import CONFIG, GGUF, WEIGHTS

TEXT_KINDS = ("text", "text-classification")
"""Kinds of data whose files may have any name."""
UPLOADED = "uploads"
"""The folder of uploads in paths of job files: ``path: uploads/NAME``."""
_DELETE = "DELETE /api/v1/data/NAME"


class DataSets:
    """The data sets of a server.

    Args:
        users: the runs that need them.
        owners: records whom they belong to, and decides who sees them.
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
                and (root != self._folder or self._sees(resolved_path.relative_to(base).parts[0]))
            ):
                return resolved_path
        below = f", or a path below one of the server's {len(self._roots)} data folders" if self._roots else ""
        text = (
            f"{str(path)!r} does not exist or is not allowed; expected {UPLOADED}/NAME of an uploaded data set{below}"
        )
        raise JobError(text, code="job.not-allowed")

    def add(
        self,
        name: str,
        content: BinaryIO,
        filename: str = "",
        *,
        kind: str = "",
        task: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> schemas.DataUpload:
        """A data set from a zip archive or a single file, which is read as a job reads it before it is stored.

        Args:
            filename: The name of the client's file; "" for that of an archive.
            kind: Its name in the data section of jobs, e.g. ``number-table``; "" to recognise it.
            task: The task of jobs on it, which says how a table's labels are read; "" to recognise it.
            options: Keys of the data section that say how the files are read, see `content_check.OPTIONS`.

        Raises:
            JobError: the name, the archive or its contents are invalid.
            RunStateError: there is a data set of this name, or the data sets exceed the server's limits.
            TooLargeError: the archive exceeds a limit.
        """
        name, options = checked_name("data set", name), _checked_options(options or {})
        target = self._folder / name
        name_error = RunStateError(f"there is a data set {name!r} already; choose another name", code="name.taken")
        if target.exists():
            raise name_error
        stored = self._stored()
        check_quota("data sets", len(stored), self._limits.data_sets, _DELETE)
        self._folder.mkdir(parents=True, exist_ok=True)
        with unpack(content, filename, self._folder, self._limits, chooser(kind)) as unpacked:
            size = counted(unpacked, name).bytes
            self._check_size(size, sum(existing.bytes for existing in stored))
            facts = check_content(UploadedContent(unpacked, "data", kind, options, task), self._limits)
            data_set = _described(name, facts, size)
            with self._owners.taking(Thing(ThingKind.DATA_SET, name)):
                if target.exists():  # another request was faster
                    raise name_error
                self._record(data_set)  # first: a list counts the files of a data set without a record
                unpacked.rename(target)
        return schemas.DataUpload(**data_set.model_dump(include=set(schemas.DataUpload.model_fields)))

    def get(self, name: str) -> schemas.DataSet:
        """One uploaded data set.

        Raises:
            UnknownNameError: there is none of this name.
        """
        data_sets = {data_set.name: data_set for data_set in self.list()}
        if name not in data_sets:
            raise UnknownNameError("data set", name, data_sets)
        return data_sets[name]

    def list(self) -> tuple[schemas.DataSet, ...]:
        """The uploaded data sets that the sender of the request sees, by name."""
        return tuple(data_set for data_set in self._stored() if self._sees(data_set.name))

    def _sees(self, name: str) -> bool:
        return self._owners.sees(Thing(ThingKind.DATA_SET, name))

    def _stored(self) -> tuple[schemas.DataSet, ...]:
        folders = sorted(path for path in self._folder.glob("[!.]*") if path.is_dir())
        owner = {path: self._owners.owner(Thing(ThingKind.DATA_SET, path.name)) or "" for path in folders}
        return tuple(self._recorded(path).model_copy(update={"owner": owner[path]}) for path in folders)

    def delete(self, name: str) -> None:
        """Removes an uploaded data set; runs that have ended can then no longer be resumed or exported.

        Raises:
            RunStateError: a run that waits or runs uses it.
        """
        with self._owners.releasing(Thing(ThingKind.DATA_SET, name)):
            self.get(name)
            self._users.check_unused(self._folder.absolute() / name, f"the data set {name!r}")
            trashed = move_away(self._folder / name, self._trash)
            self._record_of(name).unlink(missing_ok=True)
        shutil.rmtree(trashed, ignore_errors=True)

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
            data_set = schemas.DataSet.model_validate_json(self._record_of(folder.name).read_bytes())
            return data_set if data_set.examples else data_set.model_copy(update={"examples": data_set.images})
        data_set = counted(folder, folder.name)
        self._record(data_set)
        return data_set


def _checked_options(options: Mapping[str, Any]) -> dict[str, str | bool]:
    """The options, if they are some that say how files are read; their values are checked with the files."""
    for key, value in options.items():
        if key not in OPTIONS or not isinstance(value, str | bool):
            text = f"{str(key)[:80]}={str(value)[:80]!r}: expected texts, or true or false, for {', '.join(OPTIONS)}"
            raise JobError(f"options: {text}", code="data.invalid-option", fields=[("options", text)])
    return dict(options)


def chooser(kind: str) -> Chooser:
    """The files that are stored of a data set of a kind: text files have any name, all others a suffix of what they are."""
    suffixes = (*FORMATS, *TABLES, ".txt", ".json", ".xml", ".yaml", ".yml")

    def chooses(path: Path) -> bool:
        shown = repr(str(path)[:80])
        if any(part.startswith(".") for part in path.parts):
            raise ArchiveError(f"holds {shown}, a hidden file; remove it")
        if kind in TEXT_KINDS:
            return True
        is_of_network = path.name in (CONFIG, WEIGHTS) or path.suffix in (GGUF, ".capture")
        if not is_of_network and (path.suffix.lower() in suffixes or path.name.removesuffix(".gz") in FASHION_MNIST):
            return True
        if is_of_network:
            raise ArchiveError(f"holds {shown}, a file of a network; upload it as a model (POST /api/v1/models)")
        raise ArchiveError(f"holds {shown}; expected {', '.join(suffixes)} files only")

    return chooses


def _described(name: str, facts: Mapping[str, Any], size: int) -> schemas.DataSet:
    """The record of a data set that was just checked; `facts` are those of `nas.service.uploads.check_process`."""
    place = "/".join(filter(None, (UPLOADED, name, facts["place"])))
    n, decoded, noun = facts["n_examples"], facts["n_decoded"], facts["noun"]
    if decoded is None:
        checked = f"all {n:,} {noun}s were read"
    elif decoded >= n:
        checked = f"all {n:,} {noun}s were decoded"
    else:
        checked = (
            f"{decoded:,} of {n:,} {noun}s were decoded, and of the others the headers were read: a damaged one fails a job, "
            "unless its data section has skip_unreadable: true"
        )
    return schemas.DataSet(
        name=name,
        path=place,
        images=n if noun == "image" else 0,
        classes=tuple(facts["class_names"]),
        kind=facts["kind"],
        task=facts["task"],
        options=facts["options"],
        examples=n,
        noun=noun,
        checked=checked,
        bytes=size,
        uploaded=datetime.now(UTC),
        short_side=facts["short_side"],
    )


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
        examples=images,
        classes=tuple(sorted(classes)),
        bytes=size,
        uploaded=datetime.fromtimestamp(folder.stat().st_mtime, UTC),
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g}"
