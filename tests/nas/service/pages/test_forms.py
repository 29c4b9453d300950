"""The forms of data sets, models and hardware profiles in a real browser: sent by keyboard, and refused beside the field."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import alert_is_present

from nas.engine.store.folder import RunsFolder
from nas.jobs.recipes import read_recipe
from nas.plugins.testing.onnx_networks import conv_net
from nas.service.state import TaskStatus
from tests.nas.service.pages.chromium import Chromium, running_chromium
from tests.nas.service.pages.running import Server, running_server

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>"
MEASURED = {
    "latency_ms": 1.5, "resolution": 0.02, "p50_ms": 1.6, "p90_ms": None, "p99_ms": None, "throughput_per_s": 666.7,
    "session_ms": 12.0, "session_error_ms": 1.0, "peak_mib": 40.0, "peak_error_mib": 0.5, "samples": 1200, "noisy": False,
}  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(RunsFolder(tmp_path / "runs")) as server:
        yield server


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with running_chromium(tmp_path_factory.mktemp("downloads")) as browser:
        browser.look()
        yield browser


def fill(chromium: Chromium, **values: str) -> None:
    """Types into fields by their names, in place of what they hold."""
    for name, value in values.items():
        field = chromium.find(f"[name='{name}']")
        if field.get_attribute("type") != "file":
            field.send_keys(Keys.CONTROL, "a")
        field.send_keys(value or Keys.BACK_SPACE)


def problem_of(chromium: Chromium, field: str) -> str:
    """The error beside a field, which screen readers must announce too."""
    # In one step: the page may change in between.
    described, invalid, text = chromium.run(
        "const [control, problem] = [arguments[0], `${arguments[0]}-problem`].map((id) => document.getElementById(id));"
        "return [control.getAttribute('aria-describedby'), control.getAttribute('aria-invalid'), problem.textContent];",
        field,
    )
    assert f"{field}-problem" in described.split()
    assert (invalid == "true") is bool(text)
    return str(text)


def focused(chromium: Chromium) -> str:
    return str(chromium.run("return document.activeElement.id"))


def images(path: Path) -> Path:
    """An archive of six images of two classes."""
    with zipfile.ZipFile(path, "w") as archive:
        for shade, label in enumerate(("ants", "bees")):
            for i in range(3):
                packed = io.BytesIO()
                Image.new("L", (8, 8), 40 * i + shade).save(packed, "PNG")
                archive.writestr(f"{label}/{i}.png", packed.getvalue())
    return path


def test_images_are_uploaded_by_keyboard_and_named_in_the_job(
    chromium: Chromium, server: Server, tmp_path: Path
) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    chromium.find("#upload-part summary").send_keys(Keys.ENTER)
    fill(chromium, name="insects", archive=str(images(tmp_path / "insects.zip")))
    chromium.find("#data-name").send_keys(Keys.ENTER)
    chromium.until(lambda: chromium.text("#uploaded p"))
    assert chromium.text("#uploaded p") == (
        "insects: 6 images of 2 classes (ants, bees); all 6 images were decoded. In the job:"
    )
    before = str(chromium.find("#job").get_property("value"))
    chromium.find("#uploaded button").send_keys(Keys.ENTER)
    after = str(chromium.find("#job").get_property("value"))
    assert focused(chromium) == "job"
    assert "path: uploads/insects" in after
    # The rest of the job is unchanged, including its comments.
    rest = before[before.index("# One network that holds all candidates") :]
    assert after.endswith(rest)
    assert after.startswith(before[: before.index("data:")])
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    chromium.click("#send")
    chromium.until(lambda: chromium.driver.current_url.endswith("/runs/digits-cnn-1"))
    assert "path: uploads/insects" in server.service.runs.detail("digits-cnn-1").job
    assert not chromium.complaints()


def test_a_table_is_uploaded_and_chosen_for_its_recipe(chromium: Chromium, server: Server, tmp_path: Path) -> None:
    table = tmp_path / "numbers.csv"
    table.write_text("a,price\n" + "".join(f"{i},{i}.5\n" for i in range(40)))
    chromium.open(f"{server.url}/submit?recipe=own-numbers")
    chromium.until(lambda: "uploaded data of the kind number-table" in chromium.text("#recipe-needs"))
    chromium.find("#upload-part > summary").click()
    fill(chromium, name="mine", archive=str(table))
    chromium.find("#upload details summary").click()
    chromium.find("#option-label_column").send_keys("price")
    chromium.click("#upload button")
    chromium.until(lambda: "40 rows; all 40 rows were read" in chromium.text("#uploaded p"))
    chromium.until(lambda: "path: uploads/mine/numbers.csv" in str(chromium.find("#job").get_property("value")))
    assert "label_column: price" in str(chromium.find("#job").get_property("value"))
    assert chromium.text("#recipe-needs") == ""
    assert chromium.find("#recipe-data").get_property("value") == "mine"
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    chromium.click("#send")
    chromium.until(lambda: chromium.driver.current_url.endswith("/runs/own-numbers-1"))
    # The only data set of the kind is chosen when the page is opened, and none for other recipes.
    chromium.open(f"{server.url}/submit?recipe=own-numbers")
    chromium.until(lambda: "path: uploads/mine/numbers.csv" in str(chromium.find("#job").get_property("value")))
    chromium.run(
        "const r = document.getElementById('recipe'); r.value = 'digits-cnn'; r.dispatchEvent(new Event('change'))"
    )
    chromium.until(lambda: "name: digits " in str(chromium.find("#job").get_property("value")))
    assert not chromium.find("#recipe-data").is_displayed()
    assert not chromium.complaints()


def test_errors_of_an_upload_are_shown_beside_the_field(chromium: Chromium, server: Server, tmp_path: Path) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.find("#upload-part summary").click()
    chromium.click("#upload button")
    assert problem_of(chromium, "data-name")
    assert problem_of(chromium, "archive")
    assert focused(chromium) == "data-name"
    # Messages of the server are shown as text.
    hostile = tmp_path / "hostile.zip"
    with zipfile.ZipFile(hostile, "w") as packed:
        packed.writestr(f"a/{HOSTILE}.exe", b"x")
    fill(chromium, name="../etc", archive=str(hostile))
    chromium.click("#upload button")
    assert problem_of(chromium, "data-name") == "Letters, digits, - and _; the first a letter or digit."
    fill(chromium, name="own")
    assert problem_of(chromium, "data-name") == ""
    chromium.click("#upload button")
    chromium.until(lambda: HOSTILE in problem_of(chromium, "archive"))
    assert not chromium.all("#upload img")
    assert focused(chromium) == "archive"
    with images(tmp_path / "own.zip").open("rb") as archive:
        server.service.data_sets.add("own", archive)
    chromium.run("document.querySelector('#archive').value = ''")
    fill(chromium, archive=str(tmp_path / "own.zip"))
    chromium.click("#upload button")
    chromium.until(lambda: "there is a data set 'own' already" in chromium.text("#upload [data-problem]"))


def test_a_file_that_is_too_large_is_not_sent(chromium: Chromium, server: Server, tmp_path: Path) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.find("#upload-part summary").click()
    chromium.run("document.querySelector('#archive').dataset.most = 100")
    fill(chromium, name="own", archive=str(images(tmp_path / "own.zip")))
    chromium.click("#upload button")
    assert problem_of(chromium, "archive") == "This file is larger than the server accepts."


def test_a_profile_is_added(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/hardware")
    fill(chromium, name="board", threads="4", placement="hw-board", description=f"Mine: {HOSTILE}", batch_size="")
    chromium.find("#name").send_keys(Keys.ENTER)
    assert problem_of(chromium, "batch_size")
    assert focused(chromium) == "batch_size"
    fill(chromium, batch_size="8")
    chromium.find("#batch_size").send_keys(Keys.ENTER)
    chromium.until(lambda: chromium.driver.current_url.endswith("/hardware/board"))
    added = server.service.hardware.get("board")
    assert (added.threads, added.batch_size, added.placement) == (4, 8, {"hw-board": 1.0})
    assert chromium.text(".lead") == added.description == f"Mine: {HOSTILE}"
    chromium.open(f"{server.url}/hardware")
    fill(chromium, name="board")
    chromium.click("#add-profile [type=submit]")
    chromium.until(lambda: "there is a profile 'board' already" in chromium.text("#add-profile [data-problem]"))
    # What the browser accepts may be rejected by the server; its error is shown beside the field.
    chromium.run("document.querySelector('#name').removeAttribute('pattern')")
    fill(chromium, name="a b")
    chromium.click("#add-profile [type=submit]")
    chromium.until(lambda: "'a b'" in problem_of(chromium, "name"))


def test_a_model_is_measured_and_its_result_found_again(chromium: Chromium, server: Server, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(conv_net())
    chromium.open(f"{server.url}/hardware/cpu-1-thread")
    (tmp_path / "none.onnx").write_bytes(b"none")
    fill(chromium, model=str(tmp_path / "none.onnx"))
    chromium.click("#measure [type=submit]")
    chromium.until(lambda: "this is no ONNX model" in problem_of(chromium, "model"))
    chromium.run("document.querySelector('#model').value = ''")
    fill(chromium, model=str(model))
    chromium.find("#measure [type=submit]").send_keys(Keys.ENTER)
    chromium.until(lambda: chromium.text("#measurement .badge") == "queued")
    [asked] = parse_qs(urlsplit(chromium.driver.current_url).query)["measurement"]
    server.state.change_task(asked, TaskStatus.RUNNING)
    chromium.until(lambda: chromium.text("#measurement .badge") == "running")
    chromium.driver.refresh()
    server.state.change_task(asked, TaskStatus.FINISHED, result=MEASURED)
    chromium.until(lambda: chromium.text("#measurement .badge") == "finished")
    facts = chromium.text("#measurement .facts")
    assert "Latency 1.5 ms ± 0.03 ms" in facts
    assert "p50 1.6 ms" in facts
    assert "p90" not in facts
    chromium.open(f"{server.url}/hardware/cpu-1-thread?measurement=none")
    chromium.until(lambda: "unknown measurement 'none'" in chromium.text("#measurement .reason"))


def text_of_job(chromium: Chromium) -> str:
    return str(chromium.find("#job").get_property("value"))


def test_a_declined_recipe_does_not_stay_selected(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit?recipe=digits-cnn")
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    chromium.find("#job").send_keys("# mine")
    changed = text_of_job(chromium)
    for is_taken in (False, True):
        chromium.find("#recipe").send_keys("i")  # the first one with this letter
        question = chromium.until(lambda: alert_is_present()(chromium.driver))
        question.accept() if is_taken else question.dismiss()
        text = read_recipe("iso-dates") if is_taken else changed
        chromium.until(lambda text=text: text_of_job(chromium) == text)
        recipe = "iso-dates" if is_taken else "digits-cnn"
        chromium.until(lambda recipe=recipe: chromium.find("#recipe").get_property("value") == recipe)
    assert not chromium.complaints()


def test_text_that_is_typed_while_a_recipe_loads_stays(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit?recipe=digits-cnn")
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    chromium.delay_requests(3.0)
    chromium.find("#recipe").send_keys("i")
    chromium.find("#job").send_keys("# mine")
    typed = text_of_job(chromium)
    assert typed == f"{read_recipe('digits-cnn')}# mine"
    chromium.until(lambda: "was changed while the recipe was loaded" in chromium.text("#problem"))
    chromium.delay_requests(0.0)
    assert text_of_job(chromium) == typed
    assert chromium.find("#recipe").get_property("value") == "digits-cnn"
    assert not chromium.complaints()
