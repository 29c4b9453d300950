"""Training of pretrained decoders in jobs: taught by the original, by adapters, with options that save memory."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import build_job
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job
from nas.runs.finetuning.job import finetuning_job
from nas.runs.run import Run
from supernets.data.tokenizing import DocumentTokenizer
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_pretrained import read_decoder_config
from supernets.sharing.base import Distillation
from supernets.training.checkpoint import load_checkpoint, make_supernet
from tests.nas.commands import Shell, assert_error
from tests.nas.tasks.test_language_job import JOB
from tests.supernets.data.test_documents import document

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
TRAINING: dict[str, Any] = {
    "epochs": 1, "batch_size": 8, "strategy": "instatune", "distill": "original", "top_k": 20, "accumulate": 4,
    "activation_checkpointing": True, "clip_norm": 1.0,
}  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """With documents, and a random Llama and its tokenizer in the folder `llama`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    documents = [document(i) for i in range(60)]
    (tmp_path / "text.txt").write_text("\n\n".join(documents), encoding="utf-8")
    tokenizer = DocumentTokenizer.train(documents, vocabulary=300)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=tokenizer.vocabulary, hidden_size=24, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, intermediate_size=36, max_position_embeddings=80, tie_word_embeddings=True,
        bos_token_id=tokenizer.separator, eos_token_id=tokenizer.separator,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "llama")
    Tokenizer.from_str(tokenizer.json).save(str(tmp_path / "llama/tokenizer.json"))
    return Shell(tmp_path, capsys, monkeypatch)


def job(shell: Shell, **training: Any) -> Path:
    """Of the pretrained network."""
    supernet = {"family": "decoder", "pretrained": str(shell.folder / "llama")}
    data = {"name": "text", "path": "text.txt", "max_tokens": 80, "tokenizer": str(shell.folder / "llama")}
    return shell.job(yaml.safe_dump({**JOB, "data": data, "supernet": supernet, "training": training}))


@pytest.mark.slow
def test_the_original_teaches_and_is_read_again_where_a_checkpoint_has_replaced_it(shell: Shell) -> None:
    trained = shell.nas("train", job(shell, **TRAINING))
    assert trained.code == 0, trained
    folder = RunsFolder(shell.folder / "runs").get("texts-1")
    built_job = build_job(ResolvedJob(load_job(folder.job_file), RunsFolder(shell.folder / "runs"), run=folder))
    supernets = built_job
    assert supernets.pretrained is not None
    assert supernets.pretrained.network() is None
    teacher = supernets.teacher
    assert teacher is not None
    assert teacher.weights_digest == supernets.pretrained.digest
    config = read_decoder_config(shell.folder / "llama")
    family = supernets.family
    assert isinstance(family, DecoderFamily)
    original = make_supernet(family, pretrained=config.read(shell.folder / "llama").weights(family))
    ids = torch.arange(20)[None]
    assert torch.equal(teacher.network(ids), original.extract(family.space.largest)(ids))
    now = load_checkpoint(folder.checkpoint).supernet
    assert not torch.equal(now.extract(family.space.largest)(ids), teacher.network(ids))
    first, *_ = supernets.strategy().plan(0, np.random.default_rng(0), lambda a: 0.0)
    assert any(isinstance(term, Distillation) and term.teacher is None for term in first.terms)


@pytest.mark.slow
def test_adapters_are_trained_searched_and_kept_by_fine_tuning(shell: Shell) -> None:
    path = job(shell, **{**TRAINING, "epochs": 2, "adapters": {"rank": 4}, "learning_rate": 0.01})
    found = shell.nas("search", path, "--inline")
    assert found.code == 0, found
    run = Run.open(RunsFolder(shell.folder / "runs"), "texts-1")
    sharing = load_checkpoint(run.folder.checkpoint).supernet.sharing
    assert sharing.spec.adapter_rank == 4
    further = finetuning_job(run, epochs=1, index=0)
    assert further.training.adapters == run.job.training.adapters
    for key in ("accumulate", "activation_checkpointing", "top_k", "clip_norm"):
        assert getattr(further.training, key) == TRAINING[key]
    tuned = shell.nas("finetune", "texts-1", "--index", "0", "--epochs", "1", "--inline")
    assert tuned.code == 0, tuned
    exported = shell.nas("export", "texts-1", "-o", "net.onnx", "--index", "0", "--json")
    assert exported.code == 0, exported


@pytest.mark.parametrize(
    ("supernet", "training", "mention"),
    [
        (JOB["supernet"], {"distill": "original"}, "supernet.pretrained"),
        (JOB["supernet"], {"adapters": {"rank": 4}}, "pretrained"),
        ({"family": "decoder", "pretrained": "llama", "sharing": {"mixture": {}}}, {"adapters": {}}, "sharing: slice"),
    ],
)
def test_what_does_not_fit_is_rejected(
    shell: Shell, supernet: dict[str, Any], training: dict[str, Any], mention: str
) -> None:
    data = {key: value for key, value in JOB["data"].items() if key != "vocabulary"}
    text = yaml.safe_dump({**JOB, "data": {**data, "tokenizer": "llama"}, "supernet": supernet, "training": training})
    assert_error(shell.nas("train", shell.job(text)), "training.", mention, code="job.conflict")
