"""`nas.nested`: trained nested networks are chosen among by their costs, without a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.config import parse_job
from nas.driver import How, train
from nas.errors import NasError, SelectionError
from nas.nested import sorted_list
from nas.reader import Run
from nas.store.folder import RunsFolder
from tests.nas.commands import SMALL_JOB, Shell

TRAINING = "training: {strategy: sorted, epochs: 1, batch_size: 256}"
JOB = SMALL_JOB.replace("training: {epochs: 4, batch_size: 64, random_subnets: 1}", TRAINING).replace(
    "family: mobile-cnn", "family: mobile-cnn\n  nested: true"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(parse_job(JOB, source="job.yaml"), How(RunsFolder(tmp_path_factory.mktemp("nested") / "runs")))


def test_the_largest_within_a_limit_is_best(trained: Run) -> None:
    found = sorted_list(trained)
    space = found.supernet.space
    costs = {network: found.supernet.cost(network) for network in space.enumerate()}
    assert len(found.networks) == len(costs) == 8  # depth, width and expansion of two options each
    limit = sorted(cost.macs for cost in costs.values())[4] + 1
    made = found.to_json(f"macs<={limit} and parameters>=1")
    allowed = {network.key: cost.macs for network, cost in costs.items() if cost.macs <= limit}
    assert {row["key"]: row["values"]["macs"] for row in made["within"]} == allowed
    assert made["best"]["values"]["macs"] == max(allowed.values()) < max(cost.macs for cost in costs.values())


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("macs<=1", r"no network of run 'small-1' keeps 'macs<=1'; they have .*macs [\d,]+.* to .*macs [\d,]+"),
        ("accuracy>=0.5", "did not measure accuracy; it has activation_bytes, macs, parameters"),
        ("latency_ms<=1", r"unknown objective 'latency_ms'.* Only a search times networks\.$"),
        ("macs", "'macs' is no limit"),
    ],
)
def test_what_cannot_be_chosen_is_told(trained: Run, expression: str, said: str) -> None:
    with pytest.raises(NasError, match=said):
        sorted_list(trained).within(expression)


def test_a_training_that_is_not_done_has_nothing_to_choose(trained: Run, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Display:
        def step(self, *args: object) -> None:
            raise Killed

        def note(self, text: str) -> None:
            pass

    runs = RunsFolder(tmp_path)
    with pytest.raises(Killed):
        train(parse_job(JOB, source="job.yaml"), How(runs, display=Display()))  # type: ignore[arg-type]
    with pytest.raises(SelectionError, match="run 'small-1' is not trained to its end; go on with: nas resume small-1"):
        sorted_list(Run.open(runs, "small-1"))


def test_no_network_of_a_training_is_shown_by_a_profile(
    trained: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(trained.folder.path.parent.parent, capsys, monkeypatch)
    select = ["show", "small-1", "--select", "macs<=1e9"]
    assert "8 of 8 nested networks keep macs<=1e9" in shell.nas(*select).out
    answer = shell.nas(*select, "--profile", "cpu-1-thread")
    assert answer.code == 1
    assert "run 'small-1' is no search" in answer.err
