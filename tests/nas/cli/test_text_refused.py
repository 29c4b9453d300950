"""Jobs of sentences that cannot be done: each is told in a line, and leaves no run behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from nas.engine.store.folder import RunsFolder
from nas.jobs.run.run_options import RunOptions
from nas.runs.driver import run as search
from supernets.data.tokenizing import SentenceTokenizer
from supernets.networks.formats.pretrained import CONFIG, TOKENIZER, WEIGHTS
from tests.nas.commands import SMALL_JOB, Shell
from tests.nas.moods import JOB, ROWS, table, write_moods

OWN = {"family": "encoder", "space": {"head_size": 4, "depth": [1, 2], "width": [16], "heads": [2], "hidden": [8]}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moods(tmp_path_factory.mktemp("refused"))


@pytest.fixture
def shell(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """In a copy of the folder, to spoil."""
    return Shell(Path(shutil.copytree(made, tmp_path / "own")), capsys, monkeypatch)


def refused(shell: Shell, **changes: Mapping[str, Any]) -> str:
    """What a search says that cannot be done, with no run left behind."""
    before = shell.runs()
    job = {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value for key, value in JOB.items()}
    job["supernet"] = changes.get("supernet", JOB["supernet"])
    made = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline")
    assert made.code == 1
    assert shell.runs() == before
    error = made.err.strip()
    assert "\n" not in error
    return error


def configured(**values: Any) -> Callable[[Path], object]:
    """Spoils the configuration."""

    def spoil(folder: Path) -> None:
        path = folder / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


def renamed(old: str, new: str) -> Callable[[Path], object]:
    """Renames a tensor."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        tensors[new] = tensors.pop(old)
        save_file(tensors, folder / WEIGHTS)

    return spoil


def test_what_is_spoilt_below_is_sound(shell: Shell) -> None:
    made = shell.nas("search", shell.job(yaml.safe_dump(JOB)), "--inline", "--json")
    assert made.code == 0, made.err


DENSE = "bert.encoder.layer.1.output.dense.weight"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda folder: shutil.rmtree(folder), ("bert does not exist", "config.json", "model.safetensors")),
        (lambda folder: (folder / CONFIG).write_text("{"), ("config.json: cannot be read", "expected a JSON object; save")),
        (configured(model_type="roberta"), ("model_type is 'roberta'", "reads 'bert'", "give the folder of another")),
        (configured(num_hidden_layers=3), ("no tensor bert.encoder.layer.2.attention.self.query.weight", "save the network")),
        (configured(num_hidden_layers=1), ("has the tensor bert.encoder.layer.1.", "and 15 more", "save the network anew")),
        (renamed(DENSE, DENSE.replace("dense", "dens")), (f"no tensor {DENSE} (it has {DENSE.replace('dense', 'dens')})",)),
        (configured(intermediate_size=20), ("layer.0.intermediate.dense.weight is 16 x 16", "20 x 16", "save the")),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"none"), ("model.safetensors: cannot be read", "save the network")),
        (lambda folder: (folder / TOKENIZER).write_text("{}"), ("tokenizer.json: is no tokenizer", "replace it")),
        (lambda folder: (folder / TOKENIZER).unlink(), ("tokenizer.json: cannot be read", "expected the tokenizer.json of")),
        (configured(pad_token_id=3), ("bert pads with token 3, and the tokenizer with 0", "give the tokenizer that")),
    ],
    ids=(
        "no-folder", "no-json", "another-kind", "more-layers", "fewer-layers", "another-name", "another-shape", "damaged",
        "no-tokenizer", "without-tokenizer", "padding",
    ),
)  # fmt: skip
def test_a_pretrained_network_that_is_none(
    shell: Shell, spoil: Callable[[Path], object], expected: tuple[str, ...]
) -> None:
    spoil(shell.folder / "bert")
    error = refused(shell)
    assert [text for text in expected if text not in error] == []


def test_weights_that_are_no_numbers(shell: Shell) -> None:
    path = shell.folder / "bert" / WEIGHTS
    tensors = load_file(path)
    tensors[DENSE][0, 0] = torch.nan
    save_file(tensors, path)
    assert f"{DENSE} holds values that are not finite (nan, inf); save the network anew" in refused(shell)


def test_a_space_larger_than_the_pretrained_network(shell: Shell) -> None:
    space = {"head_size": 4, "depth": [1, 3], "width": [16], "heads": [4], "hidden": [16]}
    error = refused(shell, supernet={**JOB["supernet"], "space": space})
    assert "the space is larger than the pretrained network: its largest depth is 3, and" in error
    assert "bert has 2; end depth in 2" in error


def test_sentences_longer_than_the_positions(shell: Shell) -> None:
    error = refused(shell, data={"max_tokens": 25})
    assert "bert has 24 positions, and the sentences up to 25 tokens; set data.max_tokens to 24 or less" in error


def test_another_vocabulary(shell: Shell) -> None:
    other = SentenceTokenizer.train([text for text, _ in ROWS[::5]], vocabulary=100, max_tokens=16)
    (shell.folder / "other.json").write_text(other.json)
    error = refused(shell, data={"tokenizer": "other.json"})
    assert "has a tokenizer of its own, and the data were read with another; leave data.tokenizer out" in error
    large = SentenceTokenizer.train(
        [f"{text} q{i}xz" for i, (text, _) in enumerate(ROWS)], vocabulary=200, max_tokens=16
    )
    (shell.folder / "bert" / TOKENIZER).write_text(large.json)
    error = refused(shell)
    assert f"and the tokenizer one of {large.vocabulary}; give the tokenizer that the network was trained" in error


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (table([(text, "good") for text, _ in ROWS]).encode(), "holds 1 class (good: 128 sentence(s)); expected at least 2"),
        (table([*ROWS, ("a rare one", "odd")]).encode(), "class 'odd' has 1 different sentences in the train part; expected"),
        (table([*ROWS, ("a caf\xe9", "good")]).encode("latin-1"), "is not utf-8: byte 0xe9 at offset"),
        (table([*ROWS, ("a \0 film", "good")]).encode(), "holds a zero character at"),
        (table(ROWS).replace("label", "mark").encode(), "has no label column among 'text', 'mark'; expected one of label"),
        (table([*ROWS, ("", "good")]).encode(), "1 row(s) lack 'text' (line 130)"),
    ],
    ids=("one-class", "rare-class", "encoding", "zeros", "no-label", "no-text"),
)  # fmt: skip
def test_sentences_that_are_none(shell: Shell, content: bytes, expected: str) -> None:
    (shell.folder / "moods.csv").write_bytes(content)
    error = refused(shell)
    assert "moods.csv: " in error
    assert expected in error


def test_a_teacher_of_other_classes(shell: Shell) -> None:
    from nas.jobs.schema import load_job

    rows = [*ROWS, *((f"{text} {text}", "neither") for text, _ in ROWS[::4])]
    (shell.folder / "three.csv").write_text(table(rows))
    text = yaml.safe_dump({**JOB, "name": "three", "supernet": OWN, "data": {**JOB["data"], "path": "three.csv"}})
    search(load_job(shell.job(text, "three.yaml")), RunOptions(RunsFolder(shell.folder / "runs"), inline=True))
    error = refused(shell, supernet=OWN, training={"distill": "teacher", "teacher": "three-1"})
    assert "training.teacher: three-1 is for sentences of" in error
    assert "3 classes, and the job's networks for sentences of" in error
    assert "2 classes; name one that was trained on this data set" in error


def test_a_cnn_is_none_of_the_transformers_library(shell: Shell) -> None:
    job = yaml.safe_load(SMALL_JOB)
    job |= {"training": {"epochs": 1}, "objectives": ["accuracy", "macs"], "search": JOB["search"]}
    assert shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline").code == 0
    made = shell.nas("export-transformers", "small-1", "-o", "out")
    assert (made.code, made.error) == (1, "export.unsupported")
    assert all(name in made.err for name in ("encoder", "vit-encoder", "mobile-cnn", "nas export"))
    assert not (shell.folder / "out").exists()
