"""Texts without the paths of the server's folders and the URLs of its databases, which are not for its clients."""

from __future__ import annotations

import html
import json
import re
import sys
import tempfile
from pathlib import Path

import nas
from nas.service.settings import ServiceSettings

_ESCAPED = r"(?<=\\[bfnrt])"
"""After a control character as JSON writes it, whose letter is no part of the word that follows."""
_WORD = r"[^\s\"'`<>\\]*[^\s\"'`<>\\.,:;)]"
_DATABASE = re.compile(rf"postgres(?:ql)?(?:\+\w+)?://{_WORD}(?: \(schema \w+\))?", re.IGNORECASE)
_SETTING = rf"(?:host|hostaddr|port|dbname|database|user|password|passfile|sslmode)=(?:'[^']*'|{_WORD})"
_CONNECTION = re.compile(rf"(?:(?<!\w)|{_ESCAPED}){_SETTING}(?: +{_SETTING})+")
"""The settings of a connection as PostgreSQL's library takes them: ``host=... password=...``."""
_QUOTE = r"(?:'|&#39;|&#x27;)?"


class PathPrivacy:
    """Replaces the paths of one server's folders, and the URLs of databases, in a text by what they are.

    Args:
        data: whether the data folders are replaced, too; job files name data below them.
    """

    def __init__(self, settings: ServiceSettings, *, data: bool = True) -> None:
        folders = {Path.home(): "the home folder", Path(nas.__file__).parents[1]: "the installation"}
        folders |= {Path(tempfile.gettempdir()): "the temporary folder", Path(sys.prefix): "the installation"}
        folders |= dict.fromkeys(settings.data_roots if data else (), "a data folder")
        folders |= {settings.runs.root: "the runs folder"}
        words_by_path = {path: words for folder, words in folders.items() for path in _spellings(folder)}
        shown = [] if data else [path for root in settings.data_roots for path in _spellings(root)]
        # The longest first: one folder may be in another.
        ordered = sorted((path for path in words_by_path if len(path) > 1), key=len, reverse=True)
        self._patterns = [(path, _patterns_of(path, words_by_path[path], shown)) for path in ordered]

    def __call__(self, text: str) -> str:
        """The text with paths relative to the server's folders, which are named by what they are."""
        if "postgres" in text.lower():
            text = _DATABASE.sub("the run store", text)
        if "host=" in text or "user=" in text or "password=" in text:
            text = _CONNECTION.sub("the run store", text)
        for path, patterns in self._patterns:
            if path in text:
                for pattern, words in patterns:
                    text = pattern.sub(words, text)
        return text


def _spellings(folder: Path) -> set[str]:
    """The paths of a folder in messages, and as JSON and HTML write them."""
    paths = {str(path) for path in (folder, folder.absolute(), folder.resolve())}
    return paths | {write(path) for path in paths for write in (html.escape, lambda path: json.dumps(path)[1:-1])}


def _patterns_of(path: str, words: str, shown: list[str]) -> list[tuple[re.Pattern[str], str]]:
    """The replacements of a folder's path; of `shown`, the folders below it are left as they are."""
    below = "|".join(
        re.escape(root.removeprefix(path)) for root in shown if root == path or root.startswith(f"{path}/")
    )
    begin = rf"(?:file://|(?<![\w./-])|{_ESCAPED}){re.escape(path)}" + (rf"(?!(?:{below})(?![\w.-]))" if below else "")
    optional_words = rf"(?:{re.escape(words)} )?"  # "the runs folder /srv/nas"
    return [
        (re.compile(rf" --runs[ =]{_QUOTE}{begin}{_QUOTE}(?![\w/])"), ""),
        (re.compile(rf"{begin}/(?=[\w.])"), ""),
        (re.compile(rf"{begin}: "), ""),
        (re.compile(rf"{optional_words}{begin}(?![\w/])"), words),
    ]
