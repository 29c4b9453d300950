"""Messages in the API's words: no options, commands and server paths, and all that a client needs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.service.settings import ServiceSettings
from nas.service.wording import Wording

TEMPORARY = tempfile.gettempdir()
MESSAGES = [
    (
        "its 30 evaluations are used up; add some with --evaluations +50",
        "its 30 evaluations are used up; add some with evaluations +50",
    ),
    (
        "--evaluations -3: expected a whole number above 0",
        "evaluations -3: expected a whole number above 0",
    ),
    (
        "--select 'a; --b': 'a; --b' is not a limit, as in --select \"macs<=1\"",
        "select 'a; --b': 'a; --b' is not a limit, as in select \"macs<=1\"",
    ),
    (
        "the runs folder /srv/nas cannot be written; choose another with --runs",
        "the runs folder cannot be written",
    ),
    (
        "/srv/nas: cannot be written: Permission denied",
        "cannot be written: Permission denied",
    ),
    (
        "/srv/nas/small-1/run.db: is damaged",
        "small-1/run.db: is damaged",
    ),
    (
        "'/srv/nas/small-1/run.db': is damaged; restore it from a copy",
        "'small-1/run.db': is damaged; restore it from a copy",
    ),
    (
        "another server has /srv/nas; stop it",
        "another server has the runs folder; stop it",
    ),
    (
        "/srv/nas2/x and /old/srv/nas are other folders",
        "/srv/nas2/x and /old/srv/nas are other folders",
    ),
    (
        "no such file: /data/flowers/train",
        "no such file: flowers/train",
    ),
    (
        f"{TEMPORARY}/x.onnx cannot be read",
        "x.onnx cannot be read",
    ),
    (
        "run 'a-1' has no network; continue it with `nas resume a-1`",
        "run 'a-1' has no network; continue it with POST /api/v1/runs/a-1/resume",
    ),
    (
        "it is outdated (`nas upgrade` upgrades it), and of run 'nas upgrade'; run nas upgrade; or do not",
        "it is outdated, and of run 'nas upgrade'; or do not",
    ),
    (
        "the client's name and the server's; use --name",
        "the client's name and the server's",
    ),
    (
        "job: a: wrong\nAlso wrong: b; see --runs",
        "job: a: wrong\nAlso wrong: b",
    ),
    (
        "choose another with --runs",
        "choose another with runs",
    ),
    (
        "unknown run '--select'; did you mean 'x (--y)'?",
        "unknown run '--select'; did you mean 'x (--y)'?",
    ),
    (
        "a - b -- c",
        "a - b -- c",
    ),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
def test_messages_are_in_the_words_of_the_api(message: str, expected: str) -> None:
    wording = Wording(ServiceSettings(RunsFolder(Path("/srv/nas")), data_roots=(Path("/data"),)))
    assert wording(message) == expected
