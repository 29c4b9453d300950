"""What killed servers left is removed by the next one, and nothing else."""

from __future__ import annotations

from pathlib import Path

from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import TaskKind, TaskStatus
from nas.service.uploads.deletion import remove, stale_files


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"something")
    return path


def test_stale_files_are_removed(service: Service, settings: ServiceSettings, tmp_path: Path) -> None:
    assert stale_files(settings, service.state) == []
    for task, status in (("waits", TaskStatus.QUEUED), ("runs", TaskStatus.RUNNING), ("done", TaskStatus.FINISHED)):
        service.state.add_task(task, TaskKind.MEASUREMENT, "board", {})
        service.state.change_task(task, status)
    models, data = settings.uploaded_models, settings.uploaded_data
    outside = write(tmp_path / "outside" / "kept")
    (settings.trash).mkdir(parents=True)
    (settings.trash / "link").symlink_to(outside.parent)
    needed = [
        write(models / "waits" / "model.onnx"),
        write(models / "runs" / "model.onnx"),
        write(models / "done" / "result.json"),
        write(data / "flowers" / "rose" / "1.png"),
        write(settings.runs.root / "small-1" / "run.db"),
        outside,
    ]
    gone = [
        write(models / "done" / "model.onnx"),
        write(models / "never-asked-for" / "model.onnx"),
        write(data / ".unpacking-x" / "data" / "rose" / "1.png"),
        write(settings.trash / "small-1.0123" / "run.db"),
    ]
    remove(stale_files(settings, service.state)).join()
    assert [path for path in needed if not path.exists()] == []
    assert [path for path in gone if path.exists()] == []
    assert list(settings.trash.iterdir()) == []


def test_a_file_that_cannot_be_removed_stops_nothing(service: Service, settings: ServiceSettings) -> None:
    last = write(settings.trash / "small-1.0123" / "run.db")
    remove([settings.trash / "not-there", last.parent]).join()
    assert not last.exists()
