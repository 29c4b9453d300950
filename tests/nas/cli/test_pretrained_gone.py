"""Runs whose supernet was made of a pretrained network do without its folder, and stay what they are where that is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from nas.engine.store.folder import RunsFolder
from nas.runs.run import Run
from supernets.data.tokenizing import SentenceTokenizer
from supernets.networks.formats.pretrained import CONFIG, PREPROCESSOR, TOKENIZER, WEIGHTS
from supernets.training.training_loop import Loop
from tests.nas.cli.test_pretrained_images import JOB as IMAGES
from tests.nas.cli.test_pretrained_images import MEAN, save_vit
from tests.nas.commands import Answer, Shell, assert_error
from tests.nas.moods import JOB, ROWS, write_moods
from tests.supernets.networks.formats.test_pretrained import install

TRAINING: dict[str, Any] = {"strategy": "instatune", "epochs": 2, "batch_size": 32, "learning_rate": 0.003}


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


@pytest.fixture
def sentences(shell: Shell) -> Shell:
    """A shell in a folder with ``bert``, and ``job.yaml`` that makes a supernet of it."""
    write_moods(shell.folder)
    shell.job(yaml.safe_dump(JOB | {"training": TRAINING}))
    return shell


def done(answer: Answer) -> Any:
    """The JSON of a command that did what it should."""
    assert answer.code == 0, answer.err
    return answer.data


def trained(shell: Shell, run: str) -> str:
    """The digest of the weights that a run trained."""
    with Run.open(RunsFolder(shell.folder / "runs"), run).store() as store:
        return str(store.state().weights)


def interrupted(shell: Shell, *, epoch: int) -> None:
    """A training of ``job.yaml`` is interrupted when it begins an epoch."""
    run_epoch = Loop.run_epoch

    def until(loop: Loop, now: int, on_step: Callable[[int, int, float], None]) -> float:
        if now == epoch:
            raise KeyboardInterrupt
        return run_epoch(loop, now, on_step)

    with shell.monkeypatch.context() as patched:
        patched.setattr(Loop, "run_epoch", until)
        assert shell.nas("train", "job.yaml").code == 130


def largest(shell: Shell, run: str) -> str:
    """What chooses a run's largest network, which the transformers library has, too."""
    with Run.open(RunsFolder(shell.folder / "runs"), run).store() as store:
        return f"key={store.search_facts().space.largest.key}"


def test_a_run_of_sentences_is_used_in_every_way_without_the_folder(sentences: Shell) -> None:
    nas, folder = sentences.nas, sentences.folder
    done(nas("search", "job.yaml", "--inline", "--json"))
    kept = {path.name for path in (folder / "runs" / "moods-1" / "pretrained").iterdir()}
    assert kept == {CONFIG, TOKENIZER, "weights.json"}
    tokenizer = (folder / "bert" / TOKENIZER).read_text()
    shutil.rmtree(folder / "bert")
    further = done(nas("finetune", "moods-1", "--index", "0", "--epochs", "1", "--inline", "--json"))["run"]
    sentences.job(yaml.safe_dump(JOB | {"name": "next", "supernet": {"from": "moods-1"}}), "next.yaml")
    done(nas("search", "next.yaml", "--inline", "--json"))
    for run in ("moods-1", further, "next-1"):
        assert done(nas("export", run, "-o", f"{run}.onnx", "--json"))["as_measured"] == 1.0
        assert (folder / f"{run}.tokenizer.json").read_text() == tokenizer
    chosen = ("--select", largest(sentences, "moods-1"))
    done(nas("export-transformers", "moods-1", "-o", "out", *chosen, "--json"))
    assert (folder / "out" / TOKENIZER).read_text() == tokenizer
    assert done(nas("resume", "moods-1", "--evaluations", "+1", "--inline", "--json"))["run"] == "moods-1"


@pytest.mark.slow
def test_a_run_of_images_is_used_in_every_way_without_the_folder(shell: Shell) -> None:
    nas, folder = shell.nas, shell.folder
    save_vit(folder / "vit")
    job = yaml.safe_load(IMAGES) | {"search": {"algorithm": "random", "evaluations": 3}}
    done(nas("search", shell.job(yaml.safe_dump(job)), "--inline", "--json"))
    kept = {path.name for path in (folder / "runs" / "digits-1" / "pretrained").iterdir()}
    assert kept == {CONFIG, PREPROCESSOR, "weights.json"}
    shutil.rmtree(folder / "vit")
    further = done(nas("finetune", "digits-1", "--index", "0", "--epochs", "1", "--inline", "--json"))["run"]
    del job["training"]
    shell.job(yaml.safe_dump(job | {"name": "next", "supernet": {"from": "digits-1"}}), "next.yaml")
    done(nas("search", "next.yaml", "--inline", "--json"))
    for run in ("digits-1", further, "next-1"):
        done(nas("export", run, "-o", f"{run}.onnx", "--json"))
        assert json.loads((folder / f"{run}.json").read_text())["input"]["mean"] == list(MEAN)
    chosen = ("--select", largest(shell, "digits-1"))
    done(nas("export-transformers", "digits-1", "-o", "out", *chosen, "--json"))
    assert json.loads((folder / "out" / PREPROCESSOR).read_text())["image_mean"] == list(MEAN)
    assert done(nas("resume", "digits-1", "--evaluations", "+2", "--inline", "--json"))["run"] == "digits-1"


def test_a_training_goes_on_from_its_checkpoint_without_the_folder(sentences: Shell) -> None:
    done(sentences.nas("train", "job.yaml", "--json"))
    interrupted(sentences, epoch=2)
    shutil.rmtree(sentences.folder / "bert")
    done(sentences.nas("resume", "moods-2", "--json"))
    assert trained(sentences, "moods-2") == trained(sentences, "moods-1")
    done(sentences.nas("export-transformers", "moods-2", "-o", "out", "--json"))


def test_a_training_without_a_checkpoint_needs_the_weights(sentences: Shell) -> None:
    done(sentences.nas("train", "job.yaml", "--json"))
    interrupted(sentences, epoch=1)
    shutil.move(sentences.folder / "bert", sentences.folder / "elsewhere")
    told = sentences.nas("resume", "moods-2")
    assert_error(
        told, "supernet.pretrained: ", "bert: no model.safetensors here", "put it back for run moods-2, or start"
    )
    shutil.move(sentences.folder / "elsewhere", sentences.folder / "bert")
    done(sentences.nas("resume", "moods-2", "--json"))
    assert trained(sentences, "moods-2") == trained(sentences, "moods-1")


def test_a_package_may_be_uninstalled(sentences: Shell) -> None:
    site = sentences.folder / "site"
    site.mkdir()
    sentences.monkeypatch.syspath_prepend(site)
    install(site, "a_model", *(f"a_model/{file}" for file in (CONFIG, WEIGHTS, TOKENIZER)))
    shutil.copytree(sentences.folder / "bert", site / "a_model", dirs_exist_ok=True)
    job = JOB | {"supernet": {"family": "encoder", "pretrained": "package:a_model"}}
    done(sentences.nas("train", sentences.job(yaml.safe_dump(job), "job.yaml"), "--json"))
    shutil.rmtree(site)
    done(sentences.nas("export-transformers", "moods-1", "-o", "out", "--json"))
    assert sentences.nas("export", "moods-1", "--format", "torch").error == "export.format-unavailable"


def spoil(folder: Path) -> None:
    """Changes everything but the weights."""
    other = SentenceTokenizer.train([text for text, _ in ROWS[::5]], vocabulary=100, max_tokens=16)
    (folder / TOKENIZER).write_text(other.json)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"layer_norm_eps": 0.1, "pad_token_id": 5}))


def test_a_folder_that_is_changed_changes_no_run_that_has_begun(sentences: Shell) -> None:
    done(sentences.nas("train", "job.yaml", "--json"))
    for epoch in (2, 1, 1):
        interrupted(sentences, epoch=epoch)
    spoil(sentences.folder / "bert")
    for run in ("moods-2", "moods-3"):
        done(sentences.nas("resume", run, "--json"))
        assert trained(sentences, run) == trained(sentences, "moods-1")
    path = sentences.folder / "bert" / WEIGHTS
    save_file({name: tensor + 0.1 for name, tensor in load_file(path).items()}, path)
    assert_error(sentences.nas("resume", "moods-4"), "run moods-4 is not compatible: supernet, pretrained: was ")
    sentences.job(yaml.safe_dump(JOB | {"name": "next", "supernet": {"from": "moods-3"}}), "next.yaml")
    done(sentences.nas("search", "next.yaml", "--inline", "--json"))


def test_a_run_that_kept_nothing_is_one_of_its_folder(sentences: Shell) -> None:
    """As runs of earlier versions are, and those that were killed while they kept it."""
    done(sentences.nas("train", "job.yaml", "--json"))
    interrupted(sentences, epoch=2)
    for run in ("moods-1", "moods-2"):
        (sentences.folder / "runs" / run / "pretrained" / "weights.json").unlink()
    done(sentences.nas("resume", "moods-2", "--json"))
    assert trained(sentences, "moods-2") == trained(sentences, "moods-1")
    done(sentences.nas("export-transformers", "moods-1", "-o", "out", "--json"))
    shutil.rmtree(sentences.folder / "bert")
    told = sentences.nas("export-transformers", "moods-1", "-o", "again")
    assert_error(
        told, "supernet.pretrained: ", "bert: no config.json here", "put it back for run moods-1, or start a new run"
    )


def test_what_was_kept_and_is_damaged_is_told(sentences: Shell) -> None:
    done(sentences.nas("train", "job.yaml", "--json"))
    path = sentences.folder / "runs" / "moods-1" / "pretrained" / "weights.json"
    path.write_text("[]")
    told = sentences.nas("export-transformers", "moods-1", "-o", "out")
    assert_error(
        told,
        f"{path.relative_to(sentences.folder)}: cannot be read",
        f"remove {path.parent.relative_to(sentences.folder)}",
    )
    shutil.rmtree(path.parent)
    done(sentences.nas("export-transformers", "moods-1", "-o", "out", "--json"))
