"""The names of the files of an export: those of a new one, and those that the manifest of an earlier one lists."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

FORMAT = "subnet-nas/results/export"
NO_TOKENIZERS = (
    "ONNX has no operator for tokenizers, so the graph cannot preprocess sentences; the export's script does"
)
_DIGITS = 8


def model_name(run: str, key: str) -> str:
    """The name of the ONNX file of a run's network: the run, and a digest of the network's key, which may be long."""
    return f"{run}-{hashlib.sha256(key.encode()).hexdigest()[:_DIGITS]}.onnx"


def files_of(manifest: Path) -> set[str]:
    """Names of the files of an earlier export, its manifest among them, which a new one may replace; empty for no export."""
    try:
        facts = json.loads(manifest.read_text(encoding="utf-8"))
        return {manifest.name, *facts["files"]} if facts["format"] == FORMAT else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()
