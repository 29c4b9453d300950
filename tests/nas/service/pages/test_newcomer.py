"""A newcomer on the pages, with a real server, cluster and browser: submit, watch, choose, export, run the file."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains

from hardware_profiles.runtime import run_model
from nas.service.jobs.ray_head import end_head
from supernets.data import load_data
from tests.nas.service.pages.chromium import Chromium, running_chromium
from tests.nas.service.served import Served

pytestmark = pytest.mark.slow

_PATIENCE_S = 300


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.end(signal.SIGTERM)
    end_head(made.folder)


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    with running_chromium(tmp_path) as browser:
        yield browser


def wait(holds: Callable[[], object], what: str) -> None:
    """Until a job has come so far."""
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def test_from_the_recipe_to_a_file_that_runs(served: Served, chromium: Chromium) -> None:
    # Submit the digits recipe from the page, with less of everything.
    chromium.open(f"{served.url}/submit?recipe=digits-cnn")
    job = str(chromium.find("#job").get_property("value"))
    shorter = re.sub(r"epochs: \d+", "epochs: 3", re.sub(r"evaluations: \d+", "evaluations: 14", job))
    assert shorter != job
    chromium.run(
        "const job = document.querySelector('#job'); job.value = arguments[0];"
        "job.dispatchEvent(new Event('input', {bubbles: true}))",
        shorter,
    )
    chromium.click("#submit button[type=submit]")
    chromium.until(lambda: chromium.driver.current_url.endswith("/runs/digits-cnn-1"))

    # Watch it live: nobody opens the page again.
    seen: set[str] = set()

    def ended() -> bool:
        seen.update(word for word in ("queued", "running", "finished", "failed") if word in chromium.text("#head"))
        return not seen.isdisjoint(("finished", "failed"))

    wait(ended, "the job does not end")
    assert seen >= {"running", "finished"}, served.client.logs("digits-cnn-1")
    chromium.until(lambda: chromium.all(".ring"))

    # Drag the limit: another network is chosen.
    first, line = chromium.text("#chosen-key"), chromium.find("#limit-line")
    for _ in range(12):
        ActionChains(chromium.driver).drag_and_drop_by_offset(line, -40, 3).perform()
        if chromium.text("#chosen-key") not in (first, ""):
            break
    key = chromium.text("#chosen-key")
    assert key not in (first, "")

    # Export it, and run the file on images that nobody has trained on.
    chromium.click("#export")
    wait(lambda: chromium.text("#exports .badge") in ("finished", "failed"), "the export does not end")
    assert chromium.text("#exports .badge") == "finished"
    links = {e.text: str(e.get_attribute("href")) for e in chromium.all("#exports li li a")}
    (name,) = [text.removesuffix(".onnx") for text in links if text.endswith(".onnx")]
    assert name.startswith("digits-cnn-1-")
    manifest, model = (urllib.request.urlopen(links[name + suffix]).read() for suffix in (".json", ".onnx"))
    assert json.loads(manifest)["key"] == key
    test = load_data("digits", validation=0.25, test=0.25).test  # as the recipe divides them
    (logits,) = run_model(model, {json.loads(manifest)["input"]["name"]: test.inputs.numpy()})
    share = float(np.mean(logits.argmax(axis=1) == test.labels.numpy()))
    scored = json.loads(manifest)["figures"]["test"] or {"accuracy": share}
    assert share == pytest.approx(scored["accuracy"])
    assert share > 0.2  # chance is 0.1, and the fastest networks have hardly been trained
    assert not chromium.complaints()
