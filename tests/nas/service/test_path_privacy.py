"""Messages for clients of a server have none of its paths, and are otherwise as they were."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.service.path_privacy import PathPrivacy
from nas.service.settings import ServiceSettings

TEMPORARY = tempfile.gettempdir()
MESSAGES = [
    (
        "the runs folder /srv/nas cannot be written; choose another folder",
        "the runs folder cannot be written; choose another folder",
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
        "job: a: wrong\nAlso wrong: /srv/nas/b",
        "job: a: wrong\nAlso wrong: b",
    ),
    (
        '{"reason": "failed:\\n/srv/nas/a-1/x\\t/data/b\\r/srv/nas"}',
        '{"reason": "failed:\\na-1/x\\tb\\rthe runs folder"}',
    ),
    (
        "cannot open file:///srv/nas/a-1/x or file:///srv/nas, file:///old/srv/nas",
        "cannot open a-1/x or the runs folder, file:///old/srv/nas",
    ),
    (
        "failed:\\nPOSTGRESQL+psycopg://ada:secret@db.internal/nas: no answer",
        "failed:\\nthe run store: no answer",
    ),
    (
        "failed:\\nhost=db.internal user=ada password='a secret' dbname=nas: no answer",
        "failed:\\nthe run store: no answer",
    ),
    (
        "<psycopg.Connection [BAD] (host=db.internal user=ada database=nas) at 0x7f>",
        "<psycopg.Connection [BAD] (the run store) at 0x7f>",
    ),
    (
        "host=0.0.0.0 workers=4; localhost=1 port=8700",
        "host=0.0.0.0 workers=4; localhost=1 port=8700",
    ),
    (
        "unknown run '--select'; an earlier version wrote: continue it with `nas resume a-1`",
        "unknown run '--select'; an earlier version wrote: continue it with `nas resume a-1`",
    ),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
def test_messages_have_no_paths_of_the_server(message: str, expected: str) -> None:
    hide_paths = PathPrivacy(ServiceSettings(RunsFolder(Path("/srv/nas")), data_roots=(Path("/data"),)))
    assert hide_paths(message) == expected
