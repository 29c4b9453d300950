"""Pretrained networks on a server: uploaded as folders or GGUF files, named by jobs, deleted; hostile files are rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from nas.jobs.schema import load_job
from nas.service.client.uploads import opened_upload
from nas.service.settings import Limits, ServiceSettings
from supernets.networks.formats.pretrained import CONFIG, TOKENIZER, WEIGHTS, is_of_pretrained
from tests.nas.service.made_runs import Jobs
from tests.nas.service.sent_files import packed, pickled, torch_file, with_link
from tests.nas.service.test_stored import served
from tests.nas.service.uploads.checks_without_process import check_without_process
from tests.nas.service.uploads.test_data_sets import add as add_data
from tests.nas.service.uploads.test_data_sets import problem
from tests.supernets.data.test_checking import SENTENCES
from tests.supernets.networks.capture.encoders import saved

MODELS = "/api/v1/models"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT in a folder of the transformers library, beside files that no job reads."""
    folder = tmp_path_factory.mktemp("pretrained") / "bert"
    folder.mkdir()
    saved(folder)
    (folder / "README.md").write_text("a model")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"x")
    return folder


def archive(folder: Path) -> bytes:
    with opened_upload(folder, chooses=is_of_pretrained) as (name, content):
        assert name == f"{folder.name}.zip"
        return content.read()


def add(client: TestClient, content: bytes, name: str = "mini") -> Any:
    return client.post(MODELS, data={"name": name}, files={"model": ("a.zip", content)})


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
def test_a_folder_is_uploaded_named_by_a_recipe_and_deleted(
    client: TestClient, settings: ServiceSettings, bert: Path
) -> None:
    answer = add(client, archive(bert))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["path"], made["kind"], made["family"]) == ("models/mini", "pretrained", "encoder")
    assert made["parameters"] > 1000
    assert client.get(MODELS).json() == [made]
    stored = {path.name for path in (settings.captured_models / "mini").iterdir()}
    assert stored == {CONFIG, WEIGHTS, TOKENIZER, ".record.json"}
    assert problem(add(client, archive(bert))) == (409, "name.taken")
    add_data(client, SENTENCES.encode(), "reviews.csv")
    job = client.get("/api/v1/recipes/minilm-text", params={"data": "mine", "model": "mini"}).json()["job"]
    assert "pretrained: models/mini" in job
    run = client.post("/api/v1/runs", json={"job": job}).json()["run"]
    name = load_job(settings.runs.get(run).job_file).supernet.pretrained
    assert name == str((settings.captured_models / "mini").resolve())
    assert problem(client.delete(f"{MODELS}/mini")) == (409, "run.needed")
    client.post(f"/api/v1/runs/{run}/cancel")
    for wrong, code in (("smollm2-domain", "recipe.without-model"), ("own-image-model", "recipe.without-model")):
        assert problem(client.get(f"/api/v1/recipes/{wrong}", params={"model": "mini"})) == (422, code)
    for changed in (job.replace("family: encoder", "family: decoder"), job.replace("models/mini", "models/none")):
        errors = client.post("/api/v1/jobs/check", json={"job": changed}).json()["errors"]
        assert [error["field"] for error in errors][:1] in (["supernet.pretrained"], ["supernet.space"]), errors
    as_model = "name: a\ndata: {name: digits}\nsupernet: {model: models/mini}\n"
    (error,) = client.post("/api/v1/jobs/check", json={"job": as_model}).json()["errors"]
    assert "supernet.pretrained" in error["message"]
    assert client.delete(f"{MODELS}/mini").status_code == 204
    assert list(settings.captured_models.iterdir()) == []


@pytest.fixture
def broken(bert: Path) -> dict[str, bytes]:
    return {name: content for name, content in files_of(bert).items() if is_of_pretrained(name)}


BAD = (
    "no weights",
    "pickled",
    "half",
    "shapes",
    "no tokenizer",
    "not finite",
    "kind",
    "sizes",
    "outside",
    "header",
    "no json",
)


@pytest.mark.parametrize("bad", BAD)
def test_folders_that_no_job_can_start_from_are_rejected(
    client: TestClient,
    settings: ServiceSettings,
    broken: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bad: str,
) -> None:
    check_without_process(monkeypatch)
    files, mark = dict(broken), tmp_path / "mark"
    config = json.loads(files[CONFIG])
    words = WEIGHTS
    match bad:
        case "no weights":
            del files[WEIGHTS]
        case "pickled":
            files[WEIGHTS] = torch_file(mark)
        case "half":
            files[WEIGHTS] = files[WEIGHTS][: len(files[WEIGHTS]) // 2]
        case "header":  # which says that it is of 2**60 bytes
            files[WEIGHTS] = (2**60).to_bytes(8, "little") + files[WEIGHTS][8:]
        case "shapes":
            files[CONFIG] = json.dumps(config | {"intermediate_size": 48}).encode()
            words = "intermediate"
        case "no tokenizer":
            del files[TOKENIZER]
            words = TOKENIZER
        case "not finite":
            (tmp_path / "w").write_bytes(files[WEIGHTS])
            tensors = load_file(tmp_path / "w")
            name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
            tensors[name] = torch.full_like(tensors[name], torch.nan)
            save_file(tensors, tmp_path / "w")
            files[WEIGHTS], words = (tmp_path / "w").read_bytes(), "not finite"
        case "kind":
            files[CONFIG], words = json.dumps(config | {"model_type": "os.system"}).encode(), "model_type"
        case "sizes":
            files[CONFIG], words = json.dumps(config | {"num_hidden_layers": 2**23}).encode(), "encoder.layer"
        case "outside":
            index = {"weight_map": {"a": "../../../../etc/passwd"}}
            files[f"{WEIGHTS}.index.json"], words = json.dumps(index).encode(), "weight_map"
        case "no json":
            files[CONFIG], words = b"[" * 20_000, "nested"
    answer = add(client, packed(files))
    assert answer.status_code in (413, 422), answer.text
    assert words in answer.json()["detail"]
    assert ".unpacking" not in answer.json()["detail"]
    assert not mark.exists()
    assert list(settings.captured_models.iterdir()) == []


def test_archives_of_anything_else_are_rejected_unread(
    client: TestClient, settings: ServiceSettings, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    for content in (
        torch_file(mark),
        with_link(),
        pickled(mark),
        packed({}),
        packed({"pytorch_model.bin": pickled(mark)}),
        packed({"a/../../config.json": b"{}"}),
        packed({"/etc/config.json": b"{}"}),
        b"PK\x03\x04" + bytes(99),
    ):
        assert add(client, content).status_code == 422
    assert not mark.exists()
    assert list(settings.captured_models.iterdir()) == []


def test_limits_hold(settings: ServiceSettings) -> None:
    with served(settings.runs, Limits(archive_ratio=10), Jobs()) as client:
        bomb = packed({CONFIG: b"{}", WEIGHTS: bytes(2**20)})
        assert add(client, bomb).status_code == 413
    with served(settings.runs, Limits(model_bytes=100), Jobs()) as client:
        assert problem(add(client, packed({CONFIG: b"{}", WEIGHTS: bytes(200)}))) == (409, "storage.quota")
    assert list(settings.captured_models.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_gguf_file_is_rejected(client: TestClient) -> None:
    answer = add(client, b"GGUF" + bytes(100))
    assert answer.status_code == 422
    assert "model.gguf" in answer.json()["detail"]
    assert [error["field"] for error in answer.json()["errors"]] == ["model"]
