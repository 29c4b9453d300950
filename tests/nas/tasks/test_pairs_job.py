"""Encoder-decoders: from pairs of texts to a searched, exported network that writes targets as torch does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer

from supernets.space import Architecture
from supernets.training.checkpoint import load_checkpoint
from tests.nas.commands import Shell, assert_error
from tests.supernets.data.test_text_pairs import rows, table

SPACE = {
    "head_size": 8, "encoder_depth": [2], "encoder_width": [16, 24], "encoder_heads": [1, 2], "encoder_hidden": [16, 32],
    "decoder_depth": [1, 2], "decoder_width": [16, 32], "decoder_heads": [1, 2], "decoder_cross_heads": [2],
    "decoder_hidden": [16, 32], "decoder_attended": [1, 2],
}  # fmt: skip
JOB: dict[str, Any] = {
    "name": "dates", "task": "language-modelling", "seed": 1,
    "data": {"name": "text-pairs", "path": "pairs.tsv", "max_tokens": 40, "vocabulary": 300},
    "supernet": {"family": "encoder-decoder", "space": SPACE},
    "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01},
    "serving": {"context_tokens": 4, "prompt_tokens": 10},
    "objectives": ["perplexity", "kv_cache_mib", "macs"], "search": {"algorithm": "random", "evaluations": 3},
}  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    table(tmp_path, rows(200))
    return Shell(tmp_path, capsys, monkeypatch)


def job(shell: Shell, **changes: Any) -> Path:
    return shell.job(yaml.safe_dump({**JOB, **changes}))


def test_a_searched_network_is_exported_and_writes_targets_as_torch(shell: Shell) -> None:
    path = job(shell, precisions=["fp32", "int8"])
    found = shell.nas("search", path, "--inline")
    assert found.code == 0, found
    report = json.loads(shell.nas("show", "dates-1", "--json").out)
    largest = report["anchors"]["largest"]
    assert 1 < largest["values"]["perplexity"] < 300
    # Of two layers: keys and values of 4 tokens so far, and of 10 tokens in each of two layers read; 2 heads of 8 channels.
    assert largest["values"]["kv_cache_mib"] == 2 * 2 * 16 * (4 + 2 * 10) * 4 / 2**20
    select = ("--select", f"key={largest['key']}")
    answer = json.loads(shell.nas("export", "dates-1", "-o", "net.onnx", *select, "--json").out)
    assert answer["as_measured"] == 1
    assert max(answer["parity"], answer["served_parity"]) < 1e-4
    assert answer["served_as_scored"] < 0.01
    folder = shell.folder
    tokenizer = Tokenizer.from_file(str(folder / "net.tokenizer.json"))
    how = json.loads((folder / "net.json").read_text())["preprocessing"]
    supernet = load_checkpoint(folder / "runs/dates-1/checkpoint").supernet
    network = supernet.extract(Architecture.parse(largest["key"].rpartition("-")[0]))
    sources, expected = ["Thursday, 01 January 1970", "3 May"], []
    for text in sources:
        ids = tokenizer.encode(text).ids
        ids += [how["separator"]] * (how["source"] + 1 - len(ids))
        for _ in range(how["block"] - 1):
            with torch.no_grad():
                ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
        target = [*ids[how["source"] + 1 :], how["separator"]]
        expected.append(tokenizer.decode(target[: target.index(how["separator"])]))

    def written(*given: str) -> tuple[str, str]:
        command = [sys.executable, str(folder / "net.predict.py"), *given]
        done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
        return done.stdout, done.stderr

    assert written(*sources) == ("\n".join(expected) + "\n", "")
    assert written("", sources[0]) == (f"\n{expected[0]}\n", "")
    assert written("") == ("\n", "")
    longer = written("Thursday " * 50)
    assert len(longer[0].splitlines()) == 1
    assert longer[1].startswith("warning: a source has ")


@pytest.mark.slow
def test_sources_and_steps_are_timed_apart(shell: Shell) -> None:
    objectives = ["perplexity", "time_per_token_ms", "time_to_first_token_ms"]
    path = job(shell, objectives=objectives)
    plan = shell.nas("plan", path)
    assert "prefill of 10 tokens of the source, step with 4 tokens of the target in the cache" in plan.out, plan
    found = shell.nas("search", path, "--inline")
    assert found.code == 0, found
    values = json.loads(shell.nas("show", "dates-1", "--json").out)["anchors"]["largest"]["values"]
    assert values["time_to_first_token_ms@cpu-1-thread"] > values["time_per_token_ms@cpu-1-thread"] > 0


@pytest.mark.parametrize(
    ("changes", "code", "mention"),
    [
        ({"supernet": {"family": "decoder", "preset": "tiny"}}, "job.unfit-data", "pairs"),
        ({"data": {**JOB["data"], "documents": "files"}}, "job.conflict", "documents"),
        ({"data": {**JOB["data"], "text_column": "source"}}, "job.conflict", "text_column"),
        (
            {"supernet": {"family": "encoder-decoder", "space": {**SPACE, "decoder_attended": [1, 3]}}},
            "job.invalid-value",
            "decoder_attended",
        ),
    ],
)
def test_jobs_that_do_not_fit_are_rejected(shell: Shell, changes: dict[str, Any], code: str, mention: str) -> None:
    assert_error(shell.nas("search", job(shell, **changes), "--inline"), mention, code=code)
