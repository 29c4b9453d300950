"""Every code block of the documentation runs, or states why it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Page, Use, pages
from tests.docs.commands import commands_of, problem_of
from tests.docs.conftest import FIRST
from tests.docs.page_runner import PageRunner

PAGES = pages()
OTHERWISE_TESTED = ("docs/tutorials/own-sentences.md",)
"""Tutorials whose commands other tests run on the same data (`tests.nas.cli.test_text`)."""


def _marked(page: Page) -> object:
    """The page, marked as slow if it runs commands or Python; ``make test-docs`` runs how-to pages and `OTHERWISE_TESTED`."""
    runs = any(block.use is Use.EXECUTED for block in page.blocks)
    marks = [pytest.mark.slow] * runs + [pytest.mark.ray] * ("ray" in page.needs)
    marks += [pytest.mark.how_to] * (runs and page.name.startswith(("docs/how-to/", *OTHERWISE_TESTED)))
    return pytest.param(page, id=page.name, marks=marks)


@pytest.mark.parametrize("page", [_marked(page) for page in PAGES if page.blocks])
def test_the_blocks_of_a_page_run(page: Page, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if page.path == FIRST:
        request.getfixturevalue("first_tutorial")
        return
    trained = request.getfixturevalue("first_tutorial") if "trained" in page.needs else None
    with PageRunner(tmp_path, trained=trained, ray="ray" in page.needs) as runner:
        runner.run_page(page)


def test_the_index_of_the_how_to_pages_has_each_of_them() -> None:
    folder = ROOT / "docs" / "how-to"
    index = (folder / "index.md").read_text()
    names = [str(path.relative_to(folder)) for path in folder.rglob("*.md") if path != folder / "index.md"]
    assert [name for name in names if f"]({name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page: Page) -> None:
    problems = [problem for command in commands_of(page) if (problem := problem_of(command))]
    assert not problems


def test_most_blocks_are_executed() -> None:
    uses = [block.use for page in PAGES for block in page.blocks if not block.hidden]
    assert uses.count(Use.NOT_RUN) <= 0.2 * len(uses)
