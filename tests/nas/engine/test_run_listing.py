"""Epochs are read from the run's events, and from its checkpoint where these lack some."""

from __future__ import annotations

import json
from pathlib import Path

from nas.engine.run_listing import EPOCH, training_history
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.memory import MemoryStore
from tests.errors import raises
from tests.nas.commands import SMALL_JOB


def checkpoint(folder: RunFolder, text: str) -> None:
    folder.checkpoint.mkdir(parents=True, exist_ok=True)
    (folder.checkpoint / "checkpoint.json").write_text(text)


def test_events_outlive_the_checkpoint_and_replace_its_epochs(tmp_path: Path) -> None:
    folder, store = RunsFolder(tmp_path).create("small", SMALL_JOB), MemoryStore()
    assert training_history(folder, store) == []
    checkpoint(folder, json.dumps({"progress": {"history": [{"epoch": n, "loss": 9.0 - n} for n in (1, 2, 3)]}}))
    assert [(e["epoch"], e["loss"]) for e in training_history(folder, store)] == [(1, 8.0), (2, 7.0), (3, 6.0)]
    store.record_event("warning", {"epoch": 7})
    for n in (2, 4):  # trained again after the checkpoint's second epoch
        store.record_event(EPOCH, {"epoch": n, "loss": 0.5})
    assert [(e["epoch"], e["loss"]) for e in training_history(folder, store)] == [
        (1, 8.0),
        (2, 0.5),
        (3, 6.0),
        (4, 0.5),
    ]
    (folder.checkpoint / "checkpoint.json").unlink()
    assert [e["epoch"] for e in training_history(folder, store)] == [2, 4]


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path).create("small", SMALL_JOB)
    checkpoint(folder, "{")
    with raises("checkpoint.damaged", str(folder.checkpoint / "checkpoint.json")):
        training_history(folder, MemoryStore())
