"""The commands `nas profile` and `nas calibrate`, right and wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch

from hardware_profiles.catalog import load_profile
from hardware_profiles.lookup_table_file import load_lookup
from nas.engine.store.base import RunStatus
from nas.engine.store.block_costs import place_of
from nas.engine.store.folder import RunsFolder
from nas.engine.store.sql import SqlStore
from nas.jobs.build.built_job import build_job
from nas.jobs.evaluation.features import LatencyFeatures
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job
from nas.runs.run import open_run
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.networks.module_to_onnx import lower
from tests.nas.commands import SMALL_JOB, Answer, Shell, output_of

JOB = SMALL_JOB.replace("depth: [1, 2], width: [8, 32]", "depth: [1], width: [8, 32]").replace("epochs: 4", "epochs: 1")
"""Of fewer blocks, which take less long to calibrate."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    family = MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=10)
    path = tmp_path / "model.onnx"
    path.write_bytes(lower(family.template().eval(), family.example(2)))
    return path


def assert_error(found: Answer, *words: str) -> None:
    assert (found.code, found.out) == (1, "")
    assert found.err.startswith("error: ")
    assert found.err.count("\n") <= 3
    for word in words:
        assert word in found.err


@pytest.mark.usefixtures("true_rounds")  # enough runs for a p99
def test_a_model_s_figures_and_its_machine(shell: Shell, model: Path) -> None:
    made = shell.nas("profile", model, "--json").data
    assert made["protocol"] == "interleaved-floor/v5"
    assert made["latency_ms"] > 0
    assert 0 < made["p50_ms"] <= made["p90_ms"] <= made["p99_ms"]
    assert made["throughput_per_s"] == pytest.approx(1e3 / made["latency_ms"])
    assert made["peak_mib"] > 0
    assert made["session_ms"] > 0
    assert made["environment"]["provider"] == "CPUExecutionProvider"
    told = shell.nas("profile", model)
    assert "± " in told.out
    assert "p99" in told.out


def test_a_model_in_eight_bits(shell: Shell, model: Path) -> None:
    found = shell.nas("profile", model, "--precision", "int8", "--json")
    assert found.code == 0, found.err
    assert found.data["latency_ms"] > 0
    assert_error(shell.nas("profile", model, "--precision", "fp16"), "CPUExecutionProvider", "fp32")
    job = shell.job(SMALL_JOB + "precisions: [fp32, fp16]\n")
    assert_error(shell.nas("search", job), "job.yaml: precisions: profile cpu-1-thread: ", "fp16")
    assert_error(shell.nas("profile", model, "--precision", "int9"), "int9", "int8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.onnx", "--shape", "input=1x1x9x8"], ["1x1x9x8"]),
        (["model.onnx", "--shape", "input"], ["NAME=1x3x224x224"]),
        (["model.onnx", "--shape", "image=1x1x8x8"], ["'image'", "'input'"]),
        (["model.onnx", "--profile", "cpu-1-tread"], ["did you mean 'cpu-1-thread'?"]),
        (["model.onnx", "--shape", "input=100000x1x8x80000"], ["100000x1x8x80000", "the profile's batch"]),
    ],
)
def test_what_cannot_be_measured_is_told(shell: Shell, model: Path, arguments: list[str], words: list[str]) -> None:
    assert model.name == "model.onnx"
    assert_error(shell.nas("profile", *arguments), *words)


@pytest.mark.parametrize(
    "arguments",
    [[], ["model.onnx", "--sweep", "job.yaml"], ["--sweep", "job.yaml", "--precision", "int8"]],
)
def test_wrong_usage_is_told_as_such(shell: Shell, model: Path, arguments: list[str]) -> None:
    assert model.name == "model.onnx"
    found = shell.nas("profile", *arguments)
    assert (found.code, found.out) == (2, "")
    assert "Usage: " in found.err
    assert "model" in found.err


def test_an_absent_provider_is_told(shell: Shell, model: Path) -> None:
    (shell.folder / "gpu.yaml").write_text("name: gpu\nprovider: CUDAExecutionProvider\n")
    assert_error(shell.nas("profile", model, "--profile", "./gpu.yaml"), "CUDAExecutionProvider", "install")


def test_a_model_in_two_runtimes(shell: Shell, model: Path) -> None:
    pytest.importorskip("openvino")
    found = shell.nas("profile", model, "--compare", "onnxruntime,openvino", "--json").data
    assert [own["runtime"] for own in found] == ["onnxruntime", "openvino"]
    assert all(own["latency_ms"] > 0 for own in found)
    assert found[1]["environment"]["provider"] == "CPU"
    told = shell.nas("profile", model, "--compare", "onnxruntime,openvino")
    assert "of onnxruntime" in told.out
    assert max(map(len, told.out.splitlines()[1:])) <= 80  # the first has the file's path
    assert_error(shell.nas("profile", model, "--compare", "onnxruntime,openvin"), "did you mean 'openvino'")


def test_a_cluster_that_is_not_there_is_told_at_once(shell: Shell, model: Path) -> None:
    (shell.folder / "pi.yaml").write_text("name: pi\nplacement: {hw-pi: 1}\n")
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        found = shell.nas("profile", model, "--profile", "./pi.yaml", "--address", address)
    assert_error(found, f"no Ray cluster answers at {address}", "ray start --head")


def test_a_sweep_offers_widths_and_draws_them(shell: Shell) -> None:
    shell.monkeypatch.setattr("nas.jobs.planning.latency_sweep.MAX_WIDTHS", 4)
    text = SMALL_JOB.replace("hardware: [cpu-1-thread]", "hardware: [cpu-1-thread-batch-16]")
    job = shell.job(text.replace("width: [4, 16]", "width: [4, 8]").replace("width: [8, 32]", "width: [8, 12]"))
    found = shell.nas("profile", "--sweep", job, "-o", "drawn", "--json")
    assert found.code == 0, found.err
    assert found.data["profile"] == "cpu-1-thread-batch-16"  # the job's own, where no other is asked for
    stages = found.data["stages"]
    assert [stage["options"] for stage in stages] == [[4, 8], [8, 12]]
    assert [stage["widths"] for stage in stages] == [[4, 8, 12, 16]] * 2
    for stage in stages:
        assert set(stage["aligned"]) <= set(stage["widths"])
        assert len(stage["latency_ms"]) == len(stage["widths"])
    assert Path(found.data["plots"][0]).read_bytes()[:4] == b"\x89PNG"


def test_a_calibration_is_used_by_a_search(shell: Shell, calibrated: str) -> None:
    job, path = shell.job(JOB), shell.folder / "small.cpu-1-thread.lookup.json"
    path.write_text(calibrated)  # of the same command, which finds nothing left to measure
    made = shell.nas("calibrate", "cpu-1-thread", "--job", job, "--subnets", "6", "--json")
    assert made.code == 0, made.err
    assert Path(made.data["path"]).name == path.name
    assert path.read_text() == calibrated
    assert made.data["fits"]["fp32"]["n"] == 6
    assert 0 < made.data["fits"]["fp32"]["mape"] < 0.5
    text = JOB.replace("evaluations: 30", "evaluations: 25")
    with_table = shell.job(text + f"lookup_tables: [{path}]\n", "with.yaml")
    searched = shell.nas("search", with_table, "--inline", "--json")
    assert searched.code == 0, searched.err
    quality = shell.nas("show", "small-1", "--json").data["predictors"]["latency_ms@cpu-1-thread"]["quality"]
    assert quality["n"] >= 16  # those of the last fit, which some of the 25 follow
    _check_block_costs(shell, with_table, path)


def _check_block_costs(shell: Shell, job: Path, path: Path) -> None:
    """Those of the front and the anchors are exact, and add up to the prediction of the table."""
    report = open_run("small-1", shell.folder / "runs").report
    costs = report.block_costs
    built_job = build_job(ResolvedJob(load_job(job), RunsFolder(shell.folder / "elsewhere")))
    supernet = built_job.untrained()
    assert costs.places == tuple(map(place_of, supernet.family.blocks))
    table = load_lookup(path, profile=load_profile("cpu-1-thread"), environment=None)
    features = LatencyFeatures(supernet, table)
    for point in [*report.front, *report.anchors.values()]:
        own = costs.networks[point.key]
        exact = supernet.costs([point.architecture])
        assert own.parameters == tuple(exact.parameters[0].tolist())
        assert own.macs == tuple(exact.macs[0].tolist())
        latency = own.latencies["cpu-1-thread"]
        predicted = features([point.architecture])[0, features.layout.estimate]
        assert latency.total_ms == pytest.approx(predicted, abs=1e-6)
        assert [ms for ms, macs in zip(latency.blocks_ms, own.macs, strict=True) if not macs and ms] == []

    selected = shell.nas("show", "small-1", "--select", "latency_ms<=1000")
    best = shell.nas("show", "small-1", "--select", "latency_ms<=1000", "--json").data
    whole = sum(block["predicted_latency_ms"]["cpu-1-thread"] for block in best["blocks"])
    assert whole == pytest.approx(costs.networks[best["key"]].latencies["cpu-1-thread"].total_ms)
    assert [block["block"] for block in best["blocks"]][-3:] == ["head", "classifier", "in no block"]
    assert f"predicted from the lookup table: {whole:.4f} ms; measured: " in selected.out


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table, made once."""
    folder = tmp_path_factory.mktemp("calibrated")
    (folder / "job.yaml").write_text(JOB)
    printed = output_of(folder, "calibrate", "cpu-1-thread", "--job", "job.yaml", "--subnets", "6")
    assert "blocks; latency = " in printed
    assert "lookup_tables: [small.cpu-1-thread.lookup.json]" in printed
    return (folder / "small.cpu-1-thread.lookup.json").read_text()


class TestLookupTablesThatDoNotFit:
    @pytest.fixture
    def table(self, shell: Shell, calibrated: str) -> Path:
        (shell.folder / "t.json").write_text(calibrated)
        return shell.folder / "t.json"

    def search(self, shell: Shell, **changes: str) -> Answer:
        text = JOB.replace("{algorithm: guided, evaluations: 30, batch: 7}", "{algorithm: random, evaluations: 2}")
        text += "lookup_tables: [t.json]\n"
        for old, new in changes.items():
            text = text.replace(old, new)
        return shell.nas("search", shell.job(text, "with.yaml"), "--inline")

    def test_each_is_refused_before_anything_is_trained(self, shell: Shell, table: Path) -> None:
        good = table.read_text()
        for key, value, words in (
            ("protocol", "interleaved-floor/v0", ["interleaved-floor/v0", "calibrate again"]),
            ("format", "latency-lookup-table/v0", ["latency-lookup-table/v1"]),
            ("complete", False, ["interrupted", "next: nas calibrate cpu-1-thread --job "]),
        ):
            table.write_text(json.dumps({**json.loads(good), key: value}))
            assert_error(self.search(shell), "t.json", *words)
        table.write_text(good[: len(good) // 2])
        assert_error(self.search(shell), "t.json", "damaged")
        table.write_text(good)
        other = self.search(shell, **{"hardware: [cpu-1-thread]": "hardware: [cpu-1-thread-batch-16]"})
        assert_error(other, "lookup_tables[0]", "'cpu-1-thread'", "cpu-1-thread-batch-16")
        other = self.search(shell, **{"width: [4, 16]": "width: [4, 12]"})
        assert_error(other, "t.json is of another space", "calibrate with this job")
        elsewhere = json.loads(good)
        elsewhere["environment"]["cpu"] = "Another 9000"
        table.write_text(json.dumps(elsewhere))
        assert_error(self.search(shell), "t.json", "measured on another machine", "was Another 9000")
        table.write_text(good)
        two = self.search(shell, lookup_tables="precisions: [fp32, int8]\nlookup_tables")
        assert_error(two, "with.yaml: lookup_tables: ", "t.json has no fit for int8, only for fp32")
        table.unlink()
        assert_error(self.search(shell), "t.json", "No such file")
        assert shell.runs() == set()

    def test_a_resumed_search_checks_them_again(self, shell: Shell, table: Path) -> None:
        assert self.search(shell).code == 0
        store = SqlStore.open(shell.folder / "runs" / "small-1" / "run.db", create=False, driver=True)
        store.set_status(RunStatus.CANCELLED, reason="as if interrupted")
        store.close()
        elsewhere = json.loads(table.read_text())
        elsewhere["environment"]["cpu"] = "Another 9000"
        table.write_text(json.dumps(elsewhere))
        assert_error(shell.nas("resume", "small-1", "--inline"), "measured on another machine", "Another 9000")
