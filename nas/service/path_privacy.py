"""Messages of the engine without the paths of the server's folders, which are not for its clients."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from nas.service.settings import ServiceSettings


class PathPrivacy:
    """Replaces the paths of one server's folders in messages by what they are."""

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

    def __call__(self, text: str) -> str:
        """The text with paths relative to the server's folders, which are named by what they are."""
        for path, words in self._folders:
            begin = rf"(?<![\w./-]){re.escape(path)}"
            text = re.sub(rf"{begin}/(?=[\w.])", "", text)
            text = re.sub(rf"{begin}: ", "", text)
            optional_words = rf"(?:{re.escape(words)} )?"  # "the runs folder /srv/nas"
            text = re.sub(rf"{optional_words}{begin}(?![\w/])", words, text)
        return text
