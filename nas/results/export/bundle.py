"""Writes the files of an export, and its manifest last."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from nas.engine.store.folder import make_folder, write_atomically
from nas.errors import ExportFailedError
from nas.plugins.parts import has
from nas.results.export.manifest import FORMAT

_PACKAGES = ("subnet-nas", "torch", "onnx", "onnxruntime", "numpy", "pillow")


class StagedFiles(MutableMapping[Path, bytes]):
    """The files of an export until all checks have passed: content by path, on disk, so that memory holds one at a time.

    They have no names in any folder, and are gone with the process, however it ends.

    Args:
        beside: Path of an exported file; the staged files are on its disk, which need not be one of memory, as that of
            temporary files may be.
    """

    def __init__(self, beside: Path) -> None:
        self._folder = next(folder for folder in beside.absolute().parents if folder.is_dir())
        self._files: dict[Path, IO[bytes]] = {}
        weakref.finalize(self, _close, self._files)

    def __setitem__(self, path: Path, content: bytes) -> None:
        self.pop(path, None)
        try:
            file = self._files[path] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - it is open while it is staged
        except OSError as error:  # not every folder that may be written takes files
            text = f"{path}: {self._folder} takes no files ({error.strerror}); name another folder"
            raise ExportFailedError(text, code="file.not-writable") from None
        file.write(content)
        file.flush()

    def append(self, path: Path, content: bytes) -> None:
        """Adds content at the end of a staged file."""
        self._files[path].write(content)
        self._files[path].flush()

    def __getitem__(self, path: Path) -> bytes:
        return self.location(path).read_bytes()

    def __delitem__(self, path: Path) -> None:
        self._files.pop(path).close()

    def __iter__(self) -> Iterator[Path]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def select(self, paths: Sequence[Path]) -> None:
        """Removes all files but these, which get this order."""
        for path in self.keys() - set(paths):
            del self[path]
        for path in paths:
            self._files[path] = self._files.pop(path)

    def locations(self, path_by_name: Mapping[str, Path]) -> dict[str, Path]:
        """The `location` of each path, by its name."""
        return {name: self.location(path) for name, path in path_by_name.items()}

    def location(self, path: Path) -> Path:
        """The path by which this process opens a staged file."""
        return Path(f"/proc/self/fd/{self._files[path].fileno()}")


def _close(files: Mapping[Path, IO[bytes]]) -> None:
    for file in files.values():
        file.close()


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
    digests, sizes = dict[Path, str](), dict[Path, int]()
    for file in files:
        content = files[file]
        digests[file], sizes[file] = hashlib.sha256(content).hexdigest(), len(content)
        del content  # before the next one is read
    manifest = {
        "format": FORMAT,
        "version": 1,
        **facts,
        "files": {file.name: {"sha256": digests[file], "bytes": sizes[file]} for file in files},
        "versions": {
            name: importlib.metadata.version(name) for name in (*_PACKAGES, *(["tokenizers"] if has("text") else []))
        },
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    # The old manifest is removed first and the new one written last: a manifest's files are always complete.
    make_folder(manifest_path.parent)
    manifest_path.unlink(missing_ok=True)
    for file in files:
        write_atomically(file, files[file])
    write_atomically(manifest_path, json.dumps(manifest, indent=2).encode())
    return digests
