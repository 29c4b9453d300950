"""Responses with several files in one zip archive."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from starlette.responses import Response, StreamingResponse

from nas.service.http.problems import Answers

ZIP: Answers = {200: {"description": "All files in a zip archive.", "content": {"application/zip": {}}}}
_CHUNK = 256 * 1024


def zipped(files: Mapping[str, Path | bytes], name: str) -> Response:
    """An archive of files or contents by their paths in it, which is made while it is sent.

    Args:
        name: Name of the archive without its suffix.
    """
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(_chunks(files), media_type="application/zip", headers=headers)


def _chunks(files: Mapping[str, Path | bytes]) -> Iterator[bytes]:
    sent = _Sent()
    # Stored, not compressed: weights do not compress.
    with zipfile.ZipFile(cast(Any, sent), "w", zipfile.ZIP_STORED) as archive:
        for path, content in files.items():
            if isinstance(content, bytes):
                archive.writestr(path, content)
                yield sent.take()
                continue
            with content.open("rb") as source, archive.open(path, "w", force_zip64=True) as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
                    yield sent.take()
    yield sent.take()


class _Sent:
    """A file that is only written, whose bytes are taken as they come."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, content: bytes) -> int:
        """Keeps bytes to be taken."""
        self._chunks.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        """Does nothing: nothing is buffered elsewhere."""

    def take(self) -> bytes:
        """The bytes since the last call."""
        content, self._chunks = b"".join(self._chunks), []
        return content
