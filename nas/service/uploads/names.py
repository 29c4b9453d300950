"""Names that clients give to what the service keeps: they become file names."""

from __future__ import annotations

import re

from nas.errors import JobError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def checked_name(what: str, name: str) -> str:
    """The name, where it is one that can be a file's.

    Args:
        what: of what, in errors, e.g. ``data set``.

    Raises:
        JobError: it is none.
    """
    if _NAME.fullmatch(name) is None:
        text = f"expected a name of 1 to 64 letters, digits, - and _, the first no sign, got {name[:80]!r}"
        raise JobError(f"the {what}'s name: {text}", fields=[("name", text)])
    return name
