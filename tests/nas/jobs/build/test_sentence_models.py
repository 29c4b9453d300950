"""Jobs whose supernet is made of a model of sentences: what fits the data, and what is refused."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from nas.engine.store.folder import RunFolder, RunsFolder
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from supernets.data import TextFormat
from supernets.networks.capture.captured_model import save_capture
from tests.errors import raises
from tests.nas.users_networks import MODEL, installed
from tests.supernets.networks.capture.encoders import SENTENCES, TOKENS, saved

FUNCTION = """
from torch import nn

class Bag(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.words, self.inner, self.last = nn.Embedding(vocabulary, 16), nn.Linear(16, 32), nn.Linear(32, 2)
    def forward(self, ids):
        there = (ids != 0).unsqueeze(-1)
        return self.last(self.inner((self.words(ids) * there).sum(1) / there.sum(1)).relu())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT in `bert`, and the table `animals.csv`."""
    folder = tmp_path_factory.mktemp("sentences")
    saved(folder / "bert")
    with (folder / "animals.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((f"{text} {n}", "cat" if "cat" in text else "other") for n in range(12) for text in SENTENCES)
    return folder


def prepared(
    folder: Path, tmp_path: Path, model: str = "", *, tokens: int = TOKENS, data: str = "", more: str = "",
    run: RunFolder | None = None,
) -> BuiltJob:  # fmt: skip
    supernet = f"{{model: '{model or f'transformers:{folder}/bert'}'{more}}}"
    shares = f"path: {folder}/animals.csv, validation: 0.25, test: 0.25, max_tokens: {tokens}"
    text = f"name: a\ndata: {{name: text-classification, {shares}{data}}}\nsupernet: {supernet}\n"
    return build_job(
        ResolvedJob(parse_job(text, source="job.yaml"), RunsFolder(tmp_path / "runs"), source="job.yaml", run=run)
    )


def test_an_encoder_reads_the_datas_sentences_by_its_own_tokenizer(folder: Path, tmp_path: Path) -> None:
    made = prepared(folder, tmp_path)
    format, model = made.data.dataset.format, made.model
    assert isinstance(format, TextFormat)
    assert format.tokenizer == (folder / "bert" / "tokenizer.json").read_text()
    assert model is not None
    assert model.input_shape == (TOKENS,)
    assert model.program.padding == format.padding
    assert model.fresh == ("classifier",)
    assert "the longest has" in model.notes[-1]
    assert made.job.config.training.learning_rate == 0.0001


def test_a_run_keeps_the_model_and_its_tokenizer(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "bert", tmp_path / "bert")
    made = prepared(folder, tmp_path, f"transformers:{tmp_path}/bert")
    model, format = made.model, made.data.dataset.format
    assert model is not None
    assert isinstance(format, TextFormat)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    save_capture(run.model_file, model)
    run.model_tokenizer.write_text(format.tokenizer)
    shutil.rmtree(tmp_path / "bert")
    again = prepared(folder, tmp_path, f"transformers:{tmp_path}/bert", run=run)
    assert again.data.digests() == made.data.digests()
    assert again.model is not None
    assert again.model.program == model.program


def test_a_captured_file_needs_the_tokenizer(folder: Path, tmp_path: Path) -> None:
    model = prepared(folder, tmp_path).model
    assert model is not None
    file = tmp_path / "own.capture"
    save_capture(file, model)
    with raises("job.missing-key", "data.tokenizer"):
        prepared(folder, tmp_path, str(file))
    tokenizer = f", tokenizer: {folder}/bert"
    assert prepared(folder, tmp_path, str(file), data=tokenizer).model is not None
    with raises("job.unfit-data", "data.max_tokens", f"{TOKENS}"):
        prepared(folder, tmp_path, str(file), data=tokenizer, tokens=12)


def test_a_module_of_the_users_reads_a_tokenizer_of_the_data(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_bag.py").write_text(FUNCTION)
    monkeypatch.syspath_prepend(tmp_path)
    vocabulary = ", vocabulary: 100"
    made = prepared(folder, tmp_path, "own_bag:Bag", data=vocabulary, more=", arguments: {vocabulary: 100}")
    assert made.model is not None
    assert made.model.program.padding == 0
    with raises("capture.failed", "IndexError", "own_bag.py"):
        prepared(folder, tmp_path, "own_bag:Bag", data=vocabulary, more=", arguments: {vocabulary: 2}")


def test_a_tokenizer_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    with raises("job.unfit-data", f"has {TOKENS + 4} positions", "data.max_tokens"):
        prepared(folder, tmp_path, tokens=60)
    small = tmp_path / "small"
    saved(small, vocab_size=20)
    with raises("job.unfit-data", "vocabulary of 20", "data.tokenizer"):
        prepared(folder, tmp_path, f"transformers:{small}")
    other = tmp_path / "other"
    saved(other, pad_token_id=3)
    with raises("job.unfit-data", "pads with token 3"):
        prepared(folder, tmp_path, f"transformers:{other}")
    (small / "tokenizer.json").unlink()
    with raises("job.missing-key", "data.tokenizer"):
        prepared(folder, tmp_path, f"transformers:{small}")


def test_models_and_data_of_other_kinds_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raises("job.conflict", "supernet.model", "takes images"):
        prepared(folder, tmp_path, "torchvision:resnet18")
    installed(tmp_path, monkeypatch)
    with raises("capture.failed", f"an input of {TOKENS}"):
        prepared(folder, tmp_path, MODEL)
    job = f"name: a\ndata: {{name: digits}}\nsupernet: {{model: 'transformers:{folder}/bert'}}\n"
    with raises("job.unfit-data", "takes sentences"):
        build_job(ResolvedJob(parse_job(job, source="job.yaml"), RunsFolder(tmp_path / "runs"), source="job.yaml"))
