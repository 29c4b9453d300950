"""Styles, scripts and plotly's script, all from installed packages."""

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
"""Its address names its version, so that a browser need never ask again."""
EAGERLY = b"//# allFunctionsCalledOnLoad\n"
"""Has Chromium compile a script beside the page, all at once (https://v8.dev/blog/explicit-compile-hints): plotly's, function
by function when each is first called, keeps a page from anything else for twice as long. Others read a comment."""


@cache
def _texts() -> dict[str, bytes]:
    folder = files("nas.service.pages") / "static"
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name.endswith(tuple(_TYPES))}


@cache
def _digest() -> str:
    """Of all own files together: scripts import each other, so that one's change is every one's."""
    joined = b"".join(name.encode() + content for name, content in sorted(_texts().items()))
    return hashlib.sha256(joined).hexdigest()[:12]


@cache
def _plotly() -> bytes:
    """Compressed once: it has 5 MB, which not every connection carries at once."""
    script = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return gzip.compress(EAGERLY + script, compresslevel=4)


def address(name: str) -> str:
    """Where a page finds one of these files."""
    return f"/static/{PLOTLY}" if name == "plotly" else f"/static/{_digest()}/{name}"


def own_file(digest: str, name: str) -> Response:
    """One of this package's files, as it is now.

    An address of an older version is answered with the new one, which is not to be kept then.

    Raises:
        HTTPException: 404, there is no such file.
    """
    content = _texts().get(name)
    if content is None:
        raise HTTPException(404, f"there is no file {name!r} here")
    kind = next(kind for suffix, kind in _TYPES.items() if name.endswith(suffix))
    kept = "public, max-age=31536000, immutable" if digest == _digest() else "no-cache"
    return Response(content, media_type=kind, headers={"Cache-Control": kept})


def plotly_file() -> Response:
    """Plotly's script."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Content-Encoding": "gzip"}
    return Response(_plotly(), media_type=_TYPES[".js"], headers=headers)
