"""`nas finetune`: one network of a run is trained further, measured, kept as a run, and exported."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import nas
from nas.engine.store.folder import RunsFolder
from nas.jobs.run.run_options import RunOptions
from nas.runs.driver import run as search
from nas.runs.finetuning.job import finetuning_job
from nas.runs.run import Run
from supernets.training.checkpoint import load_checkpoint
from tests.nas.commands import SMALL_JOB, Shell


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, of a supernet that has learnt little yet."""
    from nas.jobs.schema import parse_job

    folder = tmp_path_factory.mktemp("finetune")
    job = yaml.safe_load(SMALL_JOB) | {"precisions": ["fp32", "int8"]}
    job["training"]["epochs"], job["search"] = 2, {"algorithm": "random", "evaluations": 6, "batch": 4}
    search(parse_job(yaml.safe_dump(job), source="job"), RunOptions(RunsFolder(folder / "runs"), inline=True))
    return folder


@pytest.fixture
def shell(searched: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(searched, capsys, monkeypatch)


def test_a_network_is_trained_further_and_what_it_gained_is_told_and_exported(shell: Shell) -> None:
    made = shell.nas("finetune", "small-1", "--index", "0", "--epochs", "3", "--inline", "--json")
    assert made.code == 0, made.err
    run, gain = made.data["run"], made.data["gain"]
    before = shell.nas("show", "small-1", "--json").data["front"][0]
    assert (gain["of"], gain["epochs"], gain["improved"]) == ("small-1", 3, True)
    assert gain["validation"]["before"] == before["values"]["accuracy"]
    assert gain["test"]["before"] == before["test"]["accuracy"]
    (point,) = made.data["front"]
    assert gain["validation"]["after"] == point["values"]["accuracy"]
    assert gain["test"]["after"] == point["test"]["accuracy"]
    assert {key: point["architecture"][key] for key in before["architecture"] if key != "precision"} == {
        key: value for key, value in before["architecture"].items() if key != "precision"
    }
    assert gain["validation"]["method"] == "paired"
    assert gain["validation"]["gain"] > gain["validation"]["threshold"]  # two epochs of a supernet leave much to gain
    assert shell.nas("show", run, "--json").data["gain"] == gain
    (row,) = [row for row in shell.nas("runs", "--json").data if row["run"] == run]
    assert (row["done"], row["total"]) == (1, 1)
    assert re.search(rf"{run} +search +finished +1 of 1 evaluation\b", shell.nas("runs").out)
    shown = shell.nas("show", run).out
    assert f"kept: the weights after epoch {gain['best_epoch']} of 3" in shown
    exported = shell.nas("export", run, "-o", "model.onnx", "--json").data
    assert exported["as_measured"] == 1.0
    again = shell.nas("finetune", run, "--epochs", "1", "--inline", "--json")  # and further still
    assert again.data["gain"]["validation"]["before"] == point["values"]["accuracy"]
    further = Run.open(RunsFolder(shell.folder / "runs"), again.data["run"]).job
    assert further.training.teacher == "small-1"  # not the single network, which has no larger one


@pytest.mark.slow
def test_the_run_that_it_is_of_tells_and_draws_it(shell: Shell) -> None:
    made = shell.nas("finetune", "small-1", "--index", "0", "--epochs", "1", "--inline", "--json").data
    run, gain, record = made["run"], made["gain"], made["finetuning"]
    before = shell.nas("show", "small-1", "--json").data
    assert [one for one in before["finetunings"] if one["run"] == run] == [record]
    assert record["gain"] == gain
    assert (record["of"], record["status"], record["epoch"]) == ("small-1", "finished", 1)
    assert record["before"] == before["front"][0]
    assert record["after"] == made["front"][0]
    (row,) = [line for line in shell.nas("show", "small-1").out.splitlines() if line.startswith(run)]
    accuracies = [f"{gain[part]['before']:.2%} → {gain[part]['after']:.2%}" for part in ("validation", "test")]
    assert re.split(r"\s{2,}", row.strip())[:4] == [run, before["front"][0]["key"], *accuracies]
    assert gain["verdict"] in row
    assert " ms → " in row
    assert shell.nas("plot", "small-1").code == 0
    plots = shell.folder / "runs" / "small-1" / "plots"
    page = (plots / "front.html").read_text()
    assert f"fine-tuned by {run}" in page
    assert '"name":"fine-tuned"' in page
    arguments = ["nas", "show", "small-1", "--runs", str(shell.folder / "runs")]
    last = "atexit.register(lambda: print('torch' in sys.modules))"
    code = f"import atexit, sys; {last}; from nas.cli import main; sys.argv = {arguments}; main()"
    ours = Path(nas.__file__).parents[1]
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ours).stdout
    assert run in told
    assert told.splitlines()[-1] == "False"


def test_what_is_better_in_fp32_alone_is_no_better_where_it_is_deployed_in_int8(shell: Shell) -> None:
    """Training keeps the best epoch in fp32; the int8 figures, set below those of before here, are what counts."""
    report = Run.open(RunsFolder(shell.folder / "runs"), "small-1").report
    point = next(p for p in report.candidates if p.precision == "int8")
    made = shell.nas("finetune", "small-1", "--select", f"key={point.key}", "--epochs", "2", "--inline", "--json").data
    run, gain = made["run"], made["gain"]
    assert (gain["key"], gain["precision"], gain["better_in_fp32"]) == (point.key, "int8", True)
    with sqlite3.connect(shell.folder / "runs" / run / "run.db") as database:
        database.execute(
            "UPDATE measurements SET value = ? WHERE metric = 'accuracy' AND fidelity = 'search'",
            (gain["validation"]["before"] - 0.01,),
        )
    after = shell.nas("show", run, "--json").data["gain"]
    assert (after["improved"], after["better_in_fp32"]) == (False, True)
    assert after["verdict"] == "no better in int8, though in fp32"
    told = shell.nas("show", run).out
    assert "its weights improved in fp32, but the network is no better in int8" in told
    (command,) = re.findall(r"nas (export small-1 --select key=\S+)", told)
    assert f"{run}  " in shell.nas("show", "small-1").out
    assert "no better in int8, though in fp32" in shell.nas("show", "small-1").out
    kept = shell.nas(*command.split(), "--json")
    assert (kept.code, kept.data["key"], kept.data["precision"]) == (0, point.key, "int8")


def test_a_job_that_keeps_the_last_epoch_is_judged_by_what_was_measured(shell: Shell) -> None:
    network = shell.nas("show", "small-1", "--json").data["anchors"]["largest"]["key"].rsplit("-", 1)[0]
    job = yaml.safe_load(SMALL_JOB)
    job |= {"supernet": {"from": "small-1", "network": network}, "name": "last"}
    job["training"] |= {"strategy": "largest", "epochs": 1, "learning_rate": 1e-30}
    del job["training"]["random_subnets"]
    job["search"] = {"algorithm": "random", "evaluations": 2}
    told = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline")
    assert told.code == 0, told.err
    assert "kept: the weights after the last of 1 epochs" in told.out


def test_one_that_was_interrupted_tells_its_gain_when_it_is_resumed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    before = set(shell.runs())
    with monkeypatch.context() as patched:
        patched.setattr("nas.jobs.run.execution.measure_finalists", interrupted)
        assert shell.nas("finetune", "small-1", "--index", "0", "--epochs", "1", "--inline").code == 130
    (run,) = set(shell.runs()) - before
    (row,) = [line for line in shell.nas("show", "small-1").out.splitlines() if line.startswith(run)]
    assert "cancelled after 1 of 1 epochs; interrupted" in row
    told = shell.nas("resume", run, "--inline").out
    assert f"{run}: network" in told
    assert "validation accuracy" in told
    assert f"next: nas export {run}\n" in told


def test_the_precision_is_the_networks_own(searched: Path) -> None:
    run = Run.open(RunsFolder(searched / "runs"), "small-1")
    for i, point in enumerate(run.report.front):
        job = finetuning_job(run, index=i, epochs=5)
        assert job.precisions == (point.precision,)
        assert job.training.learning_rate == pytest.approx(run.job.training.learning_rate / 10)
        assert (job.training.keep, job.training.strategy, job.training.teacher) == ("best", "largest", "small-1")


def test_where_no_epoch_makes_it_better_it_stays_as_it_was_and_that_is_told(shell: Shell) -> None:
    made = shell.nas("finetune", "small-1", "--epochs", "2", "--learning-rate", "1e-30", "--inline", "--json")
    gain = made.data["gain"]
    assert (gain["improved"], gain["best_epoch"]) == (False, 0)
    assert gain["validation"]["gain"] == gain["test"]["gain"] == 0
    assert not gain["validation"]["distinguishable"]
    assert "none of 2 epochs improved it on the validation part" in shell.nas("show", made.data["run"]).out


def test_the_best_epoch_s_weights_are_kept_though_worse_ones_follow(shell: Shell) -> None:
    """At a wild learning rate the last epochs are worse than the first; what is kept is never worse than the start."""
    made = shell.nas("finetune", "small-1", "--epochs", "3", "--learning-rate", "3.0", "--inline", "--json")
    gain = made.data["gain"]
    assert gain["validation"]["gain"] >= 0
    checkpoint = load_checkpoint(shell.folder / "runs" / made.data["run"] / "checkpoint")
    shown = [epoch["largest"] for epoch in checkpoint.progress["history"]]
    best = checkpoint.progress["best"]
    assert best["accuracy"] >= max(shown) - 1e-6  # the validation part is smaller than what is shown of it
    assert best["epoch"] == 0 or np.argmax(shown) + 1 == best["epoch"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("small-1", "--index", "40"), "the front of run 'small-1' has"),
        (("small-1", "--select", "accuracy>=1.0"), "accuracy"),
        (("small-1", "--index", "0", "--knee"), "--select, --index and --knee"),
        (("small-9",), "small-9"),
    ],
)
def test_what_cannot_be_done_is_told_before_a_run_is_made(
    shell: Shell, arguments: tuple[str, ...], message: str
) -> None:
    before = shell.runs()
    made = shell.nas("finetune", *arguments, "--inline")
    assert made.code == 1
    assert message in made.err
    assert shell.runs() == before


@pytest.mark.parametrize(("option", "value"), [("--epochs", "0"), ("--learning-rate", "-1")])
def test_a_number_out_of_its_range_is_an_error_of_usage(shell: Shell, option: str, value: str) -> None:
    before = shell.runs()
    made = shell.nas("finetune", "small-1", option, value, "--inline")
    assert made.code == 2
    assert option in made.err
    assert shell.runs() == before


def test_a_job_file_may_name_the_network_itself(shell: Shell) -> None:
    job = yaml.safe_load(SMALL_JOB)
    job |= {"supernet": {"from": "small-1", "network": "7-7"}, "training": {"strategy": "largest"}, "name": "own"}
    made = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline")
    assert (made.code, shell.runs() & {"own-1"}) == (1, set())
    assert "supernet.network: 7-7: got 2 genes; an architecture of this space has 12" in made.err
    del job["supernet"]["from"]
    told = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline").err
    assert "supernet.network" in told
