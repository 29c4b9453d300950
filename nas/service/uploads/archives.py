"""Unpacks uploads, a zip archive or a single file, within limits; their contents are checked by `content_check`."""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from nas.errors import JobError, TooLargeError
from nas.service.settings import Limits
from nas.service.uploads.storage_checks import check_disk_space, check_upload_size, size_of, write_upload
from supernets.files import ZIP_ERRORS, ZIP_METHODS

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
"""Allowed suffixes of image files, and the format of each."""
UNPACKING = ".unpacking-"
"""Prefix of the folders that archives are unpacked into."""
_PARTS = frozenset({"train", "val", "validation", "test"})
_MAX_PIXELS = 64 * 1024 * 1024
_MAX_PATH = 300
_MAX_NAME_BYTES = 255
_MAX_DEPTH = 5
_CHUNK = 1024 * 1024
_RATIO_FROM = 64 * 1024
"""Bytes unpacked from which the ratio is checked: small files of one colour compress well."""
_PLAIN = re.compile(r"[^\x00-\x1f\x7f/\\]{1,120}")
_CLUTTER = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")

Chooser = Callable[[Path], bool]
"""Whether a file of an upload is stored, by its path; raises `ArchiveError` where the upload is rejected for it."""


class ArchiveError(JobError):
    """An uploaded archive is damaged, or holds something that is not expected."""

    code = "archive.invalid"

    def __init__(self, text: str, *, code: str | None = None) -> None:
        message = f"the archive {text}"
        super().__init__(message, code=code, fields=[("archive", message)])


@contextmanager
def unpack(content: BinaryIO, filename: str, beside: Path, limits: Limits, chooses: Chooser) -> Iterator[Path]:
    """A new folder with the files of an upload, which the caller moves elsewhere; it is removed if it stays.

    An archive's files have their paths in it, without a folder around all of them. Sizes are counted while unpacking: those
    that the archive states are used only to reject it.

    Args:
        filename: The name that the client gave; one with the suffix ``.zip``, or none, is that of an archive.
        beside: a folder on the file system that the files are moved within.
        chooses: The files that are stored.

    Raises:
        ArchiveError: no zip archive, or one with links, unsafe paths or files that `chooses` rejects.
        TooLargeError: beyond a limit.
        StoreError: the disk is nearly full.
    """
    check_upload_size(size_of(content), limits, "upload")
    folder = Path(tempfile.mkdtemp(prefix=UNPACKING, dir=beside))
    try:
        data_folder = folder / "data"
        data_folder.mkdir()
        name = Path(filename.replace("\\", "/")).name
        if Path(name).suffix.lower() in ("", ".zip"):
            _unpack(content, data_folder, limits, chooses)
        else:
            _store(content, data_folder, name, chooses)
        yield data_folder
    finally:
        shutil.rmtree(folder)


def _store(content: BinaryIO, folder: Path, name: str, chooses: Chooser) -> None:
    """Stores an upload that is a single file."""
    if not _is_plain(name) or name.startswith(".") or not chooses(Path(name)):
        text = f"the file {name[:80]!r} cannot be used alone; expected a table, a text file or a zip archive"
        raise JobError(text, code="archive.invalid", fields=[("archive", text)])
    check_disk_space(folder)
    write_upload(content, folder / name)
    if Path(name).suffix.lower() in FORMATS:
        _check_image(folder / name, shown=name)


def _unpack(archive: BinaryIO, folder: Path, limits: Limits, chooses: Chooser) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            left = limits.archive_bytes
            for path, info in _members(opened, limits, chooses).items():
                check_disk_space(folder)
                left -= _write(opened, info, folder / path, limits, left)
                if path.suffix.lower() in FORMATS:
                    _check_image(folder / path, shown=str(path))
    except ZIP_ERRORS as error:
        raise ArchiveError(f"is no intact zip archive ({error})", code="archive.damaged") from None


def _members(opened: zipfile.ZipFile, limits: Limits, chooses: Chooser) -> dict[Path, zipfile.ZipInfo]:
    """The archive's files by their paths; raises unless all of it is allowed."""
    infos = opened.infolist()
    if len(infos) > limits.archive_members:
        raise TooLargeError(f"the archive holds {len(infos)} entries; at most {limits.archive_members} are allowed")
    if sum(info.file_size for info in infos) > limits.archive_bytes:
        raise TooLargeError(f"the archive unpacks to more than {limits.archive_bytes} bytes")
    info_by_path: dict[Path, zipfile.ZipInfo] = {}
    for info in infos:
        path = _checked_path(info)
        if path is None or not chooses(path):
            continue
        if path in info_by_path:
            raise ArchiveError(f"holds {str(path)!r} twice")
        info_by_path[path] = info
    for path in info_by_path:
        if folder := next((above for above in path.parents if above in info_by_path), None):
            raise ArchiveError(f"holds {str(folder)!r} as a file and as a folder")
    if not info_by_path:
        raise ArchiveError("holds no files that can be used")
    return _without_top(info_by_path)


def _without_top(info_by_path: dict[Path, zipfile.ZipInfo]) -> dict[Path, zipfile.ZipInfo]:
    """The files without a single folder around everything, as most programs create one; a folder of images stays a class."""
    tops = {path.parts[0] for path in info_by_path}
    inside = [path for path in info_by_path if len(path.parts) > 1]
    of_class = all(len(path.parts) == 2 and path.suffix.lower() in FORMATS for path in inside)
    if len(tops) != 1 or len(inside) != len(info_by_path) or of_class or tops <= _PARTS:
        return info_by_path
    return {Path(*path.parts[1:]): info for path, info in info_by_path.items()}


def _checked_path(info: zipfile.ZipInfo) -> Path | None:
    """The path of a member; None for folders and for files that operating systems add."""
    name = info.orig_filename
    shown = repr(name[:80])
    if info.flag_bits & 0x1:
        raise ArchiveError(f"holds {shown}, which is encrypted")
    if info.compress_type not in ZIP_METHODS:
        raise ArchiveError(f"holds {shown}, which is compressed with another method than deflate")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"holds {shown}, which is a link or a device", code="archive.unsafe")
    parts = name.rstrip("/").split("/")
    if len(name) > _MAX_PATH or len(parts) > _MAX_DEPTH or not all(map(_is_plain, parts)):
        raise ArchiveError(f"holds {shown}, which is no plain path below the archive's folder", code="archive.unsafe")
    if name.startswith(_CLUTTER[0]) or parts[-1] in _CLUTTER or name.endswith("/"):
        return None
    return Path(*parts)


def _is_plain(part: str) -> bool:
    """True if a part of a path can be the name of a file: file systems limit its bytes, not its letters."""
    return part not in ("", ".", "..") and _PLAIN.fullmatch(part) is not None and len(part.encode()) <= _MAX_NAME_BYTES


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, limits: Limits, left: int) -> int:
    """Unpacks one member and returns its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with opened.open(info) as source, path.open("xb") as target:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > left:
                raise TooLargeError(f"the archive unpacks to more than {limits.archive_bytes} bytes")
            if size > _RATIO_FROM and size > limits.archive_ratio * max(info.compress_size, 1):
                raise TooLargeError(
                    f"{info.filename[:80]!r} unpacks to more than {limits.archive_ratio:g} times its size in the archive"
                )
            target.write(chunk)
    return size


def _check_image(path: Path, *, shown: str) -> None:
    """Reads an image's header, and none of its pixels."""
    expected = FORMATS[path.suffix.lower()]
    try:
        with Image.open(path, formats=[expected]) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise TooLargeError(f"{shown!r} has too many pixels") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
        raise ArchiveError(f"holds {shown!r}, which is no {expected} image") from None
    if width * height > _MAX_PIXELS:
        raise TooLargeError(f"{shown!r} has {width} x {height} pixels; at most {_MAX_PIXELS} are allowed")
