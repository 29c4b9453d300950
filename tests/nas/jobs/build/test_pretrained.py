"""What a run keeps of the pretrained network that its supernet is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from nas.engine.store.folder import RunFolder, RunsFolder
from nas.jobs.build.pretrained import Pretrained, find_preprocessing, load_pretrained
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from nas.jobs.schema.supernet import SupernetConfig
from supernets.families.encoder.bert_pretrained import read_bert
from supernets.networks.formats.pretrained import CONFIG, TOKENIZER, WEIGHTS
from supernets.training.checkpoint import weights_digest
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.moods import write_moods


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_moods(tmp_path) / "bert"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "moods-1").mkdir()
    return RunFolder(tmp_path / "moods-1")


def loaded(bert: Path, run: RunFolder | None = None) -> Pretrained:
    supernet = SupernetConfig.model_validate({"family": "encoder", "pretrained": str(bert)})
    config = parse_job(SMALL_JOB, source="job.yaml").model_copy(update={"supernet": supernet})
    found = load_pretrained(ResolvedJob(config, RunsFolder(bert.parent), source="job.yaml", run=run))
    assert found is not None
    return found


def test_the_copy_is_complete_and_replaces_an_earlier_one(bert: Path, run: RunFolder) -> None:
    run.pretrained.mkdir()
    (run.pretrained / "preprocessor_config.json").write_text("{}")
    found = loaded(bert)
    assert found.digest == weights_digest(read_bert(bert).tensors)
    assert find_preprocessing(str(bert), run) == bert
    found.keep(run)
    assert find_preprocessing(str(bert), run) == run.pretrained
    assert {path.name for path in run.pretrained.iterdir()} == {CONFIG, TOKENIZER, "weights.json"}
    for name in (CONFIG, TOKENIZER):
        assert (run.pretrained / name).read_bytes() == (bert / name).read_bytes()


def test_weights_come_from_the_network_and_sizes_from_the_copy(bert: Path, run: RunFolder) -> None:
    loaded(bert).keep(run)
    (bert / CONFIG).unlink()
    again = loaded(bert, run)
    assert again.config.folder == run.pretrained
    network = again.network()
    assert network is not None
    assert len(network.tensors) < len(load_file(bert / WEIGHTS))  # queries, keys and values are one tensor
    assert again.digest == weights_digest(network.tensors)
    with raises("job.pretrained-unusable", "job.yaml: supernet.pretrained: ", "bert", "config.json"):
        loaded(bert)


def test_weights_that_change_while_a_job_uses_them_are_refused(bert: Path) -> None:
    found, tensors = loaded(bert), load_file(bert / WEIGHTS)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, bert / WEIGHTS)
    with raises("pretrained.unusable", "bert", "changed since the job began"):
        found.network()


def test_a_folder_that_cannot_be_made_is_reported(bert: Path, run: RunFolder) -> None:
    run.pretrained.write_text("")
    with raises("store.unusable", "moods-1/pretrained", "File exists", str(bert)):
        loaded(bert).keep(run)
