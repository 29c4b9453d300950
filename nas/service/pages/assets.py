"""Styles and scripts of the pages, and plotly's script, from installed packages."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.responses import Response

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PLOTLY = f"plotly-{version('plotly')}.js"
"""The name holds the version, so that a browser may keep the file for ever."""
EAGERLY = b"//# allFunctionsCalledOnLoad\n"
"""Makes Chromium compile a script at once in the background (https://v8.dev/blog/explicit-compile-hints): compiled lazily,
plotly's blocks a page for twice as long. Other browsers read a comment."""


@cache
def _texts() -> dict[str, bytes]:
    folder = files("nas.service.pages") / "static"
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name.endswith(tuple(_TYPES))}


@cache
def _digest() -> str:
    """The digest of all own files together: scripts import each other, so a change of one is a change of all."""
    joined = b"".join(name.encode() + content for name, content in sorted(_texts().items()))
    return hashlib.sha256(joined).hexdigest()[:12]


@cache
def _plotly() -> bytes:
    """Plotly's script (5 MB), compressed once."""
    script = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return gzip.compress(EAGERLY + script, compresslevel=4)


def address(name: str) -> str:
    """The path of one of these files for a page."""
    return f"/static/{PLOTLY}" if name == "plotly" else f"/static/{_digest()}/{name}"


def package_file(digest: str, name: str) -> Response:
    """One of this package's files in its present version; not cached where the digest in the path is another version's.

    Raises:
        HTTPException: 404, there is no such file.
    """
    content = _texts().get(name)
    if content is None:
        raise HTTPException(404, f"there is no static file {name!r}")
    kind = next(kind for suffix, kind in _TYPES.items() if name.endswith(suffix))
    caching = "public, max-age=31536000, immutable" if digest == _digest() else "no-cache"
    return Response(content, media_type=kind, headers={"Cache-Control": caching})


def plotly_file() -> Response:
    """Plotly's script."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Content-Encoding": "gzip"}
    return Response(_plotly(), media_type=_TYPES[".js"], headers=headers)
