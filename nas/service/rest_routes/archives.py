"""Responses with several files in one zip archive."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from nas.service.http.problems import Answers

ZIP: Answers = {200: {"description": "All files in a zip archive.", "content": {"application/zip": {}}}}


def zipped(files: Mapping[str, Path | bytes], name: str) -> Response:
    """An archive of files or contents by their paths in it; ``name`` is without the suffix."""
    # Stored, not compressed: weights do not compress. On disk, since they may be large.
    archive_file = tempfile.NamedTemporaryFile(suffix=".zip")  # noqa: SIM115 - closed, and so removed, once it was sent
    try:
        with zipfile.ZipFile(archive_file, "w", zipfile.ZIP_STORED) as archive:
            for path, content in files.items():
                if isinstance(content, bytes):
                    archive.writestr(path, content)
                else:
                    archive.write(content, path)
        archive_file.flush()
    except BaseException:
        archive_file.close()
        raise
    return FileResponse(
        archive_file.name,
        media_type="application/zip",
        filename=f"{name}.zip",
        background=BackgroundTask(archive_file.close),
    )
