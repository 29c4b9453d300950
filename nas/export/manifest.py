"""The file names that the manifest of an export lists."""

from __future__ import annotations

import json
from pathlib import Path

FORMAT = "subnet-nas/export"


def files_of(manifest: Path) -> set[str]:
    """Names of the files of an earlier export, its manifest among them, which a new one may replace; empty for no export."""
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
        return {manifest.name, *found["files"]} if found["format"] == FORMAT else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()
