"""Jobs on images with boxes or masks: their plans, and errors of their files."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.dense_scenes import make_parts, write_coco, write_masks
from tests.nas.commands import Shell
from tests.supernets.data.dense.faulty import coco

DETECTOR = """
name: scenes
data: {name: coco, path: coco/annotations, images: coco/images, image_size: 64, channels: 3}
task: detection
supernet: {family: detector, preset: tiny}
hardware: [cpu-1-thread]
"""
SEGMENTER = """
name: scenes
data: {name: segmentation-folder, path: masks, image_size: 64, channels: 3}
task: segmentation
supernet: {family: segmenter, preset: tiny}
hardware: [cpu-1-thread]
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def write_job(folder: Path, text: str) -> str:
    """Writes the job file and the scenes that it names; returns the file's name."""
    parts = make_parts(12, 6, 6)
    write_coco(parts, folder / "coco")
    write_masks(parts, folder / "masks")
    (folder / "job.yaml").write_text(text)
    return "job.yaml"


@pytest.mark.slow  # it measures latencies
def test_plans_count_boxes_and_draw_them(shell: Shell, tmp_path: Path) -> None:
    job = write_job(tmp_path, DETECTOR)
    plan = shell.nas("plan", job, "--inline", "--no-time", "--json", "--picture", "out/sheet.png").data
    assert plan["images"] == {"train": 12, "validation": 6, "test": 6}
    assert plan["labels"]["targets"] == "boxes"
    assert len(plan["labels"]["classes"]) == 10
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.format == "PNG"


@pytest.mark.slow  # it measures latencies
def test_plans_count_pixels_in_a_table(shell: Shell, tmp_path: Path) -> None:
    lines = shell.nas("plan", write_job(tmp_path, SEGMENTER), "--inline", "--no-time").out
    assert "ankle boot" in lines
    assert "background" in lines
    assert "ignored pixels" in lines


def test_pictures_are_of_boxes_and_masks(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: a\ndata: {name: digits}\nsupernet: {preset: digits}\n")
    assert "--picture" in shell.nas("plan", "job.yaml", "--inline", "--no-time", "--picture", "a.jpg").err
    assert "--picture" in shell.nas("plan", "job.yaml", "--inline", "--no-time", "--picture", "a.png").err


def test_faults_of_data_are_listed(shell: Shell, tmp_path: Path) -> None:
    coco(tmp_path)
    (tmp_path / "images" / "3.png").unlink()
    (tmp_path / "job.yaml").write_text(DETECTOR.replace("coco/annotations", "annotations.json").replace("coco/", ""))
    failed = shell.nas("plan", "job.yaml", "--inline", "--no-time")
    assert failed.error == "data.missing"
    assert "images[3] (3.png)" in failed.err


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("images: coco/pictures", "data.missing"),
        ("path: job.yaml", "data.layout"),
    ],
)
def test_paths_are_checked_first(shell: Shell, tmp_path: Path, line: str, code: str) -> None:
    key, _, path = line.partition(": ")
    old = {"images": "coco/images", "path": "coco/annotations"}[key]
    job = write_job(tmp_path, DETECTOR.replace(old, path))
    assert shell.nas("plan", job, "--inline", "--no-time").error == code
