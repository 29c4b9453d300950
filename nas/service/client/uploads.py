"""Files and folders to upload: a folder is packed as a zip archive, and progress is reported while a file is sent."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.errors import ServiceError
from supernets.files import check_regular

UploadProgress = Callable[[str, int, int], None]
"""Callback with a phase, packing or uploading, and the bytes done in it and in total."""
_PACKED = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gz", ".safetensors", ".gguf"})
"""Suffixes of files that compression makes hardly smaller."""
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


class _CountedFile(io.BufferedReader):
    """A file that reports how much of it was read."""

    def __init__(self, file: io.FileIO, size: int, report: UploadProgress) -> None:
        super().__init__(file)
        self._size, self._report = size, report

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        self._report("uploading", self.tell(), self._size)
        return chunk


@contextmanager
def opened_upload(
    path: Path, *, chooses: Callable[[str], bool] = lambda name: True, on_progress: UploadProgress | None = None
) -> Iterator[tuple[str, io.BufferedReader]]:
    """The name and the content to upload of a file, or of a folder, which is packed into a temporary zip archive.

    Args:
        path: The file or folder. Hidden files and those that operating systems add are left out.
        chooses: Whether a file of a folder is packed, by its name.
        on_progress: Called while files are packed and sent.

    Raises:
        ServiceError: it cannot be read, or is an empty folder.
    """
    report: UploadProgress = on_progress or (lambda phase, done, total: None)
    try:
        if not path.is_dir():
            check_regular(path)
            with _CountedFile(io.FileIO(path), path.stat().st_size, report) as content:
                yield path.name, content
            return
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / f"{path.resolve().name}.zip"
            _pack(path, archive, chooses, report)
            with _CountedFile(io.FileIO(archive), archive.stat().st_size, report) as content:
                yield archive.name, content
    except OSError as error:
        text = f"{error.filename or path}: cannot be read: {error.strerror}; check its path and permissions"
        raise ServiceError(text) from None


def _pack(folder: Path, archive: Path, chooses: Callable[[str], bool], report: UploadProgress) -> None:
    size_by_file = {file: file.stat().st_size for file in _files(folder) if chooses(file.name)}
    if not size_by_file:
        raise ServiceError(f"{folder}: holds no files to upload; check its path")
    done, total = 0, sum(size_by_file.values())
    with zipfile.ZipFile(archive, "w") as packed:
        for file, size in size_by_file.items():
            check_regular(file)
            method = zipfile.ZIP_STORED if file.suffix.lower() in _PACKED else zipfile.ZIP_DEFLATED
            packed.write(file, file.relative_to(folder).as_posix(), compress_type=method)
            done += size
            report("packing", done, total)


def _files(folder: Path) -> Iterator[Path]:
    """The files in a folder and the folders in it, by name."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name.lower() in _CLUTTER:
            continue
        if entry.is_dir():
            yield from _files(entry)
        else:
            yield entry
