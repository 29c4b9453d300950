"""The commands as a user gives them: the whole path in one small run."""

from __future__ import annotations

import json
import sqlite3
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
from nas.engine.resumption import Resumption
from nas.engine.store.sql import SqlStore
from nas.jobs.build.measurement_reuse import prior_evaluations
from nas.search.problem.objectives import Fidelity, Status
from supernets.data import load_data
from tests.nas.commands import SMALL_JOB, Shell, assert_error


def test_search_prints_the_front_by_its_contract(searched: Path) -> None:
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


def test_show_says_more_of_the_same(after: Shell) -> None:
    made = json.loads((after.folder / "search.json").read_text())
    shown = after.nas("show", "small-1", "--json").data
    assert shown["front"] == made["front"]
    assert [o["name"] for o in shown["objectives"]] == ["accuracy", "latency_ms@cpu-1-thread"]
    assert set(shown["hypervolume"]["reference"]) == {"accuracy", "latency_ms@cpu-1-thread"}
    volumes = [v for _, v in shown["hypervolume"]["history"]]
    assert volumes == sorted(volumes)
    assert shown["failed"] == {}  # a busy machine's latencies have wide errors, and are values
    assert len(volumes) == 30
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
    assert "predicted against measured" in text.out
    assert "important genes for latency_ms@cpu-1-thread" in text.out
    assert "test accuracy" in text.out


def test_show_lists_the_steps_with_their_models(after: Shell) -> None:
    steps = after.nas("show", "small-1", "--steps", "--json").data
    assert steps == after.nas("show", "small-1", "--json").data["steps"]
    assert sum(step["proposed"] for step in steps) == 30
    models = steps[-1]["models"]
    assert models.keys() == {"accuracy", "latency_ms@cpu-1-thread"}
    assert all(sum(model["weights"].values()) == pytest.approx(1.0) for model in models.values())
    shown = after.nas("show", "small-1", "--steps").out
    assert f"{steps[-1]['bred']:,}" in shown
    together = "".join(shown.split())  # narrow tables divide names over lines
    assert all("".join(name.split()) in together for name in models["accuracy"]["weights"])
    assert "nas show small-1 --steps" in after.nas("show", "small-1").out
    refused = after.nas("show", "small-1", "--steps", "--failed")
    assert (refused.code, refused.out) == (2, "")
    assert "--steps" in refused.err


def test_runs_lists_it(after: Shell) -> None:
    (row,) = after.nas("runs", "--json").data
    assert (row["run"], row["kind"], row["status"], row["done"], row["live"]) == (
        "small-1", "search", "finished", 30, False,
    )  # fmt: skip
    assert "small-1" in after.nas("runs").out


def test_plot_draws_limits(after: Shell) -> None:
    (after.folder / "out").mkdir()
    paths = after.nas("plot", "small-1", "-o", "out", "--select", "latency_ms<=1", "--json").data["paths"]
    assert all(Path(p).parent.name == "out" for p in paths)
    page = (after.folder / "out" / "front.html").read_text()
    assert "plotly" in page.lower()
    assert 'src="http' not in page


def test_export_runs_where_only_onnxruntime_and_numpy_are(after: Shell) -> None:
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


def test_export_takes_the_most_accurate_that_satisfies_a_selection(after: Shell) -> None:
    front = json.loads((after.folder / "search.json").read_text())["front"]
    bound = front[-1]["values"]["latency_ms@cpu-1-thread"] * 1.0001
    made = after.nas("export", "small-1", "--select", f"latency_ms<={bound}", "-o", "m.onnx", "--json").data
    assert made["values"] == front[-1]["values"]


def test_profile_measures_the_exported_file(after: Shell) -> None:
    after.nas("export", "small-1", "--knee", "-o", "model.onnx")
    made = after.nas("profile", "model.onnx", "--profile", "cpu-1-thread", "--json").data
    assert {
        "profile", "latency_ms", "p50_ms", "samples", "resolution", "preempted_share", "protocol", "environment",
    } <= set(made)  # fmt: skip
    assert made["protocol"] == "interleaved-floor/v5"
    assert made["latency_ms"] > 0
    assert 0 <= made["resolution"] < 1


def test_the_same_seed_and_replayed_measurements_give_the_same_front(after: Shell) -> None:
    again = after.nas("search", "job.yaml", "--inline", "--replay", "small-1", "--json")
    assert again.code == 0, again.err
    first = json.loads((after.folder / "search.json").read_text())
    assert again.data["run"] == "small-2"
    assert again.data["front"] == first["front"]


def test_the_same_from_python(after: Shell) -> None:
    front = json.loads((after.folder / "search.json").read_text())["front"]
    run = nas.open_run("small-1", after.folder / "runs")
    assert [dict(p.values) for p in run.front] == [p["values"] for p in front]
    made = run.export(after.folder / "python.onnx", select="latency_ms<=1000")
    assert made["values"] == front[-1]["values"]
    assert nas.load_job(str(after.folder / "job.yaml")).name == "small"
    assert {"load_job", "run", "open_run"} <= set(dir(nas))
    with pytest.raises(AttributeError, match="attribute nothing"):
        nas.nothing  # noqa: B018


def test_only_the_final_figures_come_from_the_test_part(searched: Path) -> None:
    data = load_data("digits", validation=0.25, test=0.25)
    with nas.open_run("small-1", searched / "runs").store() as store:
        accuracies = [m for m in store.measurements() if m.request.metric == "accuracy"]
        final = {architecture.key for architecture in store.state().finalists}
    of_search = {m.data for m in accuracies if m.request.fidelity is Fidelity.SEARCH}
    of_test = {m.data for m in accuracies if m.request.fidelity is Fidelity.TEST}
    assert of_search == {data.validation.digest}
    assert of_test == {data.test.digest}
    tested = [m.request.architecture.key for m in accuracies if m.request.fidelity is Fidelity.TEST]
    assert set(tested) == final
    # Everything of the test part was measured after everything of the search.
    order = [m.request.fidelity for m in accuracies]
    assert order == sorted(order, key=lambda fidelity: fidelity is Fidelity.TEST)


@pytest.mark.slow
def test_your_own_images_on_two_profiles(shell: Shell) -> None:
    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images[:200], digits.target[:200], strict=True)):
        folder = shell.folder / "photos" / f"digit-{label}"
        folder.mkdir(parents=True, exist_ok=True)
        grey = (pixels * 15).astype(np.uint8)
        Image.fromarray(np.stack([grey, grey // 2, 255 - grey], axis=2)).save(folder / f"{i}.png")
    job = yaml.safe_load(SMALL_JOB)
    job["data"] = {"name": "image-folder", "path": "photos", "image_size": 12}
    job["training"] |= {"epochs": 1, "strategy": "single-path"}
    del job["training"]["random_subnets"]
    job["hardware"] = ["cpu-1-thread", "cpu-1-thread-batch-16"]
    names = ["accuracy", "latency_ms@cpu-1-thread", "latency_ms@cpu-1-thread-batch-16", "macs"]
    job["objectives"] = names
    job["search"] = {"algorithm": "random", "evaluations": 3, "batch": 2}
    made = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline", "--json")
    assert made.code == 0, made.err
    assert made.data["evaluations"] == 3
    assert all(list(point["values"]) == names for point in made.data["front"])
    assert all(point["errors"]["macs"] == 0 for point in made.data["front"])
    exported = shell.nas("export", made.data["run"], "-o", "photo.onnx", "--json").data
    assert exported["parity"] <= 1e-4
    for profile in job["hardware"]:
        alone = shell.nas("show", made.data["run"], "--profile", profile, "--json").data["front"]
        chosen = shell.nas("export", made.data["run"], "--profile", profile, "-o", f"{profile}.onnx", "--json").data
        assert chosen["key"] in [point["key"] for point in alone]
    facts = {p.key: p.value for p in onnx.load(shell.folder / "photo.onnx").metadata_props}
    assert json.loads(facts["input"])["shape"] == ["batch", 3, 12, 12]
    assert len(json.loads(facts["input"])["mean"]) == 3
    assert json.loads(facts["classes"])[0] == "digit-0"


def test_a_trained_run_is_searched_without_training(after: Shell) -> None:
    job = yaml.safe_load(SMALL_JOB)
    job["supernet"] = {"from": "small-1"}
    job["hardware"] = ["cpu-1-thread-batch-16"]
    job["search"] = {"algorithm": "nsga2", "evaluations": 6, "batch": 4}
    made = after.nas("search", after.job(yaml.safe_dump(job), "again.yaml"), "--inline", "--json")
    assert made.code == 0, made.err
    assert made.data["evaluations"] == 6
    assert not (after.folder / "runs" / "small-2" / "checkpoint").exists()


def test_a_finished_run_is_not_resumed(after: Shell) -> None:
    assert_error(after.nas("resume", "small-1"), "small-1 is finished", "nas resume small-1 --evaluations +50")
    assert_error(after.nas("resume", "small-1", "--evaluations", "29"), "small-1", "30 already", code="budget.invalid")
    assert_error(after.nas("resume", "small-1", "--minutes", "+5"), "30 evaluations are used up", code="budget.used-up")
    assert after.nas("runs", "--json").data[0]["status"] == "finished"


def test_a_finished_run_goes_on_with_more_to_spend(after: Shell) -> None:
    folder = after.folder / "runs" / "small-1"
    with closing(SqlStore.open(folder / "run.db", create=False, driver=True)) as store:
        asked = store.asks()
        Resumption("+4").apply(store, "small-1")  # and the driver was killed
        assert not store.state().finalists  # the front is chosen from all again
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


@pytest.mark.slow
def test_a_warm_start_takes_what_is_known_and_asks_first_for_what_was_good(after: Shell) -> None:
    job = yaml.safe_load(SMALL_JOB)
    job |= {"supernet": {"from": "small-1"}, "warm_start": ["small-1"], "name": "warm"}
    job["hardware"] = ["cpu-1-thread-batch-16", "cpu-1-thread"]
    job["objectives"] = ["accuracy", "latency_ms@cpu-1-thread-batch-16", "latency_ms@cpu-1-thread"]
    job["search"] = {"algorithm": "nsga2", "evaluations": 8, "batch": 4}
    path = after.job(yaml.safe_dump(job), "warm.yaml")
    made = after.nas("search", path, "--inline", "--json")
    assert made.code == 0, made.err
    assert "warm start from small-1: 30 networks are known in part" in made.err
    assert (made.data["evaluations"], made.data["known"]) == (8, 0)
    stores = [after.folder / "runs" / run / "run.db" for run in ("small-1", "warm-1")]
    with (
        closing(SqlStore.open(stores[0], create=False, driver=False)) as earlier,
        closing(SqlStore.open(stores[1], create=False, driver=False)) as warm,
    ):
        assert {m.request.profile for m in warm.measurements()} == {None, *job["hardware"]}
        known = earlier.find([m.request for m in warm.measurements()])
        assert {m.request.profile for m in known.values()} == {None, "cpu-1-thread"}
        # Noisy ones are measured again on the way, once the machine is calmer.
        calm = {r: m for r, m in known.items() if m.status is Status.OK}
        taken = warm.find(list(calm))
        assert {r: (m.value, m.error, m.seconds) for r, m in taken.items()} == {
            r: (m.value, m.error, m.seconds) for r, m in calm.items()
        }
        first, *_ = warm.asks()
        assert set(first) <= {a for step in earlier.asks() for a in step}
        # Killed and resumed, it learns the same: from its own store.
        learnt = prior_evaluations(warm.search_facts())
        assert len(learnt) == 30
        assert all(set(e.measurements) == {"accuracy", "latency_ms@cpu-1-thread"} for e in learnt)


def test_what_a_warm_start_knows_costs_no_evaluations_and_joins_the_front(after: Shell) -> None:
    job = yaml.safe_load(SMALL_JOB)
    job |= {"supernet": {"from": "small-1"}, "warm_start": ["small-1"], "name": "warm"}
    job["search"] |= {"evaluations": 2, "batch": 2}
    path = after.job(yaml.safe_dump(job), "warm.yaml")
    assert "guided: models choose from evaluation 1 on" in after.nas("plan", path, "--no-time").out
    made = after.nas("search", path, "--inline", "--json")
    assert made.code == 0, made.err
    assert "warm start from small-1: 30 networks are known, cost no evaluations" in made.err
    assert (made.data["evaluations"], made.data["known"]) == (2, 30)
    assert sum(made.data["counts"].values()) == 32
    (row,) = [row for row in after.nas("runs", "--json").data if row["run"] == "warm-1"]
    assert (row["done"], row["total"], row["known"]) == (2, 2, 30)
    earlier = after.nas("show", "small-1", "--json").data["front"]
    assert {point["key"] for point in earlier} & {point["key"] for point in made.data["front"]}
    with closing(SqlStore.open(after.folder / "runs" / "warm-1" / "run.db", create=False, driver=False)) as store:
        known, *asked = store.asks()
        assert len(known) == 30
        assert {point["key"] for point in earlier} <= {architecture.key for architecture in known}
        assert sum(map(len, asked)) == 2
    more = after.nas("resume", "warm-1", "--inline", "--evaluations", "+2", "--json")
    assert (more.data["evaluations"], more.data["known"]) == (4, 30)


def test_failures_are_counted_apart_listed_and_tried_again(after: Shell) -> None:
    with closing(sqlite3.connect(after.folder / "runs" / "small-1" / "run.db")) as database, database:
        database.execute("DELETE FROM samples")
        database.execute(
            "DELETE FROM measurements WHERE attempt > 0"
        )  # of latencies that were measured again: none is later
        chosen = "SELECT id FROM measurements WHERE metric = ? AND fidelity = 'search' ORDER BY id LIMIT 1 OFFSET ?"
        broken = "UPDATE measurements SET status = 'failed', value = NULL, error = NULL, message = ?, detail = ? WHERE id = ?"
        for metric, offset, message, detail in (
            ("latency_ms", 5, "latency is uncertain by 31%", '{"too_noisy": true}'), ("accuracy", 9, "it broke", "{}"),
        ):  # fmt: skip
            ((row,),) = database.execute(chosen, [metric, offset])
            database.execute(broken, [message, detail, row])
    data = after.nas("runs", "--json").data[0]
    counts = data["counts"]
    assert (data["done"], counts["too_noisy"], counts["failed"]) == (30, 1, 1)
    assert counts["measured"] + counts["noisy"] == 28
    assert "28 measured" in after.nas("runs").out
    shown = after.nas("show", "small-1")
    assert "1 too noisy, 1 failed" in shown.out
    assert "nas show small-1 --failed" in shown.out
    listed = after.nas("show", "small-1", "--failed", "--json").data["networks"]
    assert sorted(network["result"] for network in listed) == ["failed", "too-noisy"]
    assert {m["reason"] for network in listed for m in network["measurements"]} == {
        "it broke", "latency is uncertain by 31%"
    }  # fmt: skip
    text = after.nas("show", "small-1", "--failed").out
    assert "it broke" in text
    assert "nas resume small-1 --retry-failed" in text
    made = after.nas("resume", "small-1", "--inline", "--retry-failed", "--json")
    assert made.code == 0, made.err
    assert (made.data["status"], made.data["evaluations"]) == ("finished", 30)
    assert (made.data["counts"]["too_noisy"], made.data["counts"]["failed"]) == (0, 0)
    assert after.nas("show", "small-1", "--failed", "--json").data["networks"] == []
    assert_error(after.nas("resume", "small-1", "--retry-failed"), "small-1", code="run.nothing-failed")


def test_plan_warns_of_a_budget_that_ends_before_the_first_model(shell: Shell) -> None:
    job = SMALL_JOB.replace("evaluations: 30", "evaluations: 12")
    planned = shell.nas("plan", shell.job(job), "--no-time")
    assert "warning: guided: 12 evaluations end before there are models" in planned.out
    assert "from evaluation 17 on" in planned.out
    assert shell.nas("plan", shell.job(), "--no-time", "--json").data["models_from"] == 17


def test_plan_costs_nothing(shell: Shell) -> None:
    shell.monkeypatch.setenv("RAY_TMPDIR", str(shell.folder / "none"))  # where no cluster can start
    made = shell.nas("plan", shell.job(), "--json").data
    assert made["space"]["size"] == (2 * (2 + 4)) ** 2
    assert made["smallest"]["macs"] < made["largest"]["macs"]
    assert made["smallest"]["latency_ms@cpu-1-thread"] > 0
    assert sum(made["images"].values()) == 1797
    assert made["cut_sentences"] is None
    assert list(made["time"]) == ["start", "training", "search", "final", "report", "total"]
    assert 0 < made["memory"]["measured_mib"] < made["memory"]["mib"] < made["memory"]["high"]
    assert "for Ray" in made["memory"]["origin"]
    assert made["time"]["total"]["low"] <= made["time"]["total"]["seconds"] <= made["time"]["total"]["high"]
    assert shell.runs() == set()
    quick = shell.nas("plan", "job.yaml", "--no-time").out
    assert "smallest" in quick
    assert "training " not in quick


def test_plan_shows_the_space_and_what_can_be_measured_before_it_says_what_cannot(shell: Shell) -> None:
    (shell.folder / "gpu.yaml").write_text("name: gpu\nprovider: TensorrtExecutionProvider\n")
    job = SMALL_JOB.replace("hardware: [cpu-1-thread]", "hardware: [cpu-1-thread, ./gpu.yaml]")
    job = job.replace("[accuracy, latency_ms]", "[accuracy, latency_ms@cpu-1-thread, latency_ms@gpu]")
    planned = shell.nas("plan", shell.job(job), "--inline", "--json")
    assert (planned.code, planned.error) == (1, "profile.provider-unavailable")
    made = planned.data
    assert made["smallest"]["latency_ms@cpu-1-thread"] > 0
    assert "latency_ms@gpu" not in made["smallest"]
    assert made["time"] is None
    assert made["unmeasured"]["gpu"] in planned.err
    shown = shell.nas("plan", "job.yaml", "--inline")
    assert (shown.code, "MACs" in shown.out) == (1, True)
    assert "error: profile gpu needs the provider" in shown.err


def test_train_keeps_a_supernet_as_a_run(shell: Shell) -> None:
    made = shell.nas("train", shell.job(SMALL_JOB.replace("epochs: 4", "epochs: 2")), "--json").data
    assert (made["kind"], made["status"], made["epoch"], made["epochs"]) == ("training", "finished", 2, 2)
    shown = shell.nas("show", made["run"], "--json").data
    assert [e["epoch"] for e in shown["history"]] == [1, 2]
    (row,) = shell.nas("runs", "--json").data
    assert row["kind"] == "training"


def test_init_lists_and_writes_recipes(shell: Shell) -> None:
    names = {r["name"] for r in shell.nas("init", "--json").data}
    assert {"digits-cnn", "fashion-mnist-cnn", "fashion-mnist-vit"} <= names
    assert shell.nas("init", "digits-cnn").code == 0
    assert (shell.folder / "digits-cnn.yaml").is_file()
    assert_error(shell.nas("init", "digits-cnn"), "digits-cnn.yaml", code="file.exists")


def test_init_writes_the_schema_to_which_the_job_file_refers(shell: Shell) -> None:
    made = shell.nas("init", "digits-cnn", "--json").data
    schema = shell.folder / made["schema"]
    assert f"$schema={schema.name}\n" in (shell.folder / made["path"]).read_text()
    assert schema.read_text() == shell.nas("schema").out
    schema.write_text(schema.read_text().replace("guided", "old"))  # as of an earlier version
    assert shell.nas("init", "fashion-mnist-cnn").code == 0
    assert schema.read_text() == shell.nas("schema").out
    schema.write_text('{"title": "Mine"}')
    assert_error(shell.nas("init", "fashion-mnist-vit"), schema.name, code="file.exists")
    assert not (shell.folder / "fashion-mnist-vit.yaml").exists()


def test_profiles_are_listed(shell: Shell) -> None:
    assert {"cpu-1-thread", "cpu-2-threads"} <= {p["name"] for p in shell.nas("profiles", "--json").data}
    assert "cpu-1-thread-batch-16" in shell.nas("profiles").out
