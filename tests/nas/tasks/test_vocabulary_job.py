"""Jobs on pretrained decoders with a part of their vocabulary."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer

from supernets.data.tokenizing import SEPARATOR, train_byte_pairs
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_pretrained import read_decoder_config
from supernets.networks.formats.pretrained import TOKENIZER
from supernets.training.checkpoint import load_checkpoint
from tests.nas.commands import Shell, assert_error
from tests.supernets.families.decoder.test_decoder_pretrained import saved, to_gguf

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")
    for package in ("transformers", "gguf")
]
DOCUMENTS = (Path(__file__).parents[3] / "CHANGELOG.md").read_text(encoding="utf-8")[:9000].split("\n")
WHOLE, SIZE = 400, 320
JOB: dict[str, Any] = {
    "name": "texts",
    "task": "language-modelling",
    "data": {"name": "text", "path": "text.txt", "max_tokens": 32},
    "supernet": {"family": "decoder", "pretrained": "llama", "space": {"vocabulary": 0.8}},
    "training": {"epochs": 1, "batch_size": 16, "random_subnets": 1},
    "objectives": ["bits_per_byte", "macs"],
    "search": {"algorithm": "random", "evaluations": 2},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, and random networks with a tokenizer: llama, with a head of its own, and the same tied as a GGUF file."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "text.txt").write_text("\n\n".join(dict.fromkeys(filter(str.strip, DOCUMENTS))), encoding="utf-8")
    tokenizer = train_byte_pairs(DOCUMENTS, vocabulary=WHOLE, special=SEPARATOR)
    words: dict[str, Any] = {"vocab_size": WHOLE, "eos_token_id": 0, "bos_token_id": 0, "max_position_embeddings": 64}
    saved("llama", folder / "llama", **words)
    network = saved("llama", folder / "tied", **words, tie_word_embeddings=True)
    to_gguf("llama", network, folder / "network.gguf", tokenizer=tokenizer)
    tokenizer.save(str(folder / "llama" / TOKENIZER))
    return folder


@pytest.fixture
def shell(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:  # fmt: skip
    return Shell(Path(shutil.copytree(made, tmp_path / "work")), capsys, monkeypatch)


def job(shell: Shell, vocabulary: object = 0.8, *, pretrained: str = "llama", **changes: Any) -> Path:
    supernet = {**JOB["supernet"], "pretrained": pretrained, "space": {"vocabulary": vocabulary}}
    return shell.job(yaml.safe_dump({**JOB, "supernet": supernet, **changes}))


@pytest.mark.parametrize("name", ["llama", "network.gguf"])
def test_logits_are_those_of_the_kept_tokens(made: Path, name: str) -> None:
    """The whole network is the oracle, on texts of kept tokens."""
    config = read_decoder_config(made / name)
    tokens = tuple(torch.randperm(WHOLE, generator=torch.Generator().manual_seed(0))[:SIZE].tolist())
    outputs = []
    for read, ids in ((config, torch.tensor(tokens)[None, :24]), (config.keeping(tokens), torch.arange(24)[None])):
        family = DecoderFamily(read.space(), tokens=8, **read.fixed)
        network = family.template()
        network.load_state_dict(read.read(made / name).weights(family), strict=False)
        outputs.append(network.eval()(ids))
    assert outputs[1].shape[-1] == SIZE
    torch.testing.assert_close(outputs[1], outputs[0][..., list(tokens)])


@pytest.mark.slow
def test_from_a_plan_to_a_fine_tuned_export(shell: Shell) -> None:
    """Everything after the data has the smaller vocabulary: the run, its networks, further training, and each export."""
    path = job(shell, pretrained="network.gguf")
    plan = shell.nas("plan", path, "--no-time", "--json").data["language_models"]
    assert (plan["vocabulary"], plan["cut_vocabulary"]["whole"]) == (SIZE, WHOLE)
    assert "vocabulary: 320 of 400 tokens; " in shell.nas("plan", path, "--no-time").out
    searched = shell.nas("search", path, "--inline")
    assert searched.code == 0, searched
    run = shell.folder / "runs/texts-1"
    family = load_checkpoint(run / "checkpoint").supernet.family
    assert isinstance(family, DecoderFamily)
    assert family.vocabulary == SIZE
    kept = json.loads((run / "vocabulary.json").read_text())["tokens"]
    whole = Tokenizer.from_file(str(shell.folder / "llama" / TOKENIZER))
    (shell.folder / "network.gguf").unlink()  # the run has what it needs
    assert shell.nas("export", "texts-1", "-o", "net.onnx", "--index", "0").code == 0
    cut = Tokenizer.from_file(str(shell.folder / "net.tokenizer.json"))
    assert [whole.id_to_token(number) for number in kept] == [cut.id_to_token(i) for i in range(SIZE)]
    command = [sys.executable, str(shell.folder / "net.predict.py"), "the quick"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    assert printed.startswith("the quick")
    finetuned = shell.nas("finetune", "texts-1", "--index", "0", "--epochs", "1", "--inline")
    assert finetuned.code == 0, finetuned
    assert json.loads((shell.folder / "runs/texts-finetuned-1/vocabulary.json").read_text())["tokens"] == kept


@pytest.mark.slow
def test_a_run_has_the_tokens_that_it_began_with(shell: Shell) -> None:
    assert shell.nas("search", job(shell, training={"epochs": 0}), "--inline").code == 0
    run = shell.folder / "runs/texts-1"
    stored = json.loads((run / "vocabulary.json").read_text())
    (run / "vocabulary.json").write_text("{}")
    answer = shell.nas("export", "texts-1", "-o", "net.onnx", "--index", "0")
    assert_error(answer, "vocabulary.json", "restore it", code="checkpoint.invalid")
    swapped = [*stored["tokens"][:-2], stored["tokens"][-1], stored["tokens"][-2]]
    (run / "vocabulary.json").write_text(json.dumps({**stored, "tokens": swapped}))
    answer = shell.nas("export", "texts-1", "-o", "net.onnx", "--index", "0")
    assert_error(answer, "texts-1", code="run.incompatible")


@pytest.mark.parametrize(
    ("vocabulary", "changes", "code", "mentions"),
    [
        (500, {}, "data.invalid-option", "supernet.space.vocabulary: 500; expected 257 | to 400"),
        (0.5, {}, "data.invalid-option", "0.5 is 200 tokens; expected 257"),
        ("half", {}, "job.invalid-value", "supernet.space.vocabulary | expected a share of the tokens, a number"),
        (1.5, {}, "job.invalid-value", "supernet.space.vocabulary: expected a share of the tokens | got 1.5"),
        (True, {}, "job.invalid-value", "supernet.space.vocabulary: expected a share of the tokens | got true"),
        (math.nan, {}, "job.invalid-value", "supernet.space.vocabulary: expected a share of the tokens | got nan"),
        ([0.7, 0.8], {}, "job.conflict", "supernet.space.vocabulary | several options"),
        (0.8, {"data": {"name": "text", "path": "short.txt"}}, "data.malformed-table", "short.txt | too few to choose"),
    ],
)
def test_what_does_not_fit_is_named(
    shell: Shell, vocabulary: object, changes: dict[str, Any], code: str, mentions: str
) -> None:
    (shell.folder / "short.txt").write_text("\n\n".join("abcdefghij"))
    answer = shell.nas("plan", job(shell, vocabulary, **changes), "--no-time")
    assert_error(answer, *mentions.split(" | "), code=code)


def test_a_vocabulary_is_of_a_pretrained_network(shell: Shell) -> None:
    space = {"head_size": 16, "depth": [1, 2], "width": [32], "heads": [1], "hidden": [32], "vocabulary": 0.5}
    answer = shell.nas("plan", job(shell, supernet={"family": "decoder", "space": space}), "--no-time")
    assert_error(answer, "supernet.space.vocabulary", "data.vocabulary", code="job.conflict")
