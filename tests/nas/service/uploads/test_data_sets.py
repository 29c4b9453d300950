"""Data sets of every kind on a server: read as a job reads them, stored and named by jobs, or rejected."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tokenizers import Tokenizer
from tokenizers.models import BPE

from nas.jobs.schema import load_job
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from nas.service.uploads import check_process, content_check
from nas.service.uploads.content_check import UploadedContent, check_content
from tests.errors import raises
from tests.nas.service.sent_files import flowers, image, packed
from tests.nas.service.uploads.checks_without_process import check_without_process
from tests.supernets.data.dense.faulty import coco, masks, voc, yolo, zipped
from tests.supernets.data.test_checking import DOCUMENTS, NUMBERS, PAIRS, SENTENCES

DATA = "/api/v1/data"


def add(client: TestClient, content: bytes, filename: str, name: str = "mine", **form: Any) -> Any:
    return client.post(DATA, data={"name": name, **form}, files={"archive": (filename, content)})


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].partition("#")[2]


def labelled_images() -> bytes:
    table = "image,labels\n" + "".join(f"{n},{'red round' if 'rose' in n else 'yellow'}\n" for n in flowers(6))
    return packed({**flowers(6), "labels.csv": table.encode()})


UPLOADS: dict[str, tuple[bytes, str, str, str]] = {
    "number-table": (NUMBERS.encode(), "numbers.csv", "uploads/mine/numbers.csv", "regression"),
    "text-classification": (SENTENCES.encode(), "reviews.csv", "uploads/mine/reviews.csv", "classification"),
    "text-pairs": (PAIRS.encode(), "pairs.csv", "uploads/mine/pairs.csv", "language-modelling"),
    "text": (DOCUMENTS.encode(), "corpus.txt", "uploads/mine/corpus.txt", "language-modelling"),
    "image-folder": (packed(flowers()), "flowers.zip", "uploads/mine", "classification"),
    "coco": (zipped(coco), "boxes.zip", "uploads/mine", "detection"),
    "segmentation-folder": (zipped(masks), "masks.zip", "uploads/mine", "segmentation"),
    "image-table": (labelled_images(), "flowers.zip", "uploads/mine/labels.csv", "multi-label"),
}


@pytest.mark.parametrize("kind", UPLOADS)
def test_each_kind_is_recognised_stored_and_named_by_a_recipe(
    client: TestClient, service: Service, settings: ServiceSettings, kind: str
) -> None:
    content, filename, path, task = UPLOADS[kind]
    answer = add(client, content, filename)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["kind"], made["path"], made["task"]) == (kind, path, task)
    (listed,) = client.get(DATA).json()
    assert listed["bytes"] > 0
    assert listed["examples"] == made["examples"] > 5
    recipe = next(recipe for recipe in service.recipes.list() if recipe.data_kind == kind and not recipe.model_kind)
    job = client.get(f"/api/v1/recipes/{recipe.name}", params={"data": "mine"}).json()["job"]
    run = client.post("/api/v1/runs", json={"job": job}).json()["run"]
    stored = load_job(settings.runs.get(run).job_file)
    assert stored.data.name == kind
    assert stored.data.path == (settings.uploaded_data / Path(path).relative_to("uploads")).resolve()
    assert problem(client.delete(f"{DATA}/mine")) == (409, "run.needed")
    client.post(f"/api/v1/runs/{run}/cancel")
    assert client.delete(f"{DATA}/mine").status_code == 204
    assert list(settings.uploaded_data.iterdir()) == []


@pytest.mark.parametrize(("kind", "make"), [("yolo", yolo), ("voc", voc)])
def test_a_recipe_takes_other_formats_of_its_task(client: TestClient, kind: str, make: Callable[[Path], Path]) -> None:
    made = add(client, zipped(make), "boxes.zip").json()
    assert (made["kind"], made["task"], made["examples"]) == (kind, "detection", 12)
    job = client.get("/api/v1/recipes/own-detector", params={"data": "mine"}).json()["job"]
    assert f"name: {kind}" in job
    assert client.post("/api/v1/jobs/check", json={"job": job}).json()["ok"]


def test_columns_are_named_and_written_into_recipes(client: TestClient) -> None:
    table = "review,stars\n" + "".join(f"sentence {i},{i % 2}\n" for i in range(20))
    answer = add(client, table.encode(), "reviews.csv")
    assert problem(answer) == (422, "data.layout")
    assert "'review', 'stars'" in answer.json()["detail"]
    options = {"text_column": "review", "label_column": "stars"}
    made = add(client, table.encode(), "reviews.csv", options=json.dumps(options))
    assert made.json()["options"] == options
    job = client.get("/api/v1/recipes/own-sentences", params={"data": "mine"}).json()["job"]
    assert "text_column: review" in job
    assert client.post("/api/v1/jobs/check", json={"job": job}).json()["ok"]


def test_a_recipe_gets_the_task_and_the_size_of_the_images(client: TestClient) -> None:
    classes = "a,b,label\n" + "".join(f"{i},{i % 7},{'x' if i % 3 else 'y'}\n" for i in range(40))
    assert add(client, classes.encode(), "n.csv", "numbers").json()["task"] == "classification"
    job = client.get("/api/v1/recipes/own-numbers", params={"data": "numbers"}).json()["job"]
    assert "\ntask: classification" in job
    assert "objectives: [accuracy, macs]" in job
    add(client, packed(flowers()), "f.zip", "flowers")
    job = client.get("/api/v1/recipes/own-images", params={"data": "flowers"}).json()["job"]
    assert "image_size: 8 " in job
    answer = client.get("/api/v1/recipes/own-images", params={"data": "numbers"})
    assert problem(answer) == (422, "recipe.unfit-data")
    assert problem(client.get("/api/v1/recipes/own-images", params={"data": "none"})) == (404, "data-set.unknown")


def truncated() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()[:600]


BAD: dict[str, tuple[bytes, str, str, str]] = {
    "truncated image": (packed({**flowers(), "rose/half.png": truncated()}), "f.zip", "data.unreadable", "rose/half.png"),
    "one class": (packed({k: v for k, v in flowers().items() if "rose" in k}), "f.zip", "data.unsplittable", "rose"),
    "loose image": (packed({"a.png": image()}), "f.zip", "data.layout", "a.png"),
    "loose image beside classes": (packed({**flowers(), "a.png": image()}), "f.zip", "data.layout", "a.png"),
    "too few": (packed(flowers(2)), "f.zip", "data.unsplittable", "at least 3"),
    "line": (NUMBERS.replace("3,3,1.0", "3,x,1.0").encode(), "n.csv", "data.malformed-table", "n.csv:5"),
    "not closed": (SENTENCES.encode() + b'"open,good\n', "s.csv", "data.malformed-table", "s.csv:22"),
    "one label": (SENTENCES.replace("good", "bad").encode(), "s.csv", "data.unsplittable", "bad"),
    "no text": (b"\xff\xfe\x00", "t.txt", "data.unreadable", "t.txt"),
    "empty": (b"", "t.csv", "data.layout", "no rows"),
    "program": (b"print()", "evil.py", "archive.invalid", "evil.py"),
    "hidden": (b"a,b", ".csv.csv", "archive.invalid", ".csv.csv"),
    "table without images": (b"image,label\na/1.png,a\n", "labels.csv", "data.layout", "folder or archive"),
    "leaving": (
        packed({**flowers(), "l.csv": b"image,label\n../../../x.png,a\nrose/0.png,b\n"}), "f.zip", "data.malformed-table",
        "../../../x.png",
    ),
    "pretrained": (packed({"a/config.json": b"{}"}), "f.zip", "archive.invalid", "POST /api/v1/models"),
    "weights": (b"GGUF", "m.gguf", "archive.invalid", "POST /api/v1/models"),
    "captured model": (b"PK", "mine.capture", "archive.invalid", "upload it as a model"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_what_no_job_can_be_trained_on_is_rejected(
    client: TestClient, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    if bad != "not closed":  # which a process reads, too
        check_without_process(monkeypatch)
    content, filename, code, words = BAD[bad]
    answer = add(client, content, filename)
    assert problem(answer) == (422, code), answer.text
    assert words in answer.json()["detail"]
    assert "/" + settings.runs.root.name not in answer.json()["detail"]
    assert ".unpacking" not in answer.json()["detail"]
    assert [error["field"] for error in answer.json()["errors"]] == ["archive"]
    assert list(settings.uploaded_data.iterdir()) == []


def test_wrong_forms_are_rejected(client: TestClient) -> None:
    for form in ({"kind": "digits"}, {"task": "x"}, {"options": "[1]"}, {"options": "{"}, {"options": '{"path": "/etc"}'},
                 {"options": '{"text_column": 3}'}, {"options": '{"encoding": "rot13"}'}, {"kind": "text-pairs"}):  # fmt: skip
        answer = add(client, NUMBERS.encode(), "n.csv", **form)
        assert answer.status_code == 422, form
    assert client.get(DATA).json() == []


def test_texts_of_any_name_are_stored_where_their_kind_is_named(client: TestClient) -> None:
    polarity = {f"rt.{label}": "\n".join(f"{label} {i}" for i in range(9)).encode() for label in ("neg", "pos")}
    assert problem(add(client, packed(polarity), "p.zip")) == (422, "archive.invalid")
    made = add(
        client, packed({f"around/{k}": v for k, v in polarity.items()}), "p.zip", kind="text-classification"
    ).json()
    assert (made["classes"], made["path"]) == (["neg", "pos"], "uploads/mine")


def panic(request: Mapping[str, Any]) -> dict[str, Any]:
    """A reader whose library ends by an error that is no `Exception`."""
    normalizer = {"type": "Precompiled", "precompiled_charsmap": ""}
    Tokenizer.from_str(json.dumps(json.loads(Tokenizer(BPE()).to_str()) | {"normalizer": normalizer}))
    return {}


def test_a_library_that_panics_blames_the_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_process, "_READERS", {"data": f"{__name__}:panic"})
    checked = check_process.answer({"subject": "data"})
    assert checked["code"] == "archive.invalid"
    assert "Precompiled" in checked["error"]


def test_labels_that_are_too_long_are_rejected(tmp_path: Path) -> None:
    table, request = tmp_path / "n.csv", {"subject": "data", "folder": str(tmp_path), "kind": "", "task": ""}
    for labels, words in ((["x" * 300, "y" * 255], "255 characters"), ([f"y{i:0249}" for i in range(1100)], "275,000")):
        rows = [f"{row},{label}" for row, label in enumerate(labels * 4)]
        table.write_text("\n".join(("a,label", *rows)))
        checked = check_process.answer({**request, "options": {}})
        assert checked["code"] == "data.too-large", checked
        assert words in checked["error"]


def test_memory_and_time_of_a_check_are_limited(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(NUMBERS)
    content = UploadedContent(tmp_path, "data")
    with raises("request.too-large", "seconds"):
        check_content(content, Limits(check_s=0.01))
    (tmp_path / "t.csv").write_text("a,target\n" + "1,2\n" * 1_000_000)
    with raises("request.too-large", "memory"):
        check_content(content, Limits(check_bytes=64 * 2**20))


def test_a_process_that_cannot_start_blames_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_text(NUMBERS)
    script = tmp_path / "python"
    monkeypatch.setattr(content_check.sys, "executable", str(script))
    for body, code in (("echo no module >&2; exit 1", "upload.unchecked"), ("kill -SEGV $$", "archive.invalid")):
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        with raises(code):
            check_content(UploadedContent(tmp_path, "data"), Limits())
