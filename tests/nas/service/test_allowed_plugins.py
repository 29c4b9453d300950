"""A live `nas serve --allow-plugin`: an allowed class of a submitted job searches to a front, and another is refused."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.errors import NasError
from nas.service.jobs.ray_head import end_head
from tests.nas.commands import SMALL_JOB
from tests.nas.service.served import Served
from tests.nas.test_plugins import WALK

pytestmark = [pytest.mark.slow, pytest.mark.ray]
_JOB = (
    SMALL_JOB.replace("epochs: 4", "epochs: 1")
    .replace("[accuracy, latency_ms]", "[accuracy, macs]")
    .replace(
        "algorithm: guided, evaluations: 30, batch: 7", "algorithm: walk_kit:Walk, evaluations: 6, batch: 2, workers: 1"
    )
)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "walk_kit.py").write_text(WALK + "\n\nclass Other(Walk):\n    pass\n")
    made = Served(tmp_path, "--allow-plugin", "walk_kit:Walk", modules=modules)
    yield made
    made.end(signal.SIGTERM)
    assert end_head(made.folder)


def test_an_allowed_class_searches_and_another_is_refused(served: Served) -> None:
    with pytest.raises(NasError, match="owner allows") as refused:
        served.client.submit(_JOB.replace("walk_kit:Walk", "walk_kit:Other"))
    assert refused.value.code == "plugin.refused"
    assert "search.algorithm" in str(refused.value)
    assert served.client.runs().runs == ()

    run = served.client.submit(_JOB).run
    ended = served.wait(run, status="finished")
    assert ended.evaluations == 6
    assert served.client.front(run).members
