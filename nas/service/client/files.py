"""Downloads: streamed, checked by digest, and put in place only when all files are complete."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from nas.errors import ServiceError
from nas.results.export.manifest import files_of
from nas.service.api.schemas import FileInfo
from nas.service.client.transport import Transport

_MANIFEST = ".json"
DownloadProgress = Callable[[int, int], None]
"""Callback with the bytes received so far and in total."""


def download(
    transport: Transport,
    files: Sequence[tuple[FileInfo, str]],
    folder: Path,
    *,
    replaces: bool = False,
    on_progress: DownloadProgress | None = None,
) -> tuple[Path, ...]:
    """Downloads files into a folder, all or none; replaces only files of an earlier export.

    Args:
        files: each with its path in the API.
        replaces: whether any file is replaced.

    Raises:
        ServiceError: an invalid file name, a file whose digest differs, an existing file that no export wrote, or a folder
            that cannot be written.
    """
    for info, _ in files:
        _check_name(info.name)
    if not replaces:
        _check_replaced(folder, [info.name for info, _ in files])
    total, done = sum(info.bytes for info, _ in files), 0

    def received(n: int) -> None:
        nonlocal done
        done += n
        if on_progress is not None:
            on_progress(done, total)

    placed = [(folder / info.name, folder / f".{info.name}.{os.getpid()}.part") for info, _ in files]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as cleanup:
            for _, part in placed:
                cleanup.callback(part.unlink, missing_ok=True)
            for (info, path), (_, part) in zip(files, placed, strict=True):
                with part.open("xb") as file, transport.stream(path) as answer:
                    _receive(info, answer.iter_bytes(), file, received, transport.server)
                    file.flush()
                    os.fsync(file.fileno())
            # The manifest last: if it exists, so do the files that it names.
            for target, part in sorted(placed, key=lambda pair: pair[0].suffix == _MANIFEST):
                part.replace(target)
    except OSError as error:
        problem = f"{folder}: cannot be written: {error.strerror}; choose another folder with -o"
        raise ServiceError(problem, code="file.not-writable") from error
    return tuple(target for target, _ in placed)


def download_archive(
    transport: Transport, address: str, path: Path, *, on_progress: Callable[[int], None] | None = None
) -> Path:
    """Downloads a zip archive to a new file, whole or not at all; returns the path.

    Raises:
        ServiceError: the file exists or cannot be written, or the archive arrived damaged.
    """
    if path.exists():
        raise ServiceError(f"{path} exists; choose another file with -o, or move it", code="file.exists")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    received = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as cleanup:
            cleanup.callback(part.unlink, missing_ok=True)
            with part.open("xb") as file, transport.stream(address) as answer:
                for chunk in answer.iter_bytes():
                    received += file.write(chunk)
                    if on_progress is not None:
                        on_progress(received)
                file.flush()
                os.fsync(file.fileno())
            _check_archive(part, transport.server)
            part.replace(path)
    except OSError as error:
        problem = f"{path}: cannot be written: {error.strerror}; choose another file with -o"
        raise ServiceError(problem, code="file.not-writable") from error
    return path


def _check_archive(path: Path, server: str) -> None:
    """Raises `ServiceError` unless all members of an archive have their checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        damaged = str(error)
    if damaged is not None:
        text = f"{server}: the archive arrived damaged ({damaged}); nothing was written; fetch it again"
        raise ServiceError(text, code="download.corrupt")


def _receive(
    info: FileInfo, chunks: Iterable[bytes], file: BinaryIO, received: Callable[[int], None], server: str
) -> None:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > info.bytes:
            break
        digest.update(chunk)
        file.write(chunk)
        received(len(chunk))
    if size != info.bytes or digest.hexdigest() != info.sha256:
        raise ServiceError(
            f"{server}: {info.name} differs from the export's description (expected {info.bytes} bytes of sha256 "
            f"{info.sha256}, got {f'{size} bytes' if size <= info.bytes else 'more'}, sha256 {digest.hexdigest()}); "
            "nothing was written; fetch it again",
            code="download.corrupt",
        )


def _check_replaced(folder: Path, names: Sequence[str]) -> None:
    """Raises `ServiceError` if a file with one of these names was not written by an earlier export."""
    replaceable = {name for manifest in names if manifest.endswith(_MANIFEST) for name in files_of(folder / manifest)}
    for name in names:
        if (folder / name).exists() and name not in replaceable:
            raise ServiceError(
                f"{folder / name} exists and was not written by an earlier export; choose another folder with -o, or move it",
                code="file.exists",
            )


def _check_name(name: str) -> None:
    """Raises `ServiceError` unless this is a plain file name."""
    if not name or name != os.path.basename(name) or name.startswith(".") or "\\" in name or not name.isprintable():
        problem = f"the server sent the file name {name!r}; expected a plain name; nothing was written"
        raise ServiceError(problem, code="download.corrupt")
