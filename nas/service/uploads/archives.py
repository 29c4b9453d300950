"""Unpacks uploaded archives of images within limits, and rejects any that hold something else."""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from nas.errors import JobError, TooLargeError
from nas.service.settings import Limits
from nas.service.uploads.storage_checks import check_disk_space
from supernets.files import ZIP_ERRORS, ZIP_METHODS

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
"""Allowed suffixes of image files, and the format of each."""
UNPACKING = ".unpacking-"
"""Prefix of the folders that archives are unpacked into."""
_PARTS = frozenset({"train", "val", "validation", "test"})
_MAX_PIXELS = 64 * 1024 * 1024
_MAX_PATH = 300
_MAX_NAME_BYTES = 255
_CHUNK = 1024 * 1024
_RATIO_FROM = 64 * 1024
"""Bytes unpacked from which the ratio is checked: small files of one colour compress well."""
_PLAIN = re.compile(r"[^\x00-\x1f\x7f/\\]{1,120}")
_CLUTTER = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")


class ArchiveError(JobError):
    """An uploaded archive is damaged, or holds something other than images by class."""

    code = "archive.invalid"

    def __init__(self, text: str, *, code: str | None = None) -> None:
        message = f"the archive {text}"
        super().__init__(message, code=code, fields=[("archive", message)])


@contextmanager
def unpack_images(archive: BinaryIO, beside: Path, limits: Limits) -> Iterator[Path]:
    """A new folder with the images of a zip archive, which the caller moves elsewhere; it is removed if it stays.

    It has a folder for each class, perhaps below ``train``, ``validation`` and ``test``. Sizes are counted while unpacking:
    those that the archive states are used only to reject it.

    Args:
        beside: a folder on the file system that the images are moved within.

    Raises:
        ArchiveError: no zip archive, or one that holds anything but images laid out as above.
        TooLargeError: beyond a limit.
        StoreError: the disk is nearly full.
    """
    folder = Path(tempfile.mkdtemp(prefix=UNPACKING, dir=beside))
    try:
        data_folder = folder / "data"
        data_folder.mkdir()
        _unpack(archive, data_folder, limits)
        yield data_folder
    finally:
        shutil.rmtree(folder)


def _unpack(archive: BinaryIO, folder: Path, limits: Limits) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            left = limits.archive_bytes
            for path, info in _members(opened, limits).items():
                check_disk_space(folder)
                left -= _write(opened, info, folder / path, limits, left)
                _check_image(folder / path, shown=str(path))
    except ZIP_ERRORS as error:
        raise ArchiveError(f"is no intact zip archive ({error})", code="archive.damaged") from None


def _members(opened: zipfile.ZipFile, limits: Limits) -> dict[Path, zipfile.ZipInfo]:
    """The archive's images by their paths; raises unless all of it is allowed."""
    infos = opened.infolist()
    if len(infos) > limits.archive_members:
        raise TooLargeError(f"the archive holds {len(infos)} entries; at most {limits.archive_members} are allowed")
    if sum(info.file_size for info in infos) > limits.archive_bytes:
        raise TooLargeError(f"the archive unpacks to more than {limits.archive_bytes} bytes")
    info_by_path: dict[Path, zipfile.ZipInfo] = {}
    for info in infos:
        path = _checked_path(info)
        if path is None:
            continue
        if path in info_by_path:
            raise ArchiveError(f"holds {str(path)!r} twice")
        info_by_path[path] = info
    if not info_by_path:
        raise ArchiveError("holds no images")
    # A single folder around everything, as most programs create one, is dropped.
    tops = {path.parts[0] for path in info_by_path}
    if len(tops) == 1 and all(len(path.parts) > 2 for path in info_by_path) and tops.isdisjoint(_PARTS):
        info_by_path = {Path(*path.parts[1:]): info for path, info in info_by_path.items()}
    divided = [path for path in info_by_path if len(path.parts) == 3 and path.parts[0] in _PARTS]
    if len(divided) not in (0, len(info_by_path)) or any(
        len(path.parts) != (3 if divided else 2) for path in info_by_path
    ):
        raise ArchiveError("has another layout than CLASS/IMAGE or {train,validation,test}/CLASS/IMAGE")
    return info_by_path


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
    if len(name) > _MAX_PATH or not all(map(_is_plain, parts)):
        raise ArchiveError(f"holds {shown}, which is no plain path below the archive's folder", code="archive.unsafe")
    if name.startswith(_CLUTTER[0]) or parts[-1] in _CLUTTER or name.endswith("/"):
        return None
    if any(part.startswith(".") for part in parts):
        raise ArchiveError(f"holds {shown}, a hidden file; remove it")
    if Path(name).suffix.lower() not in FORMATS:
        raise ArchiveError(f"holds {shown}; expected {', '.join(FORMATS)} files only")
    if len(parts) < 2:
        raise ArchiveError(f"holds {shown} outside of a class's folder")
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
