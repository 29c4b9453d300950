"""Files of a server are for its user alone, whichever command makes them first; earlier ones are reported and closed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.cli.doctor_checks import storage
from nas.cli.doctor_checks.finding import State
from nas.engine.store.folder import RunsFolder
from nas.service.file_permissions import close_files, make_private, open_files
from nas.service.http.tokens import Tokens
from nas.service.jobs.ray_head import end_head
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.nas.service.made_runs import searched


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("existing", [None, 0o755, 0o777])
@pytest.mark.parametrize("first", ["token", "ray"])
def test_the_folder_is_private_whichever_command_comes_first(
    runs: RunsFolder, existing: int | None, first: str
) -> None:
    settings = ServiceSettings(runs)
    if existing is not None:
        settings.folder.mkdir(parents=True)
        settings.folder.chmod(existing)
    if first == "token":
        Tokens(settings.tokens_file).make("ada", lifetime_s=None)
        assert mode(settings.tokens_file) == 0o600
    else:
        make_private(settings.folder)
        assert end_head(settings.folder) is False
    assert mode(settings.folder) == 0o700


def test_files_of_earlier_versions_are_reported_and_closed(runs: RunsFolder, settings: ServiceSettings) -> None:
    assert storage.permissions(runs) == []
    by_command, submitted = searched(runs, n=5), searched(runs, name="sent", n=5)
    assert storage.permissions(runs) == []  # no server's
    upload = settings.uploaded_data / "flowers" / "red"
    upload.mkdir(parents=True)
    (upload / "1.png").write_bytes(b"image")
    (upload / "link").symlink_to("/etc/passwd")
    submitted.submitted_file.write_text("name: sent\n")
    ServiceState.open(settings.database).close()
    (warning,) = storage.permissions(runs)
    assert (warning.state, warning.check) == (State.WARNING, "permissions")
    assert warning.observation.startswith(f"other users of this machine have access to {settings.folder} (755) and ")
    assert warning.remedy.endswith(f"chmod -R go= {settings.folder}")
    close_files(settings)
    assert list(open_files(settings)) == []
    assert storage.permissions(runs)[0].state is State.OK
    assert (mode(upload), mode(upload / "1.png")) == (0o700, 0o600)
    assert mode(settings.database) == mode(submitted.database) == 0o600
    assert mode(by_command.database) == 0o644
    assert mode(Path("/etc/passwd")) == 0o644
