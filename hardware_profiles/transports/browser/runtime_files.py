"""The files of ONNX Runtime Web: fetched once from the npm registry, checked, and kept in the user's cache."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from hardware_profiles.errors import ProfileError

VERSION = "1.31.1"
_INTEGRITY = "5GeH+bWQ+HxM10z7erGlsWqryrwMbSvm/1tkIsKTT48g0fI19VXVVC435t4t7VsPdSQeS7NmuZPXrQ73k82URw=="
"""SHA-512 of the package's archive, as npm records it."""
_ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
FILES = (
    "ort.wasm.min.js",
    "ort.webgpu.min.js",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
FOLDER = "NAS_BROWSER_RUNTIME"
"""The environment variable with another folder for the files."""
_SECONDS = 300


def folder() -> Path:
    """The folder of the files of this version."""
    if chosen := os.environ.get(FOLDER):
        return Path(chosen)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "subnet-nas" / f"onnxruntime-web-{VERSION}"


def installed_folder() -> Path:
    """The folder, in which all files are.

    Raises:
        ProfileError: they have not been fetched.
    """
    if missing := [name for name in FILES if not (folder() / name).is_file()]:
        message = f"measuring in a browser needs ONNX Runtime Web {VERSION}, and {folder()} has no {missing[0]}"
        raise ProfileError(f"{message}; fetch it first", code="profile.no-browser-runtime")
    return folder()


def install(archive: Path | None = None) -> Path:
    """Puts the files into the folder; returns it.

    Args:
        archive: The package's archive, as ``npm pack`` writes it, for a machine without network; None fetches it, by the npm
            command where there is one, else from the public registry.

    Raises:
        ProfileError: the archive cannot be fetched, or is not the expected one.
    """
    content = archive.read_bytes() if archive is not None else _fetched()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != _INTEGRITY:
        where = archive or f"onnxruntime-web {VERSION} of the registry"
        message = f"{where}: its SHA-512 is not that of onnxruntime-web {VERSION}; nothing was installed"
        raise ProfileError(message, code="profile.browser-download")
    target = folder()
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=BytesIO(content)) as files:
        for name in FILES:
            source = files.extractfile(f"package/dist/{name}")
            assert source is not None  # the archive is the expected one
            temporary = target / f".{name}.{os.getpid()}"
            temporary.write_bytes(source.read())
            temporary.replace(target / name)
    return target


def _fetched() -> bytes:
    if npm := shutil.which("npm"):
        with tempfile.TemporaryDirectory() as scratch:
            command = [npm, "pack", f"onnxruntime-web@{VERSION}"]
            with suppress(subprocess.SubprocessError):  # the registry is asked without npm, then
                subprocess.run(command, cwd=scratch, capture_output=True, check=True, timeout=_SECONDS)
                return next(Path(scratch).glob("*.tgz")).read_bytes()
    try:
        with urllib.request.urlopen(_ADDRESS, timeout=_SECONDS) as response:
            content: bytes = response.read()
            return content
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        advice = f"run `npm pack onnxruntime-web@{VERSION}` on a machine with network, and give the archive"
        raise ProfileError(
            f"onnxruntime-web {VERSION} cannot be fetched from npm ({reason}); {advice}",
            code="profile.browser-download",
        ) from None
