"""The commands as a user gives them: the whole path in one small run, then what is wrong in every way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

import nas
from nas.extension import Extension
from nas.objectives import Fidelity
from nas.sources import earlier_evaluations
from nas.store.base import RunStatus
from nas.store.sql import SqlStore
from supernets.data import load_data
from tests.nas.commands import SMALL_JOB, Answer, Shell


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the job and its finished run ``small-1``, made by the real command in a process of its own."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "job.yaml").write_text(SMALL_JOB)
    made = subprocess.run(
        [sys.executable, "-m", "nas.cli", "search", "job.yaml", "--inline", "--json"],
        cwd=folder, env={**os.environ, "OMP_WAIT_POLICY": "passive"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (folder / "search.json").write_text(made.stdout)
    return folder


@pytest.fixture
def after(searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in a copy of the folder with the finished run."""
    shutil.copytree(searched, tmp_path / "work")
    return Shell(tmp_path / "work", capsys, monkeypatch)


class TestTheWholePath:
    def test_search_prints_the_front_by_its_contract(self, searched: Path) -> None:
        made = json.loads((searched / "search.json").read_text())
        assert (made["run"], made["status"], made["evaluations"]) == ("small-1", "finished", 30)
        assert len(made["front"]) >= 2
        for point in [*made["front"], *made["anchors"].values()]:
            assert set(point["values"]) == set(point["errors"]) == {"accuracy", "latency_ms@cpu-1-thread"}
            assert point["source"] == "measured"
            assert 0 < point["test"]["accuracy"] <= 1
            assert point["values"]["latency_ms@cpu-1-thread"] > 0
            assert point["architecture"]["stage0.depth"] in (1, 2)
        latencies = [p["values"]["latency_ms@cpu-1-thread"] for p in made["front"]]
        accuracies = [p["values"]["accuracy"] for p in made["front"]]
        assert latencies == sorted(latencies)
        assert accuracies == sorted(accuracies)
        assert {Path(p).name for p in made["plots"]} >= {"front.png", "front.svg", "convergence.png", "front.html"}
        assert all((searched / p).stat().st_size > 1000 for p in made["plots"])

    def test_show_says_more_of_the_same(self, after: Shell) -> None:
        made = json.loads((after.folder / "search.json").read_text())
        shown = after.nas("show", "small-1", "--json").data
        assert shown["front"] == made["front"]
        assert [o["name"] for o in shown["objectives"]] == ["accuracy", "latency_ms@cpu-1-thread"]
        assert set(shown["hypervolume"]["reference"]) == {"accuracy", "latency_ms@cpu-1-thread"}
        volumes = [v for _, v in shown["hypervolume"]["history"]]
        assert volumes == sorted(volumes)
        assert all("too noisy" in why for why in shown["failed"].values())  # a busy machine's latencies are refused
        assert len(volumes) == 30 - len(shown["failed"])
        quality = shown["predictors"]["latency_ms@cpu-1-thread"]["quality"]
        assert quality["n"] > 0
        assert {"mean", "ridge"} <= set(quality["baselines"])
        insight = shown["insight"]
        assert len(insight["seconds"]) == len(volumes)
        assert set(insight["found"]) == {point["key"] for point in shown["front"]}
        assert insight["foresight"]["latency_ms@cpu-1-thread"]["n"] > 0
        assert set(insight["importance"]) == {"accuracy", "latency_ms@cpu-1-thread"}
        text = after.nas("show", "small-1")
        assert "hypervolume" in text.out
        assert "as predicted and then measured" in text.out
        assert "genes that matter for latency_ms@cpu-1-thread" in text.out
        assert "test accuracy" in text.out

    def test_runs_lists_it(self, after: Shell) -> None:
        (row,) = after.nas("runs", "--json").data
        assert (row["run"], row["kind"], row["status"], row["done"], row["live"]) == (
            "small-1", "search", "finished", 30, False,
        )  # fmt: skip
        assert "small-1" in after.nas("runs").out

    def test_plot_draws_limits(self, after: Shell) -> None:
        (after.folder / "out").mkdir()
        paths = after.nas("plot", "small-1", "-o", "out", "--select", "latency_ms<=1", "--json").data["paths"]
        assert all(Path(p).parent.name == "out" for p in paths)
        page = (after.folder / "out" / "front.html").read_text()
        assert "plotly" in page.lower()
        assert 'src="http' not in page

    def test_export_runs_where_only_onnxruntime_and_numpy_are(self, after: Shell) -> None:
        made = after.nas("export", "small-1", "--index", "0", "-o", "model.onnx", "--json").data
        assert made["parity"] <= 1e-4
        manifest = json.loads((after.folder / "model.json").read_text())
        assert manifest["files"]["model.onnx"]["sha256"] == made["sha256"]
        assert manifest["figures"]["values"] == made["values"]
        model = onnx.load(after.folder / "model.onnx")
        facts = {p.key: p.value for p in model.metadata_props}
        assert json.loads(facts["classes"]) == [str(n) for n in range(10)]
        assert json.loads(facts["input"])["shape"] == ["batch", 1, 8, 8]
        assert facts["run"] == "small-1"
        script = (
            "import sys, numpy, onnxruntime\n"
            "s = onnxruntime.InferenceSession('model.onnx', providers=['CPUExecutionProvider'])\n"
            "for n in (1, 8): assert s.run(None, {'input': numpy.zeros((n, 1, 8, 8), 'float32')})[0].shape == (n, 10)\n"
            "assert not {'torch', 'nas', 'supernets', 'onnx'} & set(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-I", "-c", script], cwd=after.folder, check=True, timeout=60)

    def test_export_takes_the_most_accurate_that_satisfies_a_selection(self, after: Shell) -> None:
        front = json.loads((after.folder / "search.json").read_text())["front"]
        bound = front[-1]["values"]["latency_ms@cpu-1-thread"] * 1.0001
        made = after.nas("export", "small-1", "--select", f"latency_ms<={bound}", "-o", "m.onnx", "--json").data
        assert made["values"] == front[-1]["values"]

    def test_profile_measures_the_exported_file(self, after: Shell) -> None:
        after.nas("export", "small-1", "--knee", "-o", "model.onnx")
        made = after.nas("profile", "model.onnx", "--profile", "cpu-1-thread", "--json").data
        assert {
            "profile", "latency_ms", "p50_ms", "samples", "resolution", "preempted_share", "protocol", "environment",
        } <= set(made)  # fmt: skip
        assert made["protocol"] == "interleaved-floor/v1"
        assert made["latency_ms"] > 0
        assert 0 <= made["resolution"] < 1

    def test_the_same_seed_and_replayed_measurements_give_the_same_front(self, after: Shell) -> None:
        again = after.nas("search", "job.yaml", "--inline", "--replay", "small-1", "--json")
        assert again.code == 0, again.err
        first = json.loads((after.folder / "search.json").read_text())
        assert again.data["run"] == "small-2"
        assert again.data["front"] == first["front"]

    def test_the_same_from_python(self, after: Shell) -> None:
        front = json.loads((after.folder / "search.json").read_text())["front"]
        run = nas.open_run("small-1", after.folder / "runs")
        assert [dict(p.values) for p in run.front] == [p["values"] for p in front]
        made = run.export(after.folder / "python.onnx", select="latency_ms<=1000")
        assert made["values"] == front[-1]["values"]
        assert nas.load_job(str(after.folder / "job.yaml")).name == "small"
        assert {"load_job", "run", "open_run"} <= set(dir(nas))
        with pytest.raises(AttributeError, match="no attribute"):
            nas.nothing  # noqa: B018

    def test_only_the_final_figures_come_from_the_test_part(self, searched: Path) -> None:
        data = load_data("digits", validation=0.25, test=0.25)
        with nas.open_run("small-1", searched / "runs").store() as store:
            accuracies = [m for m in store.measurements() if m.request.metric == "accuracy"]
            final = set(store.info()["final"])
        of_search = {m.data for m in accuracies if m.request.fidelity is Fidelity.SEARCH}
        of_test = {m.data for m in accuracies if m.request.fidelity is Fidelity.TEST}
        assert of_search == {data.validation.digest}
        assert of_test == {data.test.digest}
        tested = [m.request.architecture.key for m in accuracies if m.request.fidelity is Fidelity.TEST]
        assert set(tested) == final
        # Everything of the test part was measured after everything of the search.
        order = [m.request.fidelity for m in accuracies]
        assert order == sorted(order, key=lambda fidelity: fidelity is Fidelity.TEST)

    def test_your_own_images_on_two_profiles(self, shell: Shell) -> None:
        digits = load_digits()
        for i, (pixels, label) in enumerate(zip(digits.images[:400], digits.target[:400], strict=True)):
            folder = shell.folder / "photos" / f"digit-{label}"
            folder.mkdir(parents=True, exist_ok=True)
            grey = (pixels * 15).astype(np.uint8)
            Image.fromarray(np.stack([grey, grey // 2, 255 - grey], axis=2)).save(folder / f"{i}.png")
        job = yaml.safe_load(SMALL_JOB)
        job["data"] = {"name": "image-folder", "path": "photos", "image_size": 12}
        job["training"] |= {"epochs": 2, "strategy": "single-path"}
        del job["training"]["random_subnets"]
        job["hardware"] = ["cpu-1-thread", "cpu-1-thread-batch-16"]
        names = ["accuracy", "latency_ms@cpu-1-thread", "latency_ms@cpu-1-thread-batch-16", "macs"]
        job["objectives"] = names
        job["search"] = {"algorithm": "random", "evaluations": 5, "batch": 2}
        made = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline", "--json")
        assert made.code == 0, made.err
        assert made.data["evaluations"] == 5
        assert all(list(point["values"]) == names for point in made.data["front"])
        assert all(point["errors"]["macs"] == 0 for point in made.data["front"])
        exported = shell.nas("export", made.data["run"], "-o", "photo.onnx", "--json").data
        assert exported["parity"] <= 1e-4
        facts = {p.key: p.value for p in onnx.load(shell.folder / "photo.onnx").metadata_props}
        assert json.loads(facts["input"])["shape"] == ["batch", 3, 12, 12]
        assert len(json.loads(facts["input"])["mean"]) == 3
        assert json.loads(facts["classes"])[0] == "digit-0"

    def test_a_trained_run_is_searched_without_training(self, after: Shell) -> None:
        job = yaml.safe_load(SMALL_JOB)
        job["supernet"] = {"from": "small-1"}
        job["hardware"] = ["cpu-1-thread-batch-16"]
        job["search"] = {"algorithm": "nsga2", "evaluations": 6, "batch": 4, "screen_images": 100}
        made = after.nas("search", after.job(yaml.safe_dump(job), "again.yaml"), "--inline", "--json")
        assert made.code == 0, made.err
        assert made.data["evaluations"] == 6
        assert not (after.folder / "runs" / "small-2" / "checkpoint").exists()
        with nas.open_run("small-2", after.folder / "runs").store() as store:
            looked_at = {m.request.architecture for m in store.measurements(Fidelity.SCREEN)}
        assert len(looked_at) == 4  # all but the smallest and the largest
        job["search"] |= {"screen_images": 449}
        answer = after.nas("search", after.job(yaml.safe_dump(job), "all.yaml"), "--inline")
        assert_error(answer, "search.screen_images", "449 validation images")

    def test_a_finished_run_is_not_resumed(self, after: Shell) -> None:
        assert_error(after.nas("resume", "small-1"), "small-1 is finished", "nas resume small-1 --evaluations +50")
        assert_error(after.nas("resume", "small-1", "--evaluations", "29"), "small-1", "30 already")
        assert_error(after.nas("resume", "small-1", "--minutes", "+5"), "30 evaluations are used up")
        assert after.nas("runs", "--json").data[0]["status"] == "finished"

    def test_a_finished_run_goes_on_with_more_to_spend(self, after: Shell) -> None:
        folder = after.folder / "runs" / "small-1"
        with closing(SqlStore.open(folder / "run.db", create=False, driver=True)) as store:
            asked = store.asks()
            Extension("+4").apply(store, "small-1")  # and the driver was killed
            assert not store.info()["final"]  # the front is chosen from all again
        (row,) = after.nas("runs", "--json").data
        assert (row["status"], row["done"], row["total"]) == ("cancelled", 30, 34)
        made = after.nas("resume", "small-1", "--inline", "--json")
        assert made.code == 0, made.err
        assert (made.data["status"], made.data["evaluations"]) == ("finished", 34)
        again = after.nas("resume", "small-1", "--inline", "--evaluations", "35", "--json")
        assert again.data["evaluations"] == 35
        with closing(SqlStore.open(folder / "run.db", create=False, driver=False)) as store:
            assert store.asks()[: len(asked)] == asked
            assert [len(step) for step in store.asks()[len(asked) :]] == [4, 1]
        assert all(point["test"] is not None for point in again.data["front"])

    def test_a_warm_start_takes_what_is_known_and_asks_first_for_what_was_good(self, after: Shell) -> None:
        job = yaml.safe_load(SMALL_JOB)
        job |= {"supernet": {"from": "small-1"}, "warm_start": ["small-1"], "name": "warm"}
        job["hardware"] = ["cpu-1-thread-batch-16", "cpu-1-thread"]
        job["objectives"] = ["accuracy", "latency_ms@cpu-1-thread-batch-16", "latency_ms@cpu-1-thread"]
        job["search"] = {"algorithm": "nsga2", "evaluations": 8, "batch": 4}
        path = after.job(yaml.safe_dump(job), "warm.yaml")
        made = after.nas("search", path, "--inline", "--json")
        assert made.code == 0, made.err
        assert "warm start: figures of 30 networks from small-1" in made.err
        stores = [after.folder / "runs" / run / "run.db" for run in ("small-1", "warm-1")]
        with (
            closing(SqlStore.open(stores[0], create=False, driver=False)) as earlier,
            closing(SqlStore.open(stores[1], create=False, driver=False)) as warm,
        ):
            assert {m.request.profile for m in warm.measurements()} == {None, *job["hardware"]}
            known = earlier.find([m.request for m in warm.measurements()])
            assert {m.request.profile for m in known.values()} == {None, "cpu-1-thread"}
            found = warm.find(list(known))
            assert {r: (m.value, m.error, m.seconds) for r, m in found.items()} == {
                r: (m.value, m.error, m.seconds) for r, m in known.items()
            }
            first, *_ = warm.asks()
            assert set(first) <= {a for step in earlier.asks() for a in step}
            # Killed and resumed, it learns the same: from its own store.
            learnt = earlier_evaluations(warm.info())
            assert len(learnt) == 30
            assert all(set(e.measurements) == {"accuracy", "latency_ms@cpu-1-thread"} for e in learnt)

    def test_plan_costs_nothing(self, shell: Shell) -> None:
        made = shell.nas("plan", shell.job(), "--json").data
        assert made["space"]["size"] == (2 * (2 + 4)) ** 2
        assert made["smallest"]["macs"] < made["largest"]["macs"]
        assert made["smallest"]["latency_ms@cpu-1-thread"] > 0
        assert sum(made["images"].values()) == 1797
        assert made["cut_sentences"] is None
        assert list(made["time"]) == ["training", "search", "final", "total"]
        assert made["time"]["total"]["low"] <= made["time"]["total"]["seconds"] <= made["time"]["total"]["high"]
        assert shell.runs() == set()
        quick = shell.nas("plan", "job.yaml", "--no-time").out
        assert "smallest" in quick
        assert "training " not in quick

    def test_train_keeps_a_supernet_as_a_run(self, shell: Shell) -> None:
        made = shell.nas("train", shell.job(SMALL_JOB.replace("epochs: 4", "epochs: 2")), "--json").data
        assert (made["kind"], made["status"], made["epoch"], made["epochs"]) == ("training", "finished", 2, 2)
        shown = shell.nas("show", made["run"], "--json").data
        assert [e["epoch"] for e in shown["history"]] == [1, 2]
        (row,) = shell.nas("runs", "--json").data
        assert row["kind"] == "training"

    def test_init_lists_and_writes_recipes(self, shell: Shell) -> None:
        names = {r["name"] for r in shell.nas("init", "--json").data}
        assert {"digits-cnn", "fashion-mnist-cnn", "fashion-mnist-vit"} <= names
        assert shell.nas("init", "digits-cnn").code == 0
        assert (shell.folder / "digits-cnn.yaml").is_file()
        assert_error(shell.nas("init", "digits-cnn"), "exists already")

    def test_profiles_are_listed(self, shell: Shell) -> None:
        assert {"cpu-1-thread", "cpu-2-threads"} <= {p["name"] for p in shell.nas("profiles", "--json").data}
        assert "cpu-1-thread-batch-16" in shell.nas("profiles").out


def assert_error(answer: Answer, *parts: str) -> None:
    """One or two lines on stderr that hold all parts, nothing on stdout, a non-zero exit."""
    assert answer.code == 1, answer
    assert answer.out == ""
    message = answer.err.strip().splitlines()
    assert len(message) <= 2, answer.err
    assert message[-1].startswith("error: ") or message[0].startswith("error: ")
    for part in parts:
        assert part in answer.err, answer.err


class TestBadInput:
    @pytest.mark.parametrize(
        ("old", "new", "parts"),
        [
            ("seed: 3", "seeds: 3", ("job.yaml", "seeds", "seed")),
            ("family: mobile-cnn", "family: mobile-cn", ("supernet.family", "mobile-cnn")),
            ("[cpu-1-thread]", "[cpu-1-threads]", ("cpu-1-threads", "cpu-1-thread")),
            ("[accuracy, latency_ms]", "[accuracy, latency]", ("objectives", "latency_ms")),
            ("evaluations: 30", "evaluations: 0", ("search.evaluations", "0")),
            ("epochs: 4,", "epochs: 4, threads: 99,", ("training.threads", "99", "cores")),
            ("epochs: 4,", "epochs: 4, teacher: gone,", ("training.teacher", "unknown run 'gone'")),
            ("epochs: 4,", "epochs: 4, workers: 2,", ("training.workers", "--inline")),
            (
                "epochs: 4, batch_size: 64, random_subnets: 1",
                "epochs: 2, strategy: progressive",
                ("training.epochs", "4 phases"),
            ),
            ("depth: [1, 2], width: [4, 16]", "depth: [2, 1], width: [4, 16]", ("depth",)),
        ],
    )  # fmt: skip
    def test_a_job_that_will_not_do(self, shell: Shell, old: str, new: str, parts: tuple[str, ...]) -> None:
        assert old in SMALL_JOB
        assert_error(shell.nas("search", shell.job(SMALL_JOB.replace(old, new)), "--inline"), *parts)
        assert shell.runs() == set()

    def test_a_space_of_one_architecture(self, shell: Shell) -> None:
        text = (
            SMALL_JOB.replace("[1, 2]", "[1]")
            .replace("[4, 16]", "[4]")
            .replace("[8, 32]", "[8]")
            .replace("[1, 4]", "[1]")
        )
        assert_error(shell.nas("search", shell.job(text), "--inline"), "one network")
        assert shell.runs() == set()

    @pytest.mark.parametrize(
        ("images", "parts"),
        [
            ({}, ("expected",)),
            ({"cat": 1}, ("cat",)),
            ({"cat": 9}, ("2 classes",)),
            ({"cat": 9, "dog": 1}, ("dog",)),
        ],
    )
    def test_an_image_folder_that_will_not_do(
        self, shell: Shell, images: dict[str, int], parts: tuple[str, ...]
    ) -> None:
        root = shell.folder / "images"
        root.mkdir()
        rng = np.random.default_rng(0)
        for name, n in images.items():
            (root / name).mkdir()
            for i in range(n):
                Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(root / name / f"{i}.png")
        text = SMALL_JOB.replace("{name: digits, validation: 0.25, test: 0.25}", "{name: image-folder, path: images}")
        assert_error(shell.nas("search", shell.job(text), "--inline"), "images", *parts)
        assert shell.runs() == set()

    def test_unknown_names(self, after: Shell) -> None:
        assert_error(after.nas("init", "digit-cnn"), "digits-cnn")
        assert_error(after.nas("show", "smal-1"), "small-1")
        assert_error(after.nas("export", "../small-1", "-o", "x.onnx"), "unknown run")
        assert_error(after.nas("plan", "nothing.yaml"), "nothing.yaml")
        assert_error(after.nas("export", "small-1", "--select", "speed<=1", "-o", "x.onnx"), "speed")

    def test_a_constraint_that_nothing_meets_names_the_nearest(self, after: Shell) -> None:
        answer = after.nas("export", "small-1", "--select", "latency_ms<=0.000001", "-o", "x.onnx")
        assert_error(answer, "nearest", "latency_ms@cpu-1-thread")
        assert not (after.folder / "x.onnx").exists()

    def test_export_into_nowhere(self, after: Shell) -> None:
        assert_error(after.nas("export", "small-1", "-o", "no/folder/x.onnx"), "no folder")
        assert_error(after.nas("export", "small-1", "-o", "x.pt"), ".onnx")
        assert_error(after.nas("export", "small-1", "-o", "x.onnx", "--index", "1", "--knee"), "one of")

    def test_a_truncated_checkpoint(self, after: Shell) -> None:
        (weights,) = (after.folder / "runs" / "small-1" / "checkpoint").glob("weights-*")
        weights.write_bytes(weights.read_bytes()[:100])
        assert_error(after.nas("export", "small-1", "-o", "x.onnx"), "truncated")
        assert not list(after.folder.glob("x.*"))

    def test_a_checkpoint_of_another_space(self, after: Shell) -> None:
        text = SMALL_JOB.replace("head: 32", "head: 16").replace("  family:", "  from: small-1\n  family:")
        assert_error(after.nas("search", after.job(text), "--inline"), "another space")
        assert after.runs() == {"small-1"}

    def test_weights_that_are_not_those_of_the_figures(self, after: Shell) -> None:
        """A checkpoint put in place of the one that was searched: neither exported nor resumed with the old figures."""
        text = SMALL_JOB.replace("seed: 3", "seed: 4").replace("name: small", "name: other")
        assert after.nas("train", after.job(text, "other.yaml")).code == 0
        own = after.folder / "runs" / "small-1" / "checkpoint"
        shutil.rmtree(own)
        shutil.copytree(after.folder / "runs" / "other-1" / "checkpoint", own)
        assert_error(after.nas("export", "small-1", "-o", "x.onnx"), "weights")
        assert not list(after.folder.glob("x.*"))

    def test_a_warm_start_that_will_not_do(self, after: Shell) -> None:
        job = yaml.safe_load(SMALL_JOB) | {"name": "warm"}

        def refused(run: str, changes: dict[str, object], *parts: str) -> None:
            path = after.job(yaml.safe_dump(job | changes | {"warm_start": [run]}), "warm.yaml")
            assert_error(after.nas("search", path, "--inline"), *parts)
            assert after.runs() == {"small-1"}

        refused("smal-1", {}, "warm_start: ", "unknown run", "small-1")
        refused("warm-1", {}, "unknown run", "warm-1")  # itself
        refused(
            "small-1",
            {"calibration_images": 20},
            "warm_start: run small-1",
            "calibration_images",
            "name a run that was made",
        )
        refused("small-1", {"seed": 4}, "warm_start: run small-1", "supernet, seed: was 3, is 4")
        refused("small-1", {"data": {"name": "digits", "validation": 0.2}}, "warm_start: run small-1", "data")
        space = {"preset": "digits"}
        refused("small-1", {"supernet": space}, "warm_start: run small-1", "space")
        refused("../small-1", {}, "warm_start[0]", "a list of runs")
        text = SMALL_JOB.replace("epochs: 4", "epochs: 1").replace("name: small", "name: other")
        assert after.nas("train", after.job(text, "other.yaml")).code == 0
        path = after.job(yaml.safe_dump(job | {"warm_start": ["other-1"]}), "warm.yaml")
        assert_error(after.nas("search", path, "--inline"), "warm_start other-1: it is no search")
        path = after.job(
            yaml.safe_dump(job | {"supernet": {"from": "other-1"}, "warm_start": ["small-1"]}), "warm.yaml"
        )
        assert_error(
            after.nas("search", path, "--inline"), "warm_start small-1: it searched another supernet", "weights"
        )

    def test_measurements_of_other_conditions_are_not_replayed(self, after: Shell) -> None:
        text = SMALL_JOB.replace("calibration_images: 300", "calibration_images: 20")
        answer = after.nas("search", after.job(text, "other.yaml"), "--inline", "--replay", "small-1")
        assert_error(answer, "small-1", "calibration_images", "300", "20")
        assert after.runs() == {"small-1"}

    def test_a_profile_that_changed_is_not_mixed_with_what_it_was(self, after: Shell) -> None:
        (after.folder / "mine.yaml").write_text("name: mine\nbatch_size: 2\n")
        job = yaml.safe_load(SMALL_JOB)
        job |= {"supernet": {"from": "small-1"}, "hardware": ["./mine.yaml"], "name": "own"}
        job["search"] = {"algorithm": "random", "evaluations": 3, "batch": 3}
        made = after.nas("search", after.job(yaml.safe_dump(job), "own.yaml"), "--inline", "--json")
        assert made.code == 0, made.err
        database = after.folder / "runs" / "own-1" / "run.db"
        with closing(SqlStore.open(database, create=False, driver=True)) as store:
            store.set_status(RunStatus.CANCELLED, reason="as if interrupted")
        (after.folder / "mine.yaml").write_text("name: mine\nbatch_size: 64\n")
        assert_error(after.nas("resume", "own-1"), "own-1", "profiles", "mine")

    def test_an_export_leaves_other_files_alone(self, after: Shell) -> None:
        (after.folder / "keep.json").write_text('{"mine": true}')
        assert_error(after.nas("export", "small-1", "-o", "keep.onnx"), "keep.json")
        assert json.loads((after.folder / "keep.json").read_text()) == {"mine": True}
        (after.folder / "own.safetensors").write_text("mine")
        assert_error(after.nas("export", "small-1", "-o", "own.onnx"), "own.safetensors", "no earlier export")
        assert (after.folder / "own.safetensors").read_text() == "mine"
        assert after.nas("export", "small-1", "-o", "twice.onnx").code == 0
        assert after.nas("export", "small-1", "--index", "0", "-o", "twice.onnx").code == 0

    def test_a_damaged_checkpoint_index_of_a_training(self, shell: Shell) -> None:
        assert shell.nas("train", shell.job(SMALL_JOB.replace("epochs: 4", "epochs: 1"))).code == 0
        (shell.folder / "runs" / "small-1" / "checkpoint" / "checkpoint.json").write_text("{")
        assert_error(shell.nas("show", "small-1"), "checkpoint.json", "train again")
        assert_error(shell.nas("plot", "small-1"), "no search", "supernet: {from: small-1}")

    def test_a_corrupt_store(self, after: Shell) -> None:
        database = after.folder / "runs" / "small-1" / "run.db"
        database.write_bytes(b"no database" * 1000)
        assert_error(after.nas("show", "small-1"), "run.db")
        (row,) = after.nas("runs", "--json").data
        assert row["status"] == "damaged"

    def test_a_run_that_another_driver_holds(self, after: Shell) -> None:
        held = SqlStore.open(after.folder / "runs" / "small-1" / "run.db", create=False, driver=True)
        try:
            assert_error(after.nas("resume", "small-1"), "another live driver", str(os.getpid()))
            (row,) = after.nas("runs", "--json").data
            assert row["live"] is True
        finally:
            held.close()

    def test_a_model_that_is_none(self, shell: Shell) -> None:
        (shell.folder / "model.onnx").write_bytes(b"not a model")
        assert_error(shell.nas("profile", "model.onnx"), "model.onnx")
        assert_error(shell.nas("profile", "absent.onnx"), "absent.onnx")

    def test_more_threads_than_cores(self, shell: Shell) -> None:
        (shell.folder / "big.yaml").write_text("name: big\nthreads: 512\n")
        text = SMALL_JOB.replace("[cpu-1-thread]", "[./big.yaml]")
        assert_error(shell.nas("plan", shell.job(text)), "512")

    def test_a_runs_folder_that_cannot_be_written(self, shell: Shell) -> None:
        (shell.folder / "taken").write_text("a file")
        assert_error(shell.nas("search", shell.job(), "--inline", "--runs", "taken"), "taken", "--runs")
