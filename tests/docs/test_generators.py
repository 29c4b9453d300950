"""The generated pages have everything that they are generated from."""

from __future__ import annotations

import json
import re

import pytest
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from mkdocs.structure.pages import Page

from docs.generators.command_line import command_line_page
from docs.generators.error_codes import error_codes_page
from docs.generators.hooks import INCLUDED, ROOT, on_post_page
from docs.generators.job_file import job_file_page
from docs.generators.markdown import sentence, table
from docs.generators.python_api import PACKAGES, public, python_api_page
from docs.generators.rest_api import openapi, rest_api_page
from nas.cli.commands import app
from nas.jobs.schema.search_job import SearchJob
from nas.jobs.schema.training import TrainingConfig
from nas.service.api.error_codes import DESCRIPTIONS
from supernets.families.registry import FAMILIES


def test_every_command_and_option_is_on_the_page() -> None:
    page = command_line_page()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert (f"### `nas {name}`" in page) == (not command.hidden), name
        if not command.hidden and not hasattr(command, "commands"):
            section = page.partition(f"### `nas {name}`\n")[2].partition("\n### ")[0]
            for parameter in command.params:
                assert parameter.name == "help" or parameter.hidden or all(f"`{opt}`" in section for opt in parameter.opts
                    if opt.startswith("-")), (name, parameter.name)  # fmt: skip


def test_every_key_of_a_job_is_on_the_page_with_its_default() -> None:
    page = job_file_page()
    for model in (SearchJob, TrainingConfig):
        assert all(f"| `{field.alias or name}` |" in page for name, field in model.model_fields.items())
    assert "| `epochs` | a whole number from 0 to 1000000 | `12` |" in page
    assert all(f"### `{family}`" in page for family in FAMILIES)


def test_every_operation_and_schema_is_on_the_page() -> None:
    page, described = rest_api_page(), openapi()
    for path, methods in described["paths"].items():
        assert all(f"### `{method.upper()} {path}`" in page for method in methods)
    links = set(re.findall(r"\]\(#([a-z]+)\)", page))
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    assert links <= headings
    assert json.dumps(described)


def test_every_public_name_and_error_code_is_on_its_page() -> None:
    page = python_api_page()
    for package in PACKAGES:
        assert all(f"### {package}.{name}\n" in page for name in public(package))
    assert all(f"`{code}`" in error_codes_page() for code in DESCRIPTIONS)


def test_included_pages_exist() -> None:
    assert all((ROOT / source).is_file() for source in INCLUDED.values())


@pytest.mark.parametrize(("text", "made"), [("", ""), ("a\n  b", "A b."), ("Ends!", "Ends!")])
def test_sentences(text: str, made: str) -> None:
    assert sentence(text) == made


def test_cells_of_tables_stay_in_their_row() -> None:
    assert table(["a"], [["x | y\nz"]]).splitlines() == ["| a |", "| --- |", "| x \\| y z |"]


@pytest.fixture
def config() -> MkDocsConfig:
    made = MkDocsConfig()
    made.load_dict({"site_name": "x"})
    return made


@pytest.fixture
def page(config: MkDocsConfig) -> Page:
    return Page("x", File("x.md", "docs", "site", False), config)


def test_values_in_tables_stay_in_one_line(config: MkDocsConfig, page: Page) -> None:
    text = "5 % of 75–150 s, a – b, 7 sets"
    made = on_post_page(f"<pre>{text}</pre><td>\n{text}</td>", page, config)
    assert made == f"<pre>{text}</pre><td>\n5\u00a0% of 75\u2060–\u2060150\u00a0s, a – b, 7 sets</td>"


def test_a_page_that_would_load_from_another_site_is_an_error(config: MkDocsConfig, page: Page) -> None:
    shim = '<script src="https://unpkg.com/iframe-worker/shim"></script>'
    assert on_post_page(f'{shim}<a href="https://arxiv.org">x</a>', page, config) == '<a href="https://arxiv.org">x</a>'
    for remote in ('<script src="https://x.org/a.js">', '<link rel="stylesheet" href="https://x.org/a.css">'):
        with pytest.raises(PluginError, match=r"x\.md would load"):
            on_post_page(remote, page, config)
