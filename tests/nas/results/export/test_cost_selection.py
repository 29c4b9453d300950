"""`nas.results.export.cost_selection`: trained nested networks are chosen among by their costs, without a search."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from onnxruntime import InferenceSession

from nas.engine.progress import ProgressObserver
from nas.engine.store.folder import RunsFolder
from nas.errors import Remedy
from nas.jobs.build.built_job import build_job
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.results.export.cost_selection import networks_by_cost
from nas.runs.driver import train
from nas.runs.run import Run
from supernets.training.recalibration import recalibrate
from tests.errors import raises
from tests.nas.commands import SMALL_JOB, Shell

TRAINING = "training: {strategy: sorted, epochs: 1, batch_size: 256}"
JOB = SMALL_JOB.replace("training: {epochs: 4, batch_size: 64, random_subnets: 1}", TRAINING).replace(
    "family: mobile-cnn", "family: mobile-cnn\n  nested: true"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(parse_job(JOB, source="job.yaml"), RunOptions(RunsFolder(tmp_path_factory.mktemp("nested") / "runs")))


def test_the_largest_within_a_limit_is_best(trained: Run) -> None:
    found = networks_by_cost(trained)
    space = found.supernet.space
    costs = {network: found.supernet.cost(network) for network in space.enumerate()}
    assert len(found.networks) == len(costs) == 8  # depth, width and expansion of two options each
    limit = sorted(cost.macs for cost in costs.values())[4] + 1
    made = found.to_json(f"macs<={limit} and parameters>=1")
    allowed = {network.key: cost.macs for network, cost in costs.items() if cost.macs <= limit}
    assert {row["key"]: row["values"]["macs"] for row in made["within"]} == allowed
    assert made["best"]["values"]["macs"] == max(allowed.values()) < max(cost.macs for cost in costs.values())


@pytest.mark.parametrize(
    ("expression", "code", "mentions"),
    [
        ("accuracy>=0.5", "selection.unknown-metric", ["accuracy", "activation_bytes, macs, parameters"]),
        ("latency_ms@gpu<=1", "objective.unknown", ["latency_ms@gpu", "cpu-1-thread"]),
        ("session_ms<=1", "objective.unknown", ["session_ms"]),
        ("macs", "selection.malformed", ["'macs'"]),
    ],
)
def test_an_expression_that_is_no_limit_on_costs_is_rejected(
    trained: Run, expression: str, code: str, mentions: list[str]
) -> None:
    with raises(code, *mentions):
        networks_by_cost(trained).satisfying(expression)


def test_a_limit_that_no_network_satisfies_is_reported_with_the_range(trained: Run) -> None:
    found = networks_by_cost(trained)
    ends = [f"macs {costs['macs']:,}" for _, costs in (found.networks[0], found.networks[-1])]
    with raises("selection.nothing-satisfies", "small-1", "macs<=1", *ends):
        found.satisfying("macs<=1")


def test_a_limit_on_latency_measures_every_network_once(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes: list[str] = []
    found = networks_by_cost(trained, note=notes.append)
    made = found.to_json("latency_ms<=1e6 and macs<=1e9")
    times = {row["key"]: row["values"]["latency_ms@cpu-1-thread"] for row in made["within"]}
    assert len(times) == 8
    assert all(row["errors"]["latency_ms@cpu-1-thread"] > 0 for row in made["within"])
    assert {row["source"] for row in made["within"]} == {"measured"}
    assert "8 networks on cpu-1-thread" in notes[0]

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("nas.results.export.nested_latencies.open_profiler", fail)
    limit = sorted(times.values())[3]
    again = networks_by_cost(Run.open(trained.runs, trained.id), note=fail).satisfying(f"latency_ms<={limit!r}")
    assert {network.key for network, _ in again} == {key for key, ms in times.items() if ms <= limit}
    shown = Shell(trained.folder.path.parent.parent, capsys, monkeypatch).nas(
        "show", "small-1", "--select", f"latency_ms<={limit!r}"
    )
    assert (shown.code, "only latency is measured yet" in shown.out) == (0, True)
    assert "training" in Shell(trained.folder.path.parent.parent, capsys, monkeypatch).nas("runs").out  # still one
    monkeypatch.setattr("nas.results.export.nested_latencies.MAX_MEASURED", 7)
    with raises("selection.not-measured", "8 networks", "at most 7"):
        networks_by_cost(trained).satisfying("latency_ms<=1")


class TestExport:
    """A network without measurements is scored when it is selected, and exported like any other."""

    def test_the_selected_network_is_scored_on_both_parts_and_not_timed(self, trained: Run, tmp_path: Path) -> None:
        found = networks_by_cost(trained)
        limit = sorted(costs["macs"] for _, costs in found.networks)[4] + 1
        selected, costs = found.satisfying(f"macs<={limit}")[-1]
        made = trained.export(tmp_path / "m.onnx", select=f"macs<={limit}")
        manifest = json.loads((tmp_path / "m.json").read_text())
        assert made["key"] == manifest["key"] == selected.key
        assert made["precision"] == "fp32"
        assert made["as_measured"] == 1
        # By torch, on a module of its own; the one image that float32 may turn is allowed for.
        built_job = build_job(ResolvedJob(trained.job, trained.runs))
        module = recalibrate(found.supernet.extract(selected), built_job.data.calibration.split(250)).eval()
        shares = {}
        for name in ("validation", "test"):
            part = getattr(built_job.data.dataset, name)
            with torch.no_grad():
                shares[name] = float((module(part.inputs).argmax(1) == part.labels).double().mean())
        metrics = manifest["figures"]
        assert metrics["values"].pop("accuracy") == pytest.approx(shares["validation"], abs=1.01 / 449)
        assert metrics["test"]["accuracy"] == pytest.approx(shares["test"], abs=1.01 / 449)
        assert shares["validation"] != shares["test"]
        assert metrics["values"] == costs  # and no latency
        n, share = len(built_job.data.dataset.test.labels), metrics["test"]["accuracy"]
        assert metrics["test"]["error"] == pytest.approx((share * (1 - share) / n) ** 0.5)
        assert manifest["profiles"] == []
        protocols = {name: how["protocol"] for name, how in manifest["measured_with"].items()}
        assert set(protocols) == {"accuracy", *costs}
        assert {protocols[name] for name in costs} == {"computed"}
        # The file itself, by the runtime alone.
        session = InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
        images = built_job.data.dataset.validation.inputs[:32]
        (outputs,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(outputs), module(images), atol=1e-4, rtol=1e-4)

    def test_the_command_prints_what_it_wrote(
        self, trained: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shell = Shell(trained.folder.path.parent.parent, capsys, monkeypatch)
        answer = shell.nas("export", "small-1", "--select", "macs<=1e9", "-o", "largest.onnx")
        assert answer.code == 0, answer.err
        assert "wrote largest.onnx (accuracy 0." in answer.out
        assert "latency" not in answer.out
        refused = shell.nas("export", "small-1", "--select", "macs<=1", "-o", "none.onnx")
        assert (refused.code, "small-1" in refused.err and "'macs<=1'" in refused.err) == (1, True)
        knee = shell.nas("export", "small-1", "-o", "none.onnx")
        assert (knee.code, knee.error) == (1, "run.not-a-search")
        assert not (shell.folder / "none.onnx").exists()

    def test_a_job_that_does_not_deploy_in_fp32_is_rejected(self, trained: Run, tmp_path: Path) -> None:
        folder = RunsFolder(tmp_path / "runs")
        shutil.copytree(trained.folder.path, tmp_path / "runs" / "small-1")
        job = tmp_path / "runs" / "small-1" / "job.yaml"
        job.write_text(job.read_text().replace("fp32", "int8"))
        with raises("export.precision-unavailable", "small-1", "fp32", "int8"):
            Run.open(folder, "small-1").export(tmp_path / "m.onnx", select="macs<=1e9")


def test_an_unfinished_training_has_nothing_to_select(trained: Run, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Display(ProgressObserver):
        def step(self, *args: object) -> None:
            raise Killed

    runs = RunsFolder(tmp_path)
    with pytest.raises(Killed):
        train(parse_job(JOB, source="job.yaml"), RunOptions(runs, observer=Display()))
    with raises("checkpoint.unfinished", "small-1", remedy=Remedy("resume", "small-1")):
        networks_by_cost(Run.open(runs, "small-1"))


def test_a_training_has_no_report_by_profile(
    trained: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(trained.folder.path.parent.parent, capsys, monkeypatch)
    select = ["show", "small-1", "--select", "macs<=1e9"]
    shown = shell.nas(*select).out
    assert "8 of 8" in shown
    assert "macs<=1e9" in shown
    answer = shell.nas(*select, "--profile", "cpu-1-thread")
    assert answer.code == 1
    assert (answer.code, answer.error) == (1, "run.not-a-search")
