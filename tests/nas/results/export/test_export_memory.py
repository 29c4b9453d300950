"""The memory that the export of a language model takes, in a process of its own."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from supernets.data.tokenizing import train_byte_pairs
from supernets.networks.formats.pretrained import TOKENIZER
from tests.nas.commands import Shell
from tests.supernets.data.test_documents import document

MAX_MODELS = 7.5
"""Largest peak beside torch, in sizes of the model: of 1.5 of them other libraries; 11 with all models of an export at once."""
SCRIPT = """
import re, sys
from pathlib import Path
from nas.engine.store.folder import RunsFolder
from nas.results.export.onnx_export import export_onnx
def status(key): return int(re.search(rf"^{key}:\\s+(\\d+)", Path("/proc/self/status").read_text(), re.M)[1])
before = status("VmRSS")
export_onnx(RunsFolder(Path("runs")), "large-1", Path("net.onnx"), select=f"network={sys.argv[1]}")
print("added KiB", status("VmHWM") - before)
"""


def save_llama(folder: Path, vocabulary: int) -> None:
    """A random Llama of 27 million weights, as large ones are when they begin to learn."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            **sizes, intermediate_size=1536, num_hidden_layers=8, max_position_embeddings=64, vocab_size=vocabulary,
            bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
        )
    )  # fmt: skip
    network.save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_an_export_takes_a_few_times_the_memory_of_its_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell, documents = Shell(tmp_path, capsys, monkeypatch), [document(i) for i in range(20)]
    tokenizer = train_byte_pairs(documents, vocabulary=300, special="<|endoftext|>")
    tokenizer.add_tokens([f"§{i}§" for i in range(8192 - tokenizer.get_vocab_size())])
    save_llama(shell.folder / "llama", tokenizer.get_vocab_size())
    tokenizer.save(str(shell.folder / "llama" / TOKENIZER))
    (shell.folder / "own.txt").write_text("\n\n".join(documents), encoding="utf-8")
    space = {"head_size": 64, "depth": [7, 8], "width": [512], "heads": [2], "queries": [4], "hidden": [1408, 1536]}
    job = {
        "name": "large", "task": "language-modelling", "calibration_images": 4, "hardware": ["cpu-1-thread"],
        "data": {"name": "text", "path": "own.txt", "max_tokens": 16, "validation": 2, "test": 2},
        "supernet": {
            "family": "decoder", "pretrained": "llama", "space": space, "sharing": {"correction": "least-squares"},
        },
        "training": {"epochs": 0, "strategy": "instatune", "threads": 1},
        "objectives": ["perplexity", "macs"], "search": {"evaluations": 2, "batch": 2},
    }  # fmt: skip
    searched = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline")
    assert searched.code == 0, searched
    for network in (1, 2):
        command = [sys.executable, "-c", SCRIPT, str(network)]
        answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        added = re.search(r"added KiB (\d+)", answer.stdout)
        assert added is not None
        assert int(added[1]) * 1024 < MAX_MODELS * (tmp_path / "net.onnx").stat().st_size
