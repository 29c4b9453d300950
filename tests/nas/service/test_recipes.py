"""Every recipe is submitted to a server with what it needs; some of each kind run to the end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from nas.engine.store.folder import RunsFolder
from nas.jobs.recipes import list_recipes
from nas.jobs.run.run_options import RunOptions
from nas.runs.driver import drive
from nas.runs.run import Run
from nas.service import recipes as recipes_module
from nas.service.client.uploads import opened_upload
from nas.service.http.app import create_app
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from supernets.data.tokenizing import SEPARATOR, train_byte_pairs
from supernets.networks.capture.captured_model import capture_model, save_capture
from supernets.networks.capture.user_model import own_model
from supernets.networks.formats.pretrained import TOKENIZER, is_of_pretrained
from tests.nas.service.conftest import HERE
from tests.nas.service.made_runs import Jobs
from tests.nas.service.sent_files import packed
from tests.nas.service.test_real_jobs import Network
from tests.supernets.data.dense.faulty import coco, masks, zipped
from tests.supernets.families.decoder.test_decoder_pretrained import saved as saved_decoder
from tests.supernets.networks.capture.encoders import saved as saved_encoder

API = "/api/v1"
N = 120


def images() -> dict[str, bytes]:
    """Small pictures of two classes."""
    rng, files = np.random.default_rng(0), {}
    for place, label in enumerate(("dark", "light")):
        for i in range(N // 4):
            out = io.BytesIO()
            pixels = rng.integers(100 * place, 100 * place + 100, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(out, "PNG")
            files[f"{label}/{i}.png"] = out.getvalue()
    return files


def table(header: str, row: str) -> bytes:
    """A table whose rows have their numbers in place of ``{i}``, and a half in place of ``{h}``."""
    return "\n".join([header, *(row.format(i=i, h=("good", "bad")[i % 2]) for i in range(N))]).encode()


def labelled() -> bytes:
    files = images()
    rows = "".join(f"{name},{'shade dark' if 'dark' in name else 'light'}\n" for name in files)
    return packed({**files, "labels.csv": f"image,labels\n{rows}".encode()})


DATA = {
    "image-folder": ("photos.zip", packed(images())),
    "image-table": ("labels.zip", labelled()),
    "coco": ("boxes.zip", zipped(coco)),
    "segmentation-folder": ("masks.zip", zipped(masks)),
    "text-classification": ("reviews.csv", table("text,label", "a {h} sentence of the number {i},{h}")),
    "number-table": ("numbers.csv", table("a,b,target", "{i},1.{i},{i}.5")),
    "text": (
        "corpus.jsonl",
        table("", '{{"text": "The quick document of number {i} was {h}, and so are all of them."}}'),
    ),
    "text-pairs": ("pairs.csv", table("source,target", "number {i} is {h},{i} {h}")),
}
"""The file of an upload by the kind of its data."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ServiceSettings:
    runs = RunsFolder(tmp_path_factory.mktemp("server") / "runs")
    runs.check_writable()
    return ServiceSettings(runs)


@pytest.fixture(scope="module")
def client(settings: ServiceSettings) -> Iterator[TestClient]:
    state = ServiceState.open(settings.database)
    with TestClient(create_app(Service(settings, state, Jobs()), settings), base_url=HERE) as client:
        yield client
    state.close()


def model_of(client: TestClient, kind: str, family: str, folder: Path) -> str:
    """The name of an uploaded model of a kind, which is uploaded once."""
    name = family or kind
    if name in {model["name"] for model in client.get(f"{API}/models").json()}:
        return name
    if kind == "captured":
        save_capture(folder / "net.capture", capture_model(own_model(Network(3)), torch.randn(2, 3, 16, 16)))
        content = (folder / "net.capture").read_bytes()
    else:
        if family == "encoder":
            saved_encoder(folder)
        else:
            tokenizer = train_byte_pairs(
                [f"the quick document {i}" for i in range(N)], vocabulary=300, special=SEPARATOR
            )
            saved_decoder("llama", folder, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=128)
            tokenizer.save(str(folder / TOKENIZER))
        with opened_upload(folder, chooses=is_of_pretrained) as (_, opened):
            content = opened.read()
    answer = client.post(f"{API}/models", data={"name": name}, files={"model": ("model", content)})
    assert answer.status_code == 201, answer.text
    return name


def data_of(client: TestClient, kind: str) -> str:
    """The name of an uploaded data set of a kind, which is uploaded once."""
    if kind not in {data_set["name"] for data_set in client.get(f"{API}/data").json()}:
        answer = client.post(f"{API}/data", data={"name": kind}, files={"archive": DATA[kind]})
        assert answer.status_code == 201, answer.text
        assert answer.json()["kind"] == kind
    return kind


def filled(client: TestClient, name: str, folder: Path) -> str:
    """The text of a recipe with uploads in place of what it needs."""
    recipe = client.get(f"{API}/recipes/{name}").json()
    chosen = {}
    if "data" in recipe["needs"]:
        chosen["data"] = data_of(client, recipe["data_kind"])
    if "model" in recipe["needs"]:
        chosen["model"] = model_of(client, recipe["model_kind"], recipe["family"], folder)
    job: str = client.get(f"{API}/recipes/{name}", params=chosen).json()["job"]
    return job


_SLOW = ("minilm-text", "smollm2-domain")
"""Recipes whose pretrained network is made by the transformers library."""
NAMES = [
    pytest.param(recipe.name, marks=pytest.mark.slow) if recipe.name in _SLOW else recipe.name
    for recipe in list_recipes()
]


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_accepted_with_what_it_needs(
    client: TestClient, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes_module, "find", lambda: tmp_path)  # Fashion-MNIST is there
    recipe = client.get(f"{API}/recipes/{name}").json()
    as_it_is = client.post(f"{API}/jobs/check", json={"job": recipe["job"]}).json()
    assert as_it_is["ok"] is not bool(recipe["needs"]), as_it_is["errors"]
    answer = client.post(f"{API}/runs", json={"job": filled(client, name, tmp_path)})
    assert answer.status_code == 201, answer.text


def test_what_a_recipe_needs_is_listed(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes_module, "find", lambda: None)
    needs = {recipe["name"]: set(recipe["needs"]) for recipe in client.get(f"{API}/recipes").json()}
    assert needs["digits-cnn"] == set()
    assert needs["fashion-mnist-cnn"] == needs["own-numbers"] == needs["iso-dates"] == {"data"}
    assert needs["own-image-model"] == needs["efficientnet-lite"] == {"data", "model"}
    assert needs["minilm-text"] == needs["smollm2-domain"] == {"data", "model"}
    recipe = client.get(f"{API}/recipes/minilm-text").json()
    assert (recipe["data_kind"], recipe["model_kind"], recipe["family"]) == (
        "text-classification",
        "pretrained",
        "encoder",
    )


RUN = {
    "own-numbers": "mae",
    "own-sentences": "accuracy",
    "own-image-labels": "average_precision",
    "own-image-model": "accuracy",
    "iso-dates": "perplexity",
    "minilm-text": "accuracy",
    "smollm2-domain": "perplexity",
}
"""The first objective of recipes that are run to the end."""


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_a_run_on_uploads_comes_to_its_end(
    client: TestClient, settings: ServiceSettings, tmp_path: Path, name: str
) -> None:
    changes: dict[str, Any] = {
        "training.epochs": 0 if name == "smollm2-domain" else 1,
        "training.batch_size": 8,
        "training.threads": 1,
        "objectives": [RUN[name], "macs"],
        "search.evaluations": 2,
        "search.batch": 2,
        "search.algorithm": "random",
    }
    text = filled(client, name, tmp_path)
    if name == "minilm-text":  # the network reads 28 tokens
        text = text.replace("max_tokens: 64", "max_tokens: 16")
    if name == "smollm2-domain":  # its space is within the network that it was written for
        text = text.replace("head_size: 64", "head_size: 4").replace("[27, 30]", "[2, 3]").replace("[576]", "[24]")
        text = text.replace("heads: [3]", "heads: [2]").replace("[768, 960, 1152, 1344, 1536]", "[16, 36]")
    edited = client.post(f"{API}/jobs/edit", json={"job": text, "changes": changes}).json()["job"]
    answer = client.post(f"{API}/runs", json={"job": edited})
    assert answer.status_code == 201, answer.text
    run = answer.json()["run"]
    drive(run, RunOptions(settings.runs, inline=True), kind="search")
    with Run.open(settings.runs, run).store() as store:
        assert str(store.status()) == "finished", store.reason()
