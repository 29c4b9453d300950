"""Changes of job files: the value changes, and every other character stays where it can."""

from __future__ import annotations

import difflib
from typing import Any

import pytest

from nas.jobs.recipes import list_recipes, read_recipe
from nas.jobs.schema import parse_job
from nas.jobs.schema.job_edit import edit_job
from nas.jobs.schema.strict_yaml import parse_mapping
from nas.search.problem.tasks import LANGUAGE
from tests.errors import raises

RECIPES = [recipe.name for recipe in list_recipes()]


def changed_lines(before: str, after: str) -> list[str]:
    """Lines removed and added, with their sign."""
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def value_at(text: str, path: tuple[str, ...]) -> Any:
    found: Any = parse_mapping(text, source="test", noun="job file")
    for key in path:
        found = found[key]
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_usual_changes_of_every_recipe_change_their_lines_alone(recipe: str) -> None:
    text = read_recipe(recipe)
    job = parse_job(text, source=recipe)
    timed = "time_per_token_ms" if job.task == LANGUAGE else "latency_ms"
    changes: dict[tuple[str, ...], Any] = {
        ("search", "evaluations"): 123,
        ("search", "minutes"): 7.5,
        ("hardware",): ["cpu-2-threads"],
        ("objectives",): [job.objectives[0], timed, "macs"],
        ("constraints", timed, "max"): 0.25,
    }
    if job.supernet.trains:
        changes["training", "epochs"] = 77
    after = edit_job(text, changes, source=recipe)
    parse_job(after, source=recipe)
    for path, value in changes.items():
        assert value_at(after, path) == value
    assert comments(after) == comments(text)
    assert len(changed_lines(text, after)) <= 2 * len(changes)


def test_a_comment_stays_in_its_column() -> None:
    text = "search:\n  evaluations: 60         # networks to measure\n"
    assert edit_job(text, {("search", "evaluations"): 1000}, source="job") == (
        "search:\n  evaluations: 1000       # networks to measure\n"
    )


@pytest.mark.parametrize(
    ("before", "path", "value", "after"),
    [
        ("seed: 1\n", ("search", "minutes"), 5, "seed: 1\nsearch: {minutes: 5}\n"),
        ("seed: 1", ("search", "minutes"), 5, "seed: 1\nsearch: {minutes: 5}\n"),
        ("search: {evaluations: 60}\n", ("search", "minutes"), 5, "search: {evaluations: 60, minutes: 5}\n"),
        ("search: {minutes: 5}\n", ("search", "evaluations"), 9, "search: {evaluations: 9, minutes: 5}\n"),
        ("search: {}\n", ("search", "minutes"), 5, "search: {minutes: 5}\n"),
        ("search:  # later\na: 1\n", ("search", "minutes"), 5, "search: {minutes: 5}  # later\na: 1\n"),
        ("search:\n  batch: 8\n", ("search", "evaluations"), 9, "search:\n  evaluations: 9\n  batch: 8\n"),
        ("hardware:\n  - a\n  - b  # two\nseed: 1\n", ("hardware",), ["c"], "hardware:\n  [c]  # two\nseed: 1\n"),
        ("objectives: [a,\n  b]  # these\n", ("objectives",), ["c"], "objectives: [c]  # these\n"),
        ("x: 1\nobjectives: [a]\n\n# end\n", ("constraints", "a", "max"), 2.0,
         "x: 1\nobjectives: [a]\nconstraints: {a: {max: 2.0}}\n\n# end\n"),
        ("constraints: {a: {max: 1}, b: {min: 2}}\n", ("constraints", "a", "max"), None, "constraints: {b: {min: 2}}\n"),
        ("constraints: {a: {max: 1}, b: {min: 2}}\n", ("constraints", "b", "min"), None, "constraints: {a: {max: 1}}\n"),
        ("a: 1\nconstraints: {a: {max: 1}}\nb: 2\n", ("constraints", "a", "max"), None, "a: 1\nb: 2\n"),
        ("a: 1\nsearch:\n  minutes: 3  # short\n  batch: 8\n", ("search", "minutes"), None, "a: 1\nsearch:\n  batch: 8\n"),
        ("a: 1\nsearch:\n  minutes: 3\n# b\nb: 2\n", ("search", "minutes"), None, "a: 1\n# b\nb: 2\n"),
        ("a: 1\n", ("search", "minutes"), None, "a: 1\n"),
        ("search:\n  algorithm: guided  # or\n                     # others\n", ("search", "evaluations"), 3,
         "search:\n  algorithm: guided  # or\n                     # others\n  evaluations: 3\n"),
        ("# größer → 大\nseed: 1  # 大\nname: ä\n", ("seed",), 22, "# größer → 大\nseed: 22  # 大\nname: ä\n"),
        ("name: \"a\"\nseed: 1\n", ("name",), "1e3", "name: '1e3'\nseed: 1\n"),
    ],
)  # fmt: skip
def test_values_are_replaced_inserted_and_removed(before: str, path: tuple[str, ...], value: Any, after: str) -> None:
    assert edit_job(before, {path: value}, source="job") == after


@pytest.mark.parametrize(
    "text", ["a: &x [1]\nhardware: *x\nb: *x\n", "hardware: &x [a]\nb: *x\n", "search: 3\n", "search: [1]\n"]
)
def test_what_cannot_be_changed_alone_is_rejected(text: str) -> None:
    path = ("search", "minutes") if text.startswith("search") else ("hardware",)
    with raises("job.not-editable", path[0]):
        edit_job(text, {path: ["z"] if path == ("hardware",) else 5}, source="job")


def test_what_is_not_yaml_is_rejected() -> None:
    with raises("job.invalid-yaml", "line 2"):
        edit_job("b: 1\na: }", {("a",): 1}, source="job")
