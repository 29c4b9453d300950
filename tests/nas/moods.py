"""Sentences of two moods, and a random BERT whose tokenizer is trained on them: a job of a pretrained network in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from supernets.data.tokenizing import SentenceTokenizer
from supernets.families.encoder.bert_pretrained import write_bert
from supernets.families.encoder.encoder_family import EncoderFamily
from supernets.families.encoder.encoder_spec import EncoderSpec

MOODS = {"good": ("fine", "bright", "warm", "clever"), "bad": ("poor", "dull", "cold", "silly")}
WORDS = ("the", "film", "story", "plot", "actor", "scene", "music", "end")
ROWS = [
    (f"{a} {b} {word} {mood}", label)
    for label, moods in MOODS.items() for mood in moods for word in WORDS for a, b in (("a", "very"), ("one", "quite"))
]  # fmt: skip
"""Text and label."""
JOB: dict[str, Any] = {
    "name": "moods",
    "data": {"name": "text-classification", "path": "moods.csv", "max_tokens": 16},
    "supernet": {"family": "encoder", "pretrained": "bert"},
    "training": {"epochs": 1, "batch_size": 32},
    "objectives": ["accuracy", "macs"],
    "search": {"algorithm": "random", "evaluations": 2},
}


def table(rows: list[tuple[str, str]]) -> str:
    """Rows as a CSV file has them."""
    return "".join(f"{text},{label}\n" for text, label in [("text", "label"), *rows])


def write_moods(folder: Path) -> Path:
    """The folder, with ``moods.csv`` and ``bert``: of two layers, 24 positions and three classes of its own."""
    (folder / "moods.csv").write_text(table(ROWS))
    tokenizer = SentenceTokenizer.train([text for text, _ in ROWS], vocabulary=120, max_tokens=16)
    spec = EncoderSpec(head_size=4, depth=(1, 2), width=(16,), heads=(4,), hidden=(8, 16))
    sizes = {"vocabulary": tokenizer.vocabulary, "positions": 24, "padding": tokenizer.padding}
    family = EncoderFamily(spec, tokens=6, n_classes=3, **sizes)
    torch.manual_seed(0)
    write_bert(
        folder / "bert", family, family.space.largest, family.template().state_dict(), class_names=("a", "b", "c"),
        tokenizer=tokenizer.json,
    )  # fmt: skip
    return folder
