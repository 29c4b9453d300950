"""`nas.jobs.schema.job_schema`: the schema accepts every job that is read, and rejects the mistakes that editors can find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest

from nas.errors import JobError
from nas.jobs.recipes import list_recipes, read_recipe
from nas.jobs.schema import SearchJob, parse_job
from nas.jobs.schema.job_schema import SCHEMA_FILE, field_notes, job_schema
from nas.jobs.schema.search_job import job_of
from nas.jobs.schema.strict_yaml import parse_mapping
from supernets.families.registry import FAMILIES
from tests.nas.jobs.schema.jobs import BASE, field_paths, spoilt_jobs, with_section
from tests.nas.jobs.schema.test_refused_sections import SECTIONS
from tests.nas.jobs.schema.test_refused_spaces import SPACES
from tests.nas.jobs.schema.test_refused_values import KEYS

SCHEMA = job_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
RECIPES = [recipe.name for recipe in list_recipes()]


def errors(text: str) -> list[str]:
    """What the schema finds in the text of a job file."""
    found = VALIDATOR.iter_errors(parse_mapping(text, source="job.yaml", noun="job"))
    return [f"{error.json_path}: {error.message}" for error in found]


def read(text: str) -> bool:
    """Whether the text is read as a job."""
    try:
        parse_job(text, source="job.yaml")
    except JobError:
        return False
    return True


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_satisfies_the_schema_and_refers_to_it(name: str) -> None:
    text = read_recipe(name)
    assert errors(text) == []
    assert f"# yaml-language-server: $schema={SCHEMA_FILE}\n" in text.partition("\nname:")[0]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    ("old", "new"),
    [("\ntraining:", "\ntrainng:"), ("\nname: ", "\nname: a "), ("evaluations: ", "evaluations: '1'  # "),
     ("family: ", "family: no-"), ("algorithm: ", "algorithm: my "), ("\nobjectives: [", "\nobjectives: [1, ")],
)  # fmt: skip
def test_a_broken_recipe_does_not(name: str, old: str, new: str) -> None:
    text = read_recipe(name)
    if old == "family: " and "\n  model: " in text:
        old, new = "\n  model: ", "\n  model: [1]  # "
    assert text.count(old) >= 1, "the recipe has no such key"
    assert errors(text.replace(old, new, 1)) != []


@pytest.mark.parametrize(
    "text",
    [
        *(BASE.replace("{preset: tiny}", f"{{family: {family}, preset: {preset}}}")
          for family, about in FAMILIES.items() for preset in about.presets),
        BASE + "training: {distill: true}",
        BASE + "hardware: [boards/pi.yaml, my-board]\nobjectives: [accuracy, latency_ms@my-board]",
        with_section("supernet: {preset: tiny-v3, space: {mix: 0, resolution: none}}"),
        with_section("supernet: {family: resnet, preset: tiny, space: {resolution: null}}"),
        with_section("supernet: {from: run-1, sharing: {mixture: {layers: ['stages.*']}}}"),
        with_section("data: {name: digits, validation: 0.2, test: 50}"),
    ],
)  # fmt: skip
def test_other_jobs_satisfy_it(text: str) -> None:
    if "data: {name: digits}" in text and "encoder" in text:
        text = text.replace("{name: digits}", "{name: text-classification, path: sentences.csv}")
    assert read(text)
    assert errors(text) == []


@pytest.mark.parametrize("path", field_paths(SearchJob), ids=".".join)
def test_whatever_value_of_a_key_is_read_satisfies_it(path: tuple[str, ...]) -> None:
    for data in spoilt_jobs(path):
        if not VALIDATOR.is_valid(data):
            with pytest.raises(JobError):
                job_of(data, source="job.yaml")


FOUND = ("unknown-key", "unknown-name")
OPEN = ("objectives", "constraints")
"""Names of metrics may be METRIC@PROFILE, of any profile."""
LINES = [row for rows in (KEYS, SECTIONS, SPACES) for row in rows if row[2] in FOUND and not row[1].startswith(OPEN)]


@pytest.mark.parametrize("line", [row[0] for row in LINES])
def test_unknown_keys_and_names_do_not_satisfy_it(line: str) -> None:
    assert errors(with_section(line)) != []


def _properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    definitions = {name: one for name, one in schema["$defs"].items() if not name.startswith(("Stage", "Bottleneck"))}
    return {
        f"{name}.{key}": value
        for name, one in {"": schema, **definitions}.items() if not name.endswith("SpecConfig")
        for key, value in one["properties"].items()
    }  # fmt: skip


@pytest.mark.parametrize(("key", "about"), _properties(SCHEMA).items(), ids=_properties(SCHEMA))
def test_every_key_is_described(key: str, about: Mapping[str, Any]) -> None:
    assert about.get("description") or "$ref" in about or "$ref" in about["anyOf"][0], key


def test_a_key_has_its_purpose_its_range_and_its_default() -> None:
    about = SCHEMA["$defs"]["SearchConfig"]["properties"]["evaluations"]
    assert about["description"].startswith(field_notes(SearchJob.model_fields["search"].annotation)["evaluations"])  # type: ignore[arg-type]
    assert (about["default"], about["minimum"], about["maximum"]) == (100, 2, 10**6)
