"""The recipes of language models, shortened: planned, searched, exported."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from supernets.data.tokenizing import train_byte_pairs
from supernets.networks.formats.pretrained import TOKENIZER
from tests.nas.commands import Shell, assert_error
from tests.supernets.data.test_documents import document
from tests.supernets.families.decoder.test_decoder_pretrained import saved

SHARED = Path(os.environ.get("NAS_TEXT_DATA", Path(__file__).parents[3] / "shared" / "data" / "text"))
EXAMPLES = Path(__file__).parents[2] / "examples"
SHAKESPEARE = SHARED / "tinyshakespeare.txt.gz"


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def shortened(shell: Shell, recipe: str, text: str, **changes: dict[str, object]) -> Path:
    """The recipe's job for a text, with keys of its sections changed."""
    (shell.folder / "own.txt").write_text(text, encoding="utf-8")
    assert shell.nas("init", recipe, "--data", "own.txt").code == 0
    job = yaml.safe_load((shell.folder / f"{recipe}.yaml").read_text())
    for section, keys in changes.items():
        job[section] |= keys
    return shell.job(yaml.safe_dump(job))


def check_whole_path(shell: Shell, job: Path, name: str) -> None:
    """Plans and searches a job, exports its knee, and continues a text with it."""
    assert shell.nas("plan", job, "--no-time").code == 0
    searched = shell.nas("search", job, "--inline")
    assert searched.code == 0, searched
    report = json.loads(shell.nas("show", f"{name}-1", "--json").out)
    for point in report["front"]:
        assert point["values"]["perplexity"] > 1
        assert point["values"]["time_per_token_ms@cpu-1-thread"] > 0
    assert shell.nas("export", f"{name}-1", "-o", "net.onnx").code == 0
    command = [sys.executable, str(shell.folder / "net.predict.py"), "the quick", "--tokens", "4"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    assert printed.startswith("the quick")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["shakespeare-decoder", "shakespeare-experts"])
def test_shakespeare(recipe: str, shell: Shell) -> None:
    real = SHAKESPEARE.exists()
    text = (
        gzip.decompress(SHAKESPEARE.read_bytes()).decode()[:20_000] if real else "\n\n".join(map(document, range(160)))
    )
    short = {"training": {"epochs": 2, "largest_epochs": 1, "threads": 1}, "search": {"evaluations": 3, "batch": 3}}
    job = shortened(shell, recipe, text, **short)
    check_whole_path(shell, job, recipe)


@pytest.mark.slow
def test_iso_dates(shell: Shell) -> None:
    pytest.importorskip("babel")
    subprocess.run([sys.executable, str(EXAMPLES / "date_pairs.py"), "dates.tsv"], cwd=shell.folder, check=True)
    lines = (shell.folder / "dates.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (shell.folder / "dates.tsv").write_text("".join(lines[:600]), encoding="utf-8")
    assert shell.nas("init", "iso-dates", "--data", "dates.tsv").code == 0
    job = yaml.safe_load((shell.folder / "iso-dates.yaml").read_text())
    job["training"] |= {"epochs": 1, "threads": 1}
    job["search"] |= {"evaluations": 3, "batch": 3}
    searched = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline")
    assert searched.code == 0, searched
    assert shell.nas("export", "iso-dates-1", "-o", "net.onnx").code == 0
    command = [sys.executable, str(shell.folder / "net.predict.py"), "5 mars 2021", "2021年3月5日金曜日"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    assert len(printed.splitlines()) == 2


def test_a_text_that_is_not_there_is_named(shell: Shell) -> None:
    assert shell.nas("init", "shakespeare-decoder").code == 0
    assert_error(shell.nas("plan", "shakespeare-decoder.yaml", "--no-time"), "tinyshakespeare.txt", "does not exist")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_smollm2_domain_with_a_smaller_network(shell: Shell) -> None:
    """SmolLM2 itself takes minutes for each network, and gigabytes of memory."""
    documents = [document(i) for i in range(120)]
    tokenizer = train_byte_pairs(documents, vocabulary=300, special="<|endoftext|>")
    sizes = {
        "hidden_size": 48,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 96,
    }
    saved(
        "llama", shell.folder / "llama", **sizes, num_hidden_layers=4, max_position_embeddings=128,
        vocab_size=tokenizer.get_vocab_size(), bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    tokenizer.save(str(shell.folder / "llama" / TOKENIZER))
    space = {"head_size": 8, "depth": [3, 4], "width": [48], "heads": [2], "queries": [2, 3], "hidden": [48, 96]}
    job = shortened(
        shell, "smollm2-domain", "\n\n".join(documents),
        supernet={"pretrained": "llama", "space": {**space, "kept": "importance"}}, training={"threads": 1},
        data={"max_tokens": 32}, search={"evaluations": 3, "batch": 3},
    )  # fmt: skip
    check_whole_path(shell, job, "smollm2-domain")
