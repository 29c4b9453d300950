"""The buttons of a run's page that make plots, tables and fine-tuned networks, and its growing log."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.engine.store.base import RunStatus
from nas.engine.store.opening import open_store
from nas.service.jobs.driver_jobs import new_log
from nas.service.state import TaskStatus
from tests.nas.service.made_runs import queued, regressed, searched
from tests.nas.service.pages.chromium import Chromium
from tests.nas.service.pages.in_browser.windows import open_settled
from tests.nas.service.pages.running import Server

pytestmark = pytest.mark.slow


def test_plots_are_made_by_a_button_and_their_files_appear(chromium: Chromium, server: Server) -> None:
    run = searched(server.runs).id
    open_settled(chromium, f"{server.url}/runs/{run}")
    chromium.click("#make-plots")
    chromium.until(lambda: chromium.all("#artifacts [data-status=queued]"))
    [task] = server.state.tasks(run)
    folder = Path(task.request["result"]).parent
    (folder / "front.png").write_bytes(b"picture")
    server.state.change_task(task.task, TaskStatus.FINISHED, result={"paths": [str(folder / "front.png")]})
    chromium.until(lambda: chromium.all("#artifacts a[download]"))
    assert chromium.text("#artifacts a[download]") == "front.png"
    chromium.click("#make-calibration")
    chromium.find("#ask-calibration button[value=yes]").click()
    chromium.until(lambda: len(server.state.tasks(run)) == 2)
    assert server.state.tasks(run)[1].request["asked"]["profile"] == "cpu-1-thread"
    assert not chromium.complaints()


def test_the_chosen_network_is_fine_tuned(chromium: Chromium, server: Server) -> None:
    run = searched(server.runs).id
    open_settled(chromium, f"{server.url}/runs/{run}")
    key = chromium.text("#chosen-key")
    chromium.click("#finetune")
    field = chromium.find("#ask-finetune input[name=epochs]")
    field.clear()
    field.send_keys("3")
    chromium.find("#ask-finetune button[value=yes]").click()
    chromium.until(lambda: chromium.driver.current_url.endswith("-finetuned-1"))
    [submission] = server.state.submissions()
    job = server.service.runs.detail(submission.run).job
    assert key in job
    assert "epochs: 3" in job
    assert not chromium.complaints()


def test_a_log_grows_while_it_is_open(chromium: Chromium, server: Server) -> None:
    run = queued(server.runs)
    folder = server.runs.get(run)
    store = open_store(folder, driver=True)
    store.set_status(RunStatus.RUNNING)
    log = new_log(folder, "first")
    log.write_text("first\n")
    open_settled(chromium, f"{server.url}/runs/{run}")
    chromium.click("#log-part summary")
    chromium.until(lambda: chromium.text("#log") == "first")
    chromium.run("document.getElementById('log').firstChild.seen = true")
    log.write_text("first\nsecond ±\n")
    log_text = "return document.getElementById('log').textContent"
    chromium.until(lambda: chromium.run(log_text) == "first\nsecond ±\n")
    assert chromium.run("return document.getElementById('log').firstChild.seen === true")  # what was read stays
    store.close()


def test_the_curves_of_several_trainings_are_in_one_chart(chromium: Chromium, server: Server) -> None:
    for _ in range(2):
        regressed(server.runs)
    open_settled(chromium, f"{server.url}/compare?runs=ages-1&runs=ages-2")
    lines = "return document.getElementById('training-curves').data.map((trace) => [trace.name, [...trace.y]])"
    assert chromium.run(lines) == [["ages-1", [8, 4]], ["ages-2", [8, 4]]]
    chromium.run(
        "const s = document.getElementById('training-what'); s.value = s.length - 1; s.dispatchEvent(new Event('change'));"
    )
    assert chromium.run(lines) == [["ages-1", [1, 0.5]], ["ages-2", [1, 0.5]]]
    chromium.click("[aria-label='Download compared-training as CSV']")
    chromium.downloaded("compared-training.csv")
