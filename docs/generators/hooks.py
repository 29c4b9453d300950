"""Hooks of MkDocs: add the generated pages, and the pages that live beside the code, to the documentation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generators.command_line import command_line_page
from docs.generators.error_codes import error_codes_page
from docs.generators.job_file import job_file_page
from docs.generators.python_api import python_api_page
from docs.generators.rest_api import rest_api_page

ROOT = Path(__file__).parents[2]
GENERATED: Mapping[str, Callable[[], str]] = {
    "reference/job-file.md": job_file_page,
    "reference/command-line.md": command_line_page,
    "reference/rest-api.md": rest_api_page,
    "reference/python.md": python_api_page,
    "reference/errors.md": error_codes_page,
}
INCLUDED: Mapping[str, str] = {
    "benchmarks/index.md": "tests/benchmarks/README.md",
    "contributing/index.md": "CONTRIBUTING.md",
    "contributing/nas/index.md": "nas/README.md",
    "contributing/nas/service.md": "nas/service/README.md",
    "contributing/supernets/index.md": "supernets/README.md",
    "contributing/predictors/index.md": "predictors/README.md",
    "contributing/hardware_profiles/index.md": "hardware_profiles/README.md",
    "changelog.md": "CHANGELOG.md",
    "how-to/extending/example.md": "examples/energy_objective/README.md",
    "how-to/service/deployment.md": "nas/service/deploy/README.md",
}
"""Pages of the documentation that are files beside the code, included as they are."""
PICTURES: Mapping[str, str] = {"benchmarks": "tests/benchmarks", "pictures": "tests/nas/service/pages/pictures"}
"""Folders of pictures that lie beside the code, by their folder in the documentation."""
_CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
_SHIM = re.compile(r'<script src="https://unpkg\.com/iframe-worker/shim"></script>')
_REMOTE = re.compile(
    r'<(?:script|img|iframe)[^>]*\ssrc="https?://[^>]*>|<link[^>]*rel="stylesheet"[^>]*href="https?://[^>]*>'
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the documentation with the generated and the included ones."""
    for uri, page in GENERATED.items():
        files.append(File.generated(config, uri, content=page()))
    for uri, source in INCLUDED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=text.replace("/README.md)", "/index.md)")))
    for folder, source in PICTURES.items():
        for picture in sorted((ROOT / source).rglob("*.png")):
            uri = f"{folder}/{picture.relative_to(ROOT / source).as_posix()}"
            files.append(File.generated(config, uri, abs_src_path=str(picture)))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The page without the remote script of the theme, by which search works from `file:` in browsers without workers there,
    and with values in cells of tables that are not broken into two lines.

    Raises:
        PluginError: the page would load something else from another site.
    """
    local = _SHIM.sub("", output)
    if remote := _REMOTE.search(local):
        raise PluginError(
            f"{page.file.src_uri} would load from another site: {remote[0]}; pages must work without network"
        )
    return _CELL.sub(_unbroken, local)


def _unbroken(cell: re.Match[str]) -> str:
    """The cell, in which lines end neither inside an interval as 75–150 nor before a unit."""
    return re.sub(r"(?<=\d)–(?=\d)", "\u2060–\u2060", re.sub(r"(?<=\d) (?=%|s\b)", "\u00a0", cell[0]))
