"""Jobs of a plug-in's task, and what is said where the task is wrong."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

import nas
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.task import plugin_task
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, parse_job
from nas.plugins import Kind, PluginRef
from supernets.tasks import Task
from supernets.tasks.multi_label import MultiLabel
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.plugin_packages import PluginPackages

TASK = """
from torch.nn import functional
from supernets.tasks import Metric, Score, Task

class Own(Task):
    name = "own"
    metrics = (Metric("right", "share"),)
    targets = "classes"

    def n_outputs(self, data):
        return data.n_classes

    def losses(self, outputs, targets):
        return functional.cross_entropy(outputs, targets, reduction="none")

    def score(self, metric, outputs, targets):
        right = outputs.argmax(axis=1) == targets
        return Score.of(float(right.mean()), right)
"""


def job() -> SearchJob:
    """A job of seconds."""
    text = SMALL_JOB.replace("epochs: 4, batch_size: 64", "epochs: 1, batch_size: 512")
    text = text.replace("[accuracy, latency_ms]", "[right, macs]")
    text = re.sub(r"search: .*", "search: {algorithm: random, evaluations: 4, batch: 2}", text)
    return parse_job(f"{text}task: kit:Own\n", source="job.yaml")


def options_of(folder: Path) -> RunOptions:
    return RunOptions(RunsFolder(folder / "runs"), inline=True)


def test_a_task_of_a_plugin_is_searched_and_exported(tmp_path: Path, plugin_packages: PluginPackages) -> None:
    plugin_packages.install("kit", {"kit": TASK})
    run = nas.run(job(), options_of(tmp_path))
    assert [objective.name for objective in run.report.objectives] == ["right", "macs"]
    assert run.export(tmp_path / "net.onnx")["agreement"] == 1.0


def test_it_has_everything_that_a_shipped_task_has() -> None:
    reference = PluginRef(Kind.TASKS, "multi-label", "supernets.tasks.multi_label:MultiLabel")
    checked = plugin_task(reference, MultiLabel)
    for name in (name for name in dir(Task) if not name.startswith("_")):
        own, theirs = getattr(checked, name), getattr(MultiLabel(), name)
        assert callable(own) if callable(theirs) else own == theirs, name
    assert copy.deepcopy(checked).metrics == checked.metrics


@pytest.mark.parametrize(
    ("old", "new", "code", "mentions"),
    [
        ('(Metric("right", "share"),)', "()", "plugin.contract", "at least one"),
        ('(Metric("right", "share"),)', '("right",)', "plugin.contract", "supernets.tasks.Metric"),
        ('Metric("right", "share")', 'Metric("Right")', "plugin.contract", "'Right'"),
        ('Metric("right", "share")', 'Metric("right"), Metric("macs")', "plugin.contract", "macs"),
        ('Metric("right", "share")', 'Metric("right"), Metric("mae")', "plugin.contract", "mae"),
        ('targets = "classes"', "def __init__(self, n): pass\n    targets = 'classes'", "job.missing-key", "n is missing"),
        ("return data.n_classes", "return str(data)", "plugin.failed", "n_outputs returned str; expected int"),
        ("return data.n_classes", "return 0", "plugin.failed", "n_outputs returned 0"),
        ('reduction="none")', 'reduction="mean")', "plugin.failed", "losses returned the shape ()"),
        ("return functional", "return 1 / 0; return functional", "plugin.failed", "losses raised ZeroDivisionError"),
        ("return Score.of", "return 0.5; return Score.of", "plugin.failed", "score returned float; expected Score"),
        ("Score.of(float(right.mean()), right)", "Score.of('much', right)", "plugin.failed", "'much'"),
        ("Score.of(float(right.mean()), right)", "Score.of(1.0, right[1:])", "plugin.failed", "examples of the shape"),
        ("float(right.mean())", "float('nan')", "evaluation.anchor-failed", "right of the task own is nan"),
    ],
)  # fmt: skip
def test_a_task_that_is_wrong_is_named(
    tmp_path: Path, plugin_packages: PluginPackages, old: str, new: str, code: str, mentions: str
) -> None:
    assert old in TASK
    plugin_packages.install("kit", {"kit": TASK.replace(old, new)})
    with raises(code, "own" if code.startswith("evaluation") else "task kit:Own (kit 0.1)", mentions):
        nas.run(job(), options_of(tmp_path))


def test_a_network_that_the_task_cannot_score_fails_and_the_search_goes_on(
    tmp_path: Path, plugin_packages: PluginPackages
) -> None:
    often = "import numpy; calls = globals().setdefault('calls', []); calls.append(1)"
    text = TASK.replace(
        "right = outputs", f"{often}\n        if len(calls) == 7: raise KeyError('seven')\n        right = outputs"
    )
    plugin_packages.install("kit", {"kit": text})
    run = nas.run(job(), options_of(tmp_path))
    failures = [m.reason for failed in run.failures() for m in failed.measurements]
    assert failures
    assert all("task kit:Own (kit 0.1): score raised KeyError" in reason for reason in failures)
    assert run.report.front
