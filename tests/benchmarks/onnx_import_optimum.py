"""Writes ONNX files of small transformers by optimum, in an environment that has it (see `onnx_import`)."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

SIZES = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128, "num_labels": 4}
TEXT = {**SIZES, "vocab_size": 211, "max_position_embeddings": 64}
DISTILLED = {"dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 128, "vocab_size": 211, "num_labels": 4}
STAGES = {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [2, 2], "num_labels": 4}
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "Bert": ("SequenceClassification", TEXT, "text-classification"),
    "DistilBert": ("SequenceClassification", DISTILLED, "text-classification"),
    "ViT": ("ImageClassification", {**SIZES, "image_size": 64, "patch_size": 8}, "image-classification"),
    "ResNet": ("ImageClassification", STAGES, "image-classification"),
}
"""Kind of head, configuration and task, by the first part of the classes' names."""


def main(folder: Path) -> None:
    """Writes the files that a folder lacks."""
    torch, transformers = import_module("torch"), import_module("transformers")
    export = import_module("optimum.exporters.onnx").onnx_export_from_model
    for name, (head, settings, task) in MODELS.items():
        if (path := folder / f"optimum-{name}").exists():
            continue
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**settings)
        export(getattr(transformers, f"{name}For{head}")(config).eval(), path, task=task, do_validation=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
