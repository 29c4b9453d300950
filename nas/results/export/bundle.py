"""Writes the files of an export, and its manifest last."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.engine.store.folder import make_folder, write_atomically
from nas.plugins.parts import has
from nas.results.export.manifest import FORMAT

_PACKAGES = ("subnet-nas", "torch", "onnx", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files of an export that passed its checks, before they are written.

    Attributes:
        path: The main file.
        manifest: Path of the manifest.
        files: Content by path of the files other than the manifest.
        facts: Content of the manifest.
        described: Output of the export command, but for the digest.
    """

    path: Path
    manifest: Path
    files: Mapping[Path, bytes] = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)
    described: Mapping[str, Any] = field(repr=False)

    def write(self) -> dict[str, Any]:
        """Writes the files and the manifest; returns what the export command prints."""
        sha256 = write_bundle(self.files, self.manifest, self.facts)[self.path]
        return {"path": str(self.path), "sha256": sha256, **self.described}


def write_bundle(files: Mapping[Path, bytes], manifest_path: Path, facts: Mapping[str, Any]) -> dict[Path, str]:
    """Writes files and the manifest with these facts; returns the files' SHA-256 digests."""
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    manifest = {
        "format": FORMAT,
        "version": 1,
        **facts,
        "files": {file.name: {"sha256": digests[file], "bytes": len(content)} for file, content in files.items()},
        "versions": {
            name: importlib.metadata.version(name) for name in (*_PACKAGES, *(["tokenizers"] if has("text") else []))
        },
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    # The old manifest is removed first and the new one written last: a manifest's files are always complete.
    make_folder(manifest_path.parent)
    manifest_path.unlink(missing_ok=True)
    for file, content in files.items():
        write_atomically(file, content)
    write_atomically(manifest_path, json.dumps(manifest, indent=2).encode())
    return digests
