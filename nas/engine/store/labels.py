"""The labels of a run: tags and a note that its users edit, in a file of the run's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

from nas.engine.store.folder import RunFolder, write_atomically
from nas.errors import NasError, StoreError

MAX_TAGS = 20
MAX_NOTE = 2000
TAG = r"\w[\w.+-]{0,39}"
"""The pattern of a tag."""
_VERSION = 1
_TAG = re.compile(TAG)

_invalid = partial(NasError, code="labels.invalid")


@dataclass(frozen=True, slots=True)
class Labels:
    """Tags and a note that users write on a run; they change nothing else, and can be edited in any state of the run.

    Attributes:
        tags: Distinct words, in the order in which they were added.

    Raises:
        NasError: a tag or the note has another form than `TAG` and the limits of this module allow.
    """

    tags: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for tag in self.tags:
            if not isinstance(tag, str) or _TAG.fullmatch(tag) is None:
                expected = "expected 1 to 40 letters, digits and . _ + -, the first a letter or digit"
                raise _invalid(f"the tag {str(tag)[:60]!r}: {expected}")
        if len(self.tags) > MAX_TAGS or len(set(self.tags)) < len(self.tags):
            raise _invalid(
                f"expected at most {MAX_TAGS} different tags, got {len(self.tags)}: {', '.join(self.tags)[:200]}"
            )
        if not isinstance(self.note, str) or len(self.note) > MAX_NOTE:
            raise _invalid(f"expected a note of at most {MAX_NOTE} characters, got {len(self.note)}; shorten it")

    def edited(self, add: Sequence[str], remove: Sequence[str], note: str | None) -> Labels:
        """These labels with other tags and, unless it is None, another note.

        Raises:
            NasError: a tag to remove is not there; or as the class.
        """
        if unknown := [tag for tag in remove if tag not in self.tags]:
            raise _invalid(f"the run has no tag {unknown[0]!r}; its tags: {', '.join(self.tags) or 'none'}")
        remaining = [tag for tag in self.tags if tag not in remove]
        return Labels(tuple(dict.fromkeys([*remaining, *add])), self.note if note is None else note)


def read_labels(folder: RunFolder) -> Labels:
    """The labels of a run; empty ones where nobody wrote any.

    Raises:
        StoreError: the file is damaged, or of a later version.
    """
    path = folder.labels_file
    try:
        content = json.loads(path.read_bytes())
        if content["version"] > _VERSION:
            text = (
                f"{path}: version {content['version']}; this program reads up to {_VERSION}; edit it with the later one"
            )
            raise StoreError(text, code="store.unknown-version")
        return Labels(tuple(content["tags"]), content["note"])
    except FileNotFoundError:
        return Labels()
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError, NasError) as error:
        raise StoreError(
            f"{path}: damaged ({error!r}); remove it, and write the labels again", code="labels.damaged"
        ) from None


def write_labels(folder: RunFolder, labels: Labels) -> None:
    """Replaces the labels of a run."""
    write_atomically(folder.labels_file, json.dumps({"version": _VERSION, **asdict(labels)}, indent=1).encode())
