"""Collects what is wrong with the labels and images of a data set, to report all of it at once."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path

from supernets.errors import DataError

MAX_LISTED = 20
"""Maximum number of lines in an error."""
malformed_labels = partial(DataError, code="data.malformed-labels")


class Faults:
    """Faults of a data set; at most `MAX_LISTED` are kept as text.

    Args:
        path: Folder or file of the data set, for the error.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._codes: set[str] = set()
        self._n = self._n_without_image = 0
        self._files: dict[Path, None] = {}

    @property
    def files(self) -> Collection[Path]:
        """The image files that have a fault, in the order of their first ones."""
        return self._files.keys()

    def add(
        self, where: Path | str, text: str, *, image: Path | None = None, code: str = "data.malformed-labels"
    ) -> None:
        """Adds a fault.

        Args:
            where: File with the line or the entry in it.
            text: What came, and what was expected.
            image: The image file whose labels, or whose pixels, are wrong; None where the data set as a whole is.
            code: Code of the error that has this fault alone.
        """
        self._n += 1
        if len(self._lines) < MAX_LISTED:
            place = str(where).removeprefix(f"{self._path}/")
            self._lines.append(f"{place}: {text}")
        self._codes.add(code)
        if image is None:
            self._n_without_image += 1
        else:
            self._files[image] = None

    def stop(self, *, skip: bool, usable: bool = True) -> None:
        """Raises a `DataError` with a line for each fault, if there are any.

        Args:
            skip: True to leave out the images that have faults, if all faults are of images.
            usable: False if too little would be left without them.
        """
        if not self._n or (skip and usable and not self._n_without_image):
            return
        code = self._codes.pop() if len(self._codes) == 1 else "data.malformed-labels"
        remedy = "" if skip or self._n_without_image else ", or set skip_unreadable: true to leave out such images"
        if self._n == 1:
            raise DataError(f"{self._path}: {self._lines[0]}; correct or remove it{remedy}", code=code)
        lines = [f"{self._path}: {self._n:,} faults; correct or remove each{remedy}:", *self._lines]
        if self._n > MAX_LISTED:
            lines.append(f"and {self._n - MAX_LISTED:,} more")
        raise DataError("\n  ".join(lines), code=code)
