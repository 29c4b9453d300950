"""`nas serve`, its Ray and real jobs: they outlive the server, are cancelled and resumed, and lose nothing to kills.

The owner of the server allows one class of a plug-in.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.errors import NasError
from nas.service.jobs.ray_head import end_head
from nas.service.jobs.ray_head_process import RayHeadProcess
from supernets.networks.capture.captured_model import capture_model, save_capture
from supernets.networks.capture.user_model import own_model
from tests.nas.commands import SMALL_JOB
from tests.nas.service.served import Served
from tests.nas.test_plugins import WALK

_TRAINING = SMALL_JOB.replace("epochs: 4", "epochs: 1").replace("[accuracy, latency_ms]", "[accuracy, macs]")
_SEARCH = """
name: small
seed: 3
data: {name: digits, validation: 0.25, test: 0.25}
supernet: {from: small-1}
hardware: [cpu-1-thread]
objectives: [accuracy, macs]
search: {algorithm: random, evaluations: 24, batch: 2, workers: 1}
calibration_images: 300
"""

_OF_PLUGIN = _SEARCH.replace("algorithm: random, evaluations: 24", "algorithm: walk_kit:Walk, evaluations: 6")
_OF_MODEL = """
name: own
seed: 3
data: {{name: digits, validation: 0.25, test: 0.25}}
supernet: {{model: {model}}}
training: {{epochs: 1, random_subnets: 1}}
hardware: [cpu-1-thread]
objectives: [accuracy, macs]
search: {{algorithm: random, evaluations: 2, batch: 2, workers: 1}}
calibration_images: 100
"""


class Network(nn.Module):
    """A user's network, which the server's machine does not have."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(channels, 16, 3, stride=2), nn.Conv2d(16, 32, 3)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x).relu()).relu().mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    modules = (root := tmp_path_factory.mktemp("served")) / "modules"
    modules.mkdir()
    (modules / "walk_kit.py").write_text(WALK + "\n\nclass Other(Walk):\n    pass\n")
    made = Served(root, "--allow-plugin", "walk_kit:Walk", modules=modules)
    assert made.client.submit(_TRAINING, kind="training").run == "small-1"  # the first test that runs waits for it
    yield made
    made.end(signal.SIGTERM)
    assert end_head(made.folder)
    assert not end_head(made.folder)


@pytest.mark.slow
def test_a_job_outlives_kills_of_its_server_and_its_driver_and_is_exported(served: Served, tmp_path: Path) -> None:
    search = served.client.submit(_SEARCH).run
    assert served.wait("small-1", status="finished").epoch == 1
    counted = served.wait(search, evaluations=4).evaluations
    head = RayHeadProcess.find(served.folder)
    served.kill_driver(search)
    served.end(signal.SIGKILL)
    served.start()
    assert served.client.status(search).evaluations >= counted
    ended = served.wait(search, status="finished")
    assert (ended.evaluations, ended.evaluations_wanted) == (24, 24)
    assert RayHeadProcess.find(served.folder) == head
    assert "searching: 24 of 24" in served.client.logs(search)
    keys = [network.key for network in served.client.evaluations(search)]
    assert len(keys) == len(set(keys)) == 24
    export = served.client.export(search)
    assert export.status == "finished"
    assert export.result is not None
    assert {path.suffix for path in served.client.fetch(export, tmp_path)} >= {".onnx", ".json"}


@pytest.mark.slow
def test_a_cancelled_search_is_resumed_with_more_to_spend(served: Served) -> None:
    run = served.client.submit(_SEARCH).run
    served.wait(run, evaluations=2)
    served.client.cancel(run)
    assert served.wait(run, status="cancelled").reason == "cancelled"
    assert served.client.resume(run, evaluations="+3").status == "queued"
    ended = served.wait(run, status="finished")
    assert ended.evaluations == ended.evaluations_wanted == 27


@pytest.mark.slow
def test_an_uploaded_model_is_searched_and_a_changed_one_fails_with_its_reason(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "net.capture"
    save_capture(path, capture_model(own_model(Network()), torch.randn(2, 1, 8, 8)))
    made = served.client.add_model("net", path)
    run = served.client.submit(_OF_MODEL.format(model=made.path)).run
    content = path.read_bytes()
    assert content.count(b"[[2, 1, 8, 8]") == 1
    path.write_bytes(content.replace(b"[[2, 1, 8, 8]", b"[[2, 9, 9, 9]"))  # the shape of the input
    changed = served.client.submit(_OF_MODEL.format(model=served.client.add_model("changed", path).path)).run
    assert served.wait(run, status="finished").evaluations == 2
    reason = served.wait(changed, status="failed").reason
    assert "captured" in reason
    assert str(served.root) not in reason


@pytest.mark.slow
def test_an_allowed_class_searches_and_another_is_refused(served: Served) -> None:
    before = len(served.client.runs().runs)
    with pytest.raises(NasError, match="owner allows") as refused:
        served.client.submit(_OF_PLUGIN.replace("walk_kit:Walk", "walk_kit:Other"))
    assert refused.value.code == "plugin.refused"
    assert "search.algorithm" in str(refused.value)
    assert len(served.client.runs().runs) == before

    run = served.client.submit(_OF_PLUGIN).run
    assert served.wait(run, status="finished").evaluations == 6
    assert served.client.front(run).members
