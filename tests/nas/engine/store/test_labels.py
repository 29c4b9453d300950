"""Tags and notes of runs: what a file of them holds, and which are rejected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.labels import MAX_NOTE, MAX_TAGS, Labels, read_labels, write_labels
from tests.errors import raises


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunsFolder(tmp_path / "runs").create("made", "name: made\n")


def test_labels_are_read_as_they_were_written(run: RunFolder) -> None:
    assert read_labels(run) == Labels()
    labels = Labels(("baseline", "größer", "v0.2+fix"), "two lines\nof </script> text")
    write_labels(run, labels)
    assert read_labels(run) == labels
    assert json.loads(run.labels_file.read_text())["version"] == 1


def test_tags_are_added_and_removed_and_the_note_is_replaced() -> None:
    labels = Labels(("a", "b"), "first")
    assert labels.edited(["c", "a"], ["b"], None) == Labels(("a", "c"), "first")
    assert labels.edited([], [], "") == Labels(("a", "b"), "")
    with raises("labels.invalid", "c", "a, b"):
        labels.edited([], ["c"], None)


@pytest.mark.parametrize("tag", ["", "two words", "-x", "a,b", "x" * 41, "<b>", "a\n"])
def test_a_tag_is_a_word(tag: str) -> None:
    with raises("labels.invalid"):
        Labels((tag,))


def test_tags_and_notes_have_limits() -> None:
    Labels(tuple(map(str, range(MAX_TAGS))), "x" * MAX_NOTE)
    for tags, note in ((tuple(map(str, range(MAX_TAGS + 1))), ""), (("a", "a"), ""), ((), "x" * (MAX_NOTE + 1))):
        with raises("labels.invalid"):
            Labels(tags, note)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 1, "tags": [3], "note": ""}', '{"version": 1, "tags": []}']
)
def test_a_damaged_file_is_reported_by_its_name(run: RunFolder, content: str) -> None:
    run.labels_file.write_text(content)
    with raises("labels.damaged", "labels.json"):
        read_labels(run)


def test_labels_of_a_later_version_are_not_guessed(run: RunFolder) -> None:
    run.labels_file.write_text('{"version": 2, "tags": [], "note": ""}')
    with raises("store.unknown-version", "2"):
        read_labels(run)
