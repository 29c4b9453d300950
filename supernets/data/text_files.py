"""Reads the text files of a folder, a zip archive or a single path, within bounds; every error names its file."""

from __future__ import annotations

import codecs
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from supernets.data.labelled_examples import CLUTTER, misplaced, missing, too_large, unreadable
from supernets.files import ZIP_ERRORS, ZIP_METHODS

MAX_MIB = 512
"""Maximum size of the text that is read; all is held in memory."""
MAX_FILES = 1000
"""Maximum number of files of a folder or an archive; each file is expected to hold many sentences."""
MAX_RATIO = 200
"""Maximum size that a file of an archive may unpack to, as a multiple of its packed size; prose packs to a third or less."""
_RATIO_FROM = 2**20
"""Unpacked bytes from which the ratio is checked."""
_CHUNK = 2**20
_OTHER = frozenset({".zip", ".gz", ".xz", ".bz2", ".zst", ".7z", ".tar", ".xlsx", ".xls", ".parquet", ".json", ".pdf"})
"""Suffixes of files that are often beside text files, and are not text."""
_OF_ONE_BYTE = ("latin-1", "cp1250", "cp1251", "cp1252", "iso-8859-2", "iso-8859-15", "koi8-r")
"""Encodings in which (almost) all bytes are text, so that text of any encoding can be decoded, wrongly."""
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MAX_DEPTH = 4
"""Nested folders; no layout needs more."""
_ABOUT = ("readme", "license", "licence")
"""Prefixes of the names of files that describe the others."""


class TextFile(NamedTuple):
    """A file's text.

    Attributes:
        name: path below the folder or the archive, with slashes; the own name of a single file.
        where: its name in errors.
    """

    name: str
    where: str
    text: str

    @property
    def suffix(self) -> str:
        """The suffix of its name, in lower case."""
        return PurePosixPath(self.name).suffix.lower()

    def lines(self) -> list[str]:
        """Its lines by the three usual ends; `str.splitlines` would also divide at characters that sentences may hold."""
        return self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_texts(path: Path, *, encoding: str | None) -> list[TextFile]:
    """The text of a file, or of every file in a folder or a zip archive, by name.

    Hidden files and descriptions (``README``, ``LICENSE``) are left out.

    Args:
        encoding: Encoding of all files; None for UTF-8, where the user cannot name another.

    Raises:
        DataError: the path does not exist, cannot be read, is damaged, exceeds the bounds, or has another encoding.
    """
    try:
        if path.is_dir():
            return _read_folder(path, encoding)
        if not stat.S_ISREG(path.stat().st_mode):
            raise misplaced(f"{path}: is no file; expected a file or a folder of sentences")
        if path.suffix.lower() == ".zip":
            return _read_archive(path, encoding)
        with path.open("rb") as file:
            data = _read(file, limit=MAX_MIB * 2**20, where=str(path))
        return [TextFile(path.name, str(path), _decoded(data, where=str(path), encoding=encoding))]
    except FileNotFoundError as error:
        raise missing(f"{error.filename}: does not exist; expected a file or a folder of sentences") from None
    except OSError as error:
        raise unreadable(f"{error.filename or path}: cannot be read ({error.strerror}); make it readable") from None


def _read_folder(folder: Path, encoding: str | None) -> list[TextFile]:
    remaining_bytes = MAX_MIB * 2**20
    texts = []
    for file in _files(folder):
        with file.open("rb") as opened:
            data = _read(opened, limit=remaining_bytes, where=str(folder))
        remaining_bytes -= len(data)
        text = _decoded(data, where=str(file), encoding=encoding)
        texts.append(TextFile(file.relative_to(folder).as_posix(), str(file), text))
    return texts


def _files(folder: Path, depth: int = 1) -> list[Path]:
    """The files in a folder and the folders in it, links followed."""
    if depth > _MAX_DEPTH:
        raise misplaced(f"{folder}: is a folder {depth} levels deep; expected files of sentences; move them up")
    files: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if _is_clutter(entry.name) or _is_about(entry.name):
            continue
        if entry.is_dir():
            files += _files(entry, depth + 1)
        else:
            _check_kind(entry.name, where=str(entry), regular=entry.is_file())
            files.append(entry)
        _check_number(len(files), where=str(folder))
    return files


def _read_archive(path: Path, encoding: str | None) -> list[TextFile]:
    try:
        with zipfile.ZipFile(path) as opened:
            return list(_members(opened, path, encoding))
    except ZIP_ERRORS as error:
        raise unreadable(f"{path}: is no sound zip archive ({error}); replace it with a whole copy") from None


def _members(opened: zipfile.ZipFile, path: Path, encoding: str | None) -> Iterator[TextFile]:
    infos = [info for info in opened.infolist() if not info.is_dir()]
    _check_number(len(infos), where=str(path))
    remaining_bytes = MAX_MIB * 2**20
    names = set()
    for info in sorted(infos, key=lambda info: info.filename):
        parts = info.filename.split("/")
        if any(map(_is_clutter, parts)) or _is_about(parts[-1]):
            continue
        where = f"{path}/{info.filename}"
        _check_kind(parts[-1], where=where, regular=True)
        if info.filename in names:
            raise unreadable(f"{where}: comes twice; pack the archive again")
        names.add(info.filename)
        if info.flag_bits & 0x1 or info.compress_type not in ZIP_METHODS:
            raise unreadable(f"{where}: is encrypted, or packed otherwise than by deflate; pack it plainly")
        with opened.open(info) as member:
            data = _read(member, limit=remaining_bytes, where=str(path), packed=info.compress_size)
        remaining_bytes -= len(data)
        yield TextFile(info.filename, where, _decoded(data, where=where, encoding=encoding))


def _read(file: IO[bytes], *, limit: int, where: str, packed: int | None = None) -> bytes:
    """All bytes of a file, counted while they are read: the size in an archive may be false."""
    chunks, size = [], 0
    while chunk := file.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise too_large(f"{where}: holds more than {MAX_MIB} MiB of text; expected less; use fewer sentences")
        if packed is not None and size > max(_RATIO_FROM, MAX_RATIO * packed):
            raise too_large(f"{where}: unpacks to more than {MAX_RATIO} times its size, unlike text; replace it")
        chunks.append(chunk)
    return b"".join(chunks)


def _decoded(data: bytes, *, where: str, encoding: str | None) -> str:
    if encoding == "utf-16" and not data.startswith(_UTF16_MARKS) and _is_utf8(data):
        raise unreadable(f"{where}: is utf-8 and not utf-16 (no byte order mark begins it); leave its encoding out")
    if encoding in _OF_ONE_BYTE and not data.isascii() and _is_utf8(data):
        raise unreadable(f"{where}: is utf-8 and not {encoding}; leave its encoding out")
    codec = encoding or "utf-8"
    mark = codecs.BOM_UTF8 if codec == "utf-8" and data.startswith(codecs.BOM_UTF8) else b""
    try:
        text = data[len(mark) :].decode(codec)
    except UnicodeDecodeError as error:
        at = len(mark) + error.start
        line = 1 + data.count(b"\n", 0, at)
        alternative = "utf-16" if data.startswith(_UTF16_MARKS) else "latin-1"
        wrong = f"byte 0x{data[at]:02x} at offset {at} (line {line})"
        remedy = "save it as utf-8" if encoding is None else f"convert it, or give its encoding, e.g. {alternative}"
        raise unreadable(f"{where}: is not {codec}: {wrong}; {remedy}") from None
    if (at := text.find("\0")) >= 0:
        remedy = "save it as utf-8" if encoding is None else "give its encoding (utf-16?)"
        raise unreadable(f"{where}: holds a zero character at {at}; {remedy}, or replace it")
    return text


def _is_utf8(data: bytes) -> bool:
    """Returns True if bytes are text in UTF-8; Latin letters in UTF-16 are not: every other byte is zero."""
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _check_number(n: int, *, where: str) -> None:
    if n > MAX_FILES:
        expected = "one file a class, one sentence a line"
        raise too_large(f"{where}: holds more than {MAX_FILES} files; expected {expected}; join them")


def _check_kind(name: str, *, where: str, regular: bool) -> None:
    if not regular or PurePosixPath(name).suffix.lower() in _OTHER:
        raise unreadable(f"{where}: is no text file; expected text files alone; unpack or convert it, or remove it")


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def _is_about(name: str) -> bool:
    return name.lower().startswith(_ABOUT)
