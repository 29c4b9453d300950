"""The page for submitting jobs: errors, fields, plans and recipes."""

from __future__ import annotations

import pytest

from nas.jobs.recipes import read_recipe
from nas.jobs.schema import parse_job
from nas.service.state import TaskStatus
from tests.nas.service.pages.chromium import Chromium
from tests.nas.service.pages.in_browser.windows import change, write
from tests.nas.service.pages.running import Server

pytestmark = pytest.mark.slow


def test_errors_of_a_job_are_shown_beside_the_field(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    job = chromium.find("#job")
    text = str(job.get_property("value"))
    broken = text.replace("evaluations: 60 ", "evaluations: -6 ").replace("name: digits-cnn", "name: ../etc")
    chromium.run(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
        job,
        broken,
    )
    chromium.until(lambda: "error" in chromium.text("#job-state"))
    assert job.get_attribute("aria-invalid") == "true"
    fields = {e.text for e in chromium.all("#job-problems b")}
    line = 1 + broken[: broken.index("name: ../etc")].count("\n")
    assert f"name (line {line})" in fields
    chromium.find("#job-problems button").click()
    selected = chromium.run("const j = arguments[0]; return j.value.slice(j.selectionStart, j.selectionEnd)", job)
    assert selected.startswith("name: ../etc")
    chromium.find("#send").click()
    chromium.until(lambda: "was not submitted" in chromium.text("#problem"))
    assert not server.service.runs.page().runs
    chromium.run(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))", job, text
    )
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    chromium.find("#hardware input[value=cpu-1-thread-batch-16]").click()
    chromium.find("#send").click()
    chromium.until(lambda: chromium.driver.current_url.endswith("/runs/digits-cnn-1"))
    assert chromium.text("#head .badge") == "queued"
    assert "cpu-1-thread-batch-16" in server.service.runs.detail("digits-cnn-1").job


def test_fields_change_the_text_of_the_job_and_the_text_changes_the_fields(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.until(lambda: chromium.find("#evaluations").get_property("value") == "60")
    text = str(chromium.find("#job").get_property("value"))
    change(chromium, "#evaluations", 90)
    change(chromium, "#epochs", 3)
    expected = text.replace("evaluations: 60 ", "evaluations: 90 ").replace("epochs: 30", "epochs: 3")
    chromium.until(lambda: chromium.find("#job").get_property("value") == expected)
    change(chromium, "[id='metric-latency_ms'] input[type=number]", 0.05)
    chromium.until(
        lambda: "constraints: {latency_ms: {max: 0.05}}\n" in str(chromium.find("#job").get_property("value"))
    )
    write(chromium, chromium.find("#job"), text.replace("evaluations: 60 ", "evaluations: 44 "))
    chromium.until(lambda: chromium.find("#evaluations").get_property("value") == "44")
    chromium.until(lambda: chromium.find("[id='metric-latency_ms'] input[type=number]").get_property("value") == "")
    assert not chromium.complaints()


def test_a_plan_is_shown_before_the_job_is_submitted(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.find("#plan").click()
    chromium.until(lambda: chromium.text("#planned .badge") == "queued")
    [task] = server.state.open_tasks()
    ends = {
        name: {"parameters": 10**n, "latency_ms@cpu-1-thread": n} for n, name in enumerate(("smallest", "largest"), 2)
    }
    span = {"seconds": 120.0, "low": 100.0, "high": 7200.0, "origin": ""}
    result = {
        "space": {"size": 123456, "choices": 9}, **ends, "images": {"train": 1000}, "evaluations": 60, "epochs": 30,
        "time": {"total": span}, "memory": {"mib": 2150.0, "low": 900.0, "high": 3225.0},
        "warnings": ["one class has 3 images"],
    }  # fmt: skip
    server.state.change_task(task.task, TaskStatus.FINISHED, result=result)
    chromium.until(lambda: "123,456" in chromium.text("#planned"))
    text = chromium.text("#planned")
    for part in (
        "100 to 1,000",
        "2 min (1.7 min to 2 h)",
        "one class has 3 images",
        "2 to 3 ms",
        "2.1 GiB (900 MiB to 3.1 GiB)",
    ):
        assert part in text
    assert not chromium.complaints()
    write(chromium, chromium.find("#job"), "name: other")  # the plan is of another job now
    assert not chromium.find("#planned").is_displayed()


def test_an_error_of_the_notification_is_shown_beside_its_field(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    chromium.click("#notification summary")
    chromium.find("#webhook-url").send_keys("https://team.example/hook")
    chromium.find("#webhook-secret").send_keys("short")
    chromium.click("#send")
    chromium.until(lambda: chromium.text("#webhook-problems").startswith("webhook.secret"))
    assert chromium.text("#job-problems") == ""
    assert chromium.find("#job").get_attribute("aria-invalid") == "false"
    assert chromium.run("return document.activeElement.id") == "webhook-secret"
    assert not server.service.runs.page().runs


def test_the_fields_show_a_recipe_whose_data_are_not_uploaded_yet(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.until(lambda: chromium.find("#evaluations").get_property("value") == "60")
    chromium.find("#recipe").send_keys("own-numbers")
    chromium.until(lambda: "data.path" in chromium.text("#job-problems"))
    assert [box.get_attribute("value") for box in chromium.all("#metrics :checked")] == ["mae", "macs"]
    assert chromium.find("#epochs").get_property("value") == "100"
    chromium.find("[id='metric-latency_ms'] input[type=checkbox]").click()
    chromium.until(lambda: "objectives: [mae, macs, latency_ms]" in str(chromium.find("#job").get_property("value")))


def test_names_of_metrics_are_broken_at_their_underscores(chromium: Chromium, server: Server) -> None:
    broken = """
    const isBroken = (node) => {
      const range = document.createRange();
      range.selectNodeContents(node);
      return range.getClientRects().length > 1;
    };
    const names = [...document.querySelectorAll('#more-metrics label span')];
    return names.flatMap(({childNodes}) => [...childNodes].filter((node) => node.data && isBroken(node))).map(({data}) => data);
    """
    for width in (1280, 390):
        chromium.look(width=width)
        chromium.open(f"{server.url}/submit")
        chromium.click("#settings summary")
        chromium.until(lambda: len(chromium.all("#more-metrics tr")) > 15)
        assert chromium.run(broken) == []
        assert "time_to_first_token_ms" in [
            name.text.replace("\n", "") for name in chromium.all("#more-metrics label span")
        ]
        assert chromium.run("return document.documentElement.scrollWidth") <= width


def test_another_recipe_takes_the_place_of_one_that_was_not_changed(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.run(
        "const r = document.getElementById('recipe'); r.value = 'fashion-mnist-vit'; r.dispatchEvent(new Event('change'))"
    )
    expected = read_recipe("fashion-mnist-vit")
    chromium.until(lambda: chromium.find("#job").get_property("value") == expected)


def test_the_algorithm_and_its_predictor_are_chosen_beside_the_text(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    algorithm, predictor = chromium.find("#algorithm"), chromium.find("#predictor")
    chromium.until(lambda: algorithm.get_property("value") == "guided" and not predictor.is_enabled())

    def choose(selector: str, value: str) -> None:
        chromium.run(
            "const s = document.querySelector(arguments[0]); s.focus(); s.value = arguments[1];"
            "s.dispatchEvent(new Event('change', {bubbles: true}))",
            selector,
            value,
        )

    def search_of_the_text() -> tuple[str, str | None]:
        search = parse_job(str(chromium.find("#job").get_property("value")), source="job").search
        return search.algorithm, search.predictor

    choose("#algorithm", "nsga2")
    chromium.until(lambda: predictor.is_enabled() and search_of_the_text() == ("nsga2", None))
    choose("#predictor", "lightgbm")
    chromium.until(lambda: search_of_the_text() == ("nsga2", "lightgbm"))
    assert chromium.text("#job-state") == "This job can be submitted."
    choose("#algorithm", "random")  # which takes no predictor
    chromium.until(lambda: search_of_the_text() == ("random", None) and not predictor.is_enabled())
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    job = chromium.find("#job")
    chromium.run("arguments[0].focus()", job)  # a field that has the focus is not written
    write(chromium, job, str(job.get_property("value")).replace("algorithm: random", "algorithm: linas"))
    chromium.until(lambda: algorithm.get_property("value") == "linas")
    assert not chromium.complaints()
