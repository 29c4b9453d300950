"""The reference page of error codes, from their table in the package."""

from __future__ import annotations

from docs.generators.markdown import code, table
from nas.service.api.error_codes import DESCRIPTIONS

_HEAD = """\
# Error codes

Every error has a stable code: `error.code` in Python, the `type` of a problem of the REST API. The message states what
happened, what was expected and what to do; the code does not change when the message does.

"""


def error_codes_page() -> str:
    """All codes with their meanings."""
    return _HEAD + table(["code", "meaning"], [[code(name), text] for name, text in sorted(DESCRIPTIONS.items())])
