"""Files from a server: streamed, checked, and put in place only when all of them are whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from nas.api.schemas import FileInfo
from nas.client.transport import Transport
from nas.errors import ServiceError
from nas.export.manifest import files_of

_MANIFEST = ".json"
Received = Callable[[int, int], None]
"""Told of bytes so far, and of all."""


def download(
    transport: Transport,
    files: Sequence[tuple[FileInfo, str]],
    folder: Path,
    *,
    on_progress: Received | None = None,
) -> tuple[Path, ...]:
    """Fetches files into a folder, all of them or none; those of an earlier export are replaced, and no others.

    Args:
        files: each with the path that the server has it under.
        folder: made where there is none.

    Raises:
        ServiceError: a name that is none of a file, an answer that is not the file that was promised, a file in its place
            that is of no export, or a folder that cannot be written.
    """
    for info, _ in files:
        _check_name(info.name)
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
        with ExitStack() as leftovers:
            for _, part in placed:
                leftovers.callback(part.unlink, missing_ok=True)
            for (info, path), (_, part) in zip(files, placed, strict=True):
                with part.open("xb") as file, transport.stream(path) as answer:
                    _receive(info, answer.iter_bytes(), file, received, transport.server)
                    file.flush()
                    os.fsync(file.fileno())
            # The manifest last: where one stands, the files that it names stand too.
            for target, part in sorted(placed, key=lambda pair: pair[0].suffix == _MANIFEST):
                part.replace(target)
    except OSError as error:
        raise ServiceError(f"{folder}: cannot be written: {error.strerror}; choose another folder with -o") from error
    return tuple(target for target, _ in placed)


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
            f"{server}: {info.name} came otherwise than the export says (expected {info.bytes} bytes of sha256 "
            f"{info.sha256}, got {f'{size} bytes' if size <= info.bytes else 'more'}, sha256 {digest.hexdigest()}); "
            "nothing was written; fetch it again"
        )


def _check_replaced(folder: Path, names: Sequence[str]) -> None:
    """Raises `ServiceError` where a file of one of these names is none of an earlier export."""
    earlier = {name for manifest in names if manifest.endswith(_MANIFEST) for name in files_of(folder / manifest)}
    for name in names:
        if (folder / name).exists() and name not in earlier:
            raise ServiceError(
                f"{folder / name} exists and is of no earlier export; choose another folder with -o, or move it"
            )


def _check_name(name: str) -> None:
    """Raises `ServiceError` unless this is the plain name of a file."""
    if not name or name != os.path.basename(name) or name.startswith(".") or "\\" in name or not name.isprintable():
        raise ServiceError(f"the server names a file {name!r}; expected a plain name, and nothing was written")
