"""Names that clients choose; they become file names."""

from __future__ import annotations

import re

from nas.errors import JobError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def checked_name(what: str, name: str) -> str:
    """The name, if it is valid as a file name.

    Args:
        what: for errors, e.g. ``data set``.

    Raises:
        JobError: it is not valid.
    """
    if _NAME.fullmatch(name) is None:
        text = f"expected 1 to 64 letters, digits, - and _, the first a letter or digit; got {name[:80]!r}"
        raise JobError(f"the {what}'s name: {text}", code="name.invalid", fields=[("name", text)])
    return name
