"""Error messages of the engine in the API's words: fields and routes in place of options and commands, and no server paths."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from nas.service.settings import ServiceSettings

_V1 = "/api/v1"
_COMMANDS = (
    (r"`?nas resume ([\w-]+)( --retry-failed)?`?", rf"POST {_V1}/runs/\1/resume"),
    (r"`?nas show ([\w-]+)`?", rf"GET {_V1}/runs/\1"),
    (r"`?nas runs`?", f"GET {_V1}/runs"),
)
"""Commands of the engine's messages, and the requests that do the same; the service's own messages name requests."""
_FIELDS = "select|index|evaluations|minutes|retry-failed|with-preprocessing|hardware|kind"
"""Options that are fields of requests, by the same names."""
_OPTION = re.compile(rf"--({_FIELDS})\b")
_DASHES = re.compile(r"(?<![\w-])--(?=[a-z])")
_ELSEWHERE = re.compile(rf"{_DASHES.pattern}|\bnas [a-z-]+\b")
"""An option or a command that a client of the API does not have."""
_QUOTED = re.compile(r"(?<!\w)(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?!\w)")
_CLAUSE = re.compile(r"(; | \([^()]*\))")
_MARK = re.compile("\x00([0-9]+)\x00")
"""In place of a quoted value: its number."""


class Wording:
    """Turns messages for users of the command line into messages for clients of one server.

    Values in quotes, which clients have sent, stay as they are.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        folders = {settings.runs.root: "the runs folder"}
        folders |= dict.fromkeys(settings.data_roots, "a data folder")
        folders |= {Path(tempfile.gettempdir()): "the temporary folder", Path(sys.prefix): "the installation"}
        words_by_path = {
            str(path): words
            for folder, words in folders.items()
            for path in (folder, folder.absolute(), folder.resolve())
        }
        # The longest first: one folder may be in another.
        self._folders = sorted(
            ((path, words) for path, words in words_by_path.items() if len(path) > 1), key=lambda pair: -len(pair[0])
        )

    def __call__(self, message: str) -> str:
        """A message in the API's words."""
        return "\n".join(map(self._line, self._without_folders(message).split("\n")))

    def _without_folders(self, text: str) -> str:
        for path, words in self._folders:
            begin = rf"(?<![\w./-]){re.escape(path)}"
            text = re.sub(rf"{begin}/(?=[\w.])", "", text)
            text = re.sub(rf"{begin}: ", "", text)
            optional_words = rf"(?:{re.escape(words)} )?"  # "the runs folder /srv/nas"
            text = re.sub(rf"{optional_words}{begin}(?![\w/])", words, text)
        return text

    def _line(self, text: str) -> str:
        quoted: list[str] = []

        def keep(match: re.Match[str]) -> str:
            quoted.append(match[0])
            return f"\x00{len(quoted) - 1}\x00"

        text = _QUOTED.sub(keep, text.replace("\x00", ""))
        for command, request in _COMMANDS:
            text = re.sub(command, request, text)
        text = _OPTION.sub(lambda match: match[1].replace("-", "_"), text)
        first, *later_clauses = _CLAUSE.split(
            text
        )  # what happened; then what to do, perhaps in the command line's words only
        clauses = [_DASHES.sub("", first), *(clause for clause in later_clauses if not _ELSEWHERE.search(clause))]
        shortened = re.sub(r"(; )+", "; ", "".join(clauses)).removesuffix("; ")
        return _MARK.sub(lambda mark: quoted[int(mark[1])], shortened)
