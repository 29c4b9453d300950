"""Recognises data sets of boxes and masks by the names of their files."""

from __future__ import annotations

from pathlib import Path

_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")


def dense_kind(path: Path) -> str | None:
    """The name of the data set of boxes or masks in a folder, or of a file of annotations; None for other data.

    Args:
        path: As in the data section of a job; nothing is read.
    """
    if path.is_file():
        return {".json": "coco", ".yaml": "yolo", ".yml": "yolo"}.get(path.suffix.lower())
    if (path / "data.yaml").is_file():
        return "yolo"
    if (path / "Annotations").is_dir():
        return "voc"
    if any((path / part / "masks").is_dir() for part in ("", *_PARTS)):
        return "segmentation-folder"
    has_json = any(next(path.glob(form), None) for form in ("*.json", "annotations/*.json", "*/*.json"))
    return "coco" if has_json else None
