"""Real keys in the fields of the submit page: what is typed is never overwritten, however fast the server is."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.nas.service.pages.chromium import Chromium
from tests.nas.service.pages.in_browser.windows import write
from tests.nas.service.pages.running import Server

pytestmark = pytest.mark.slow
NUMBERS = "#settings input[type=number]"


@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_every_field_keeps_what_is_typed(chromium: Chromium, server: Server, pause_s: float) -> None:
    open_form(chromium, server)
    fields = [field for field in chromium.all(NUMBERS) if field.is_displayed()]
    names = [str(field.get_attribute("data-key")) for field in fields]
    assert {"training.epochs", "search.evaluations", "search.minutes", "constraints.accuracy.min"} <= set(names)
    texts = ["0.25" if field.get_attribute("max") == "1" else str(24 + i) for i, field in enumerate(fields)]
    fields[0].send_keys(Keys.CONTROL, "a")
    for name, text in zip(names, texts, strict=True):
        while focused(chromium) != name:
            type_keys(chromium, [Keys.TAB], 0.0)
        type_keys(chromium, [*text, Keys.TAB], pause_s)
    chromium.until(lambda: all(value_at(job_of(chromium), name) is not None for name in names))
    job = job_of(chromium)
    assert {name: value_at(job, name) for name in names} == dict(zip(names, map(float, texts), strict=True))
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    assert [field.get_property("value") for field in fields] == texts


def test_a_change_and_typing_in_the_text_at_the_same_time_are_both_kept(chromium: Chromium, server: Server) -> None:
    open_form(chromium, server)
    chromium.run(  # answers of the server take longer than the next keys
        "const f = window.fetch;"
        "window.fetch = async (...request) => { await new Promise((done) => setTimeout(done, 600)); return f(...request) };"
    )
    chromium.find("#evaluations").send_keys(Keys.CONTROL, "a")
    type_keys(chromium, ["7", "5"], 0.0)
    chromium.find("#job").send_keys(Keys.CONTROL, Keys.HOME)
    type_keys(chromium, [*"# mine", Keys.ENTER], 0.05)
    chromium.until(lambda: value_at(job_of(chromium), "search.evaluations") == 75)
    assert str(chromium.find("#job").get_property("value")).startswith("# mine\n")


def test_a_value_that_makes_an_error_stays_while_other_fields_are_left(chromium: Chromium, server: Server) -> None:
    open_form(chromium, server)
    chromium.run(  # the check of a text takes longer than the next keys
        "const f = window.fetch;"
        "window.fetch = async (...request) => { "
        "if (String(request[0]).endsWith('/check')) await new Promise((done) => setTimeout(done, 1500));"
        "return f(...request) };"
    )
    chromium.find("#minutes").send_keys("0")  # an error of the server's check, and none of the browser's
    type_keys(chromium, [Keys.TAB], 0.0)
    chromium.until(lambda: value_at(job_of(chromium), "search.minutes") == 0)
    type_keys(chromium, [Keys.TAB, Keys.TAB], 0.1)
    assert chromium.find("#minutes").get_property("value") == "0"
    chromium.until(lambda: "search.minutes" in chromium.text("#job-problems"))
    assert chromium.find("#minutes").get_property("value") == "0"


def test_two_boxes_that_are_clicked_at_once_are_both_kept(chromium: Chromium, server: Server) -> None:
    open_form(chromium, server)
    boxes = chromium.all("#hardware input:not(:checked):enabled")[:2]
    chromium.run("for (const box of arguments[0]) box.click()", boxes)
    names = {str(box.get_attribute("value")) for box in boxes}
    chromium.until(lambda: names <= set(job_of(chromium)["hardware"]))
    chromium.until(lambda: all(box.is_selected() for box in boxes))


def test_boxes_of_a_job_with_an_error_are_what_the_text_gets(chromium: Chromium, server: Server) -> None:
    open_form(chromium, server)
    for name in ("cpu-1-thread", "cpu-2-threads"):  # without any, the job has an error
        chromium.find(f"#hardware input[value={name}]").click()
        expected = [] if name == "cpu-1-thread" else [name]
        chromium.until(lambda expected=expected: job_of(chromium)["hardware"] == expected)
    text = str(chromium.find("#job").get_property("value"))
    write(chromium, chromium.find("#job"), text + "nonsense: 1\n")
    chromium.until(lambda: "error" in chromium.text("#job-state"))
    chromium.find("#hardware input[value=cpu-1-thread]").click()
    chromium.find("#hardware input[value=cpu-1-thread-batch-16]").click()
    names = {"cpu-2-threads", "cpu-1-thread", "cpu-1-thread-batch-16"}
    chromium.until(lambda: set(job_of(chromium)["hardware"]) == names)
    chromium.find("#evaluations").send_keys(Keys.CONTROL, "a")
    type_keys(chromium, ["7", "7", Keys.TAB, Keys.TAB], 0.1)
    chromium.until(lambda: value_at(job_of(chromium), "search.evaluations") == 77)
    assert chromium.find("#evaluations").get_property("value") == "77"


def test_a_profile_that_is_typed_and_a_box_that_is_clicked_are_both_kept(chromium: Chromium, server: Server) -> None:
    open_form(chromium, server)
    text = str(chromium.find("#job").get_property("value"))
    text = text.replace("[cpu-1-thread]", "[cpu-1-thread, cpu-1-thread-openvino]")
    write(chromium, chromium.find("#job"), text.replace("[accuracy, latency_ms]", "[accuracy, macs]"))
    chromium.find("#hardware input[value=cpu-2-threads]").click()
    names = {"cpu-1-thread", "cpu-1-thread-openvino", "cpu-2-threads"}
    chromium.until(lambda: set(job_of(chromium)["hardware"]) == names)


def test_a_job_is_not_submitted_while_a_field_is_invalid(chromium: Chromium, server: Server) -> None:
    open_form(chromium, server)
    chromium.find("#evaluations").send_keys(Keys.CONTROL, "a")
    type_keys(chromium, ["1", Keys.TAB], 0.0)
    chromium.until(lambda: chromium.text("#problem").startswith("Evaluations: "))
    chromium.find("#send").click()
    assert chromium.text("#problem").startswith("Evaluations: ")
    assert focused(chromium) == "search.evaluations"
    assert chromium.find("#evaluations").get_property("value") == "1"
    assert not server.service.runs.page().runs
    chromium.find("#evaluations").send_keys(Keys.CONTROL, "a")
    type_keys(chromium, ["4", "4", Keys.TAB], 0.0)
    chromium.until(lambda: value_at(job_of(chromium), "search.evaluations") == 44)
    assert chromium.text("#problem") == ""
    write(chromium, chromium.find("#job"), "name: other\n")


def open_form(chromium: Chromium, server: Server) -> None:
    """Opens the page and waits until its fields show the job."""
    chromium.open(f"{server.url}/submit")
    chromium.until(lambda: chromium.find("#evaluations").get_property("value") == "60")


def type_keys(chromium: Chromium, keys: list[str], pause_s: float) -> None:
    """Sends keys to the focused element, each after a pause."""
    actions = ActionChains(chromium.driver)
    for key in keys:
        actions.pause(pause_s).send_keys(key)
    actions.perform()


def focused(chromium: Chromium) -> str:
    """The path in the job of the focused field; "" for another element."""
    return str(
        chromium.run("return document.activeElement.type === 'number' ? document.activeElement.dataset.key : ''")
    )


def job_of(chromium: Chromium) -> dict[str, Any]:
    """The job in the text of the page."""
    return dict(yaml.safe_load(str(chromium.find("#job").get_property("value"))))


def value_at(job: dict[str, Any], path: str) -> Any:
    """The value at a path such as `search.minutes`; None where there is none."""
    value: Any = job
    for key in path.split("."):
        value = (value or {}).get(key)
    return value
