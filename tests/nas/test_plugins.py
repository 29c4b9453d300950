"""Jobs with plug-ins, from the job file to the resumed run, and what is said where a plug-in is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.engine.evaluation.metric import MeasuredNetwork
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, parse_job
from nas.plugins import Kind, PluginRef
from nas.search.base import SearchAlgorithm
from nas.search.problem.objectives import Evaluation, Objective
from supernets.space import Architecture, SearchSpace
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.plugin_packages import PluginPackages

WALK = """
from nas.search.base import SearchAlgorithm

class Walk(SearchAlgorithm):
    def __init__(self, space, objectives, *, seed, constraints, start=0):
        self.rest = [a for a in space.enumerate() if a not in (space.smallest, space.largest)][start:]

    def ask(self, n):
        asked, self.rest = self.rest[:n], self.rest[n:]
        return asked

    def tell(self, evaluations): pass

    def replay(self, asked):
        self.rest = [a for a in self.rest if a not in asked]
        return list(asked)
"""
ENTRIES = {"search": {"walk": "walk_kit:Walk"}}


@pytest.fixture(scope="module", autouse=True)
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose supernet the jobs of this module search."""
    text = SMALL_JOB.replace("epochs: 4", "epochs: 1")
    options = RunOptions(RunsFolder(tmp_path_factory.mktemp("trained")))
    run = nas.train(parse_job(text, source="job.yaml"), options)
    _TRAINED.append(run.folder.path)
    return run.folder.path


_TRAINED: list[Path] = []


def job_of(search: str = "walk_kit:Walk, settings: {start: 3}", more: str = "") -> SearchJob:
    """A job of seconds: a supernet that is trained, and costs that need no measuring."""
    head, _, rest = SMALL_JOB.partition("supernet:")
    text = f"{head}supernet: {{from: {_TRAINED[-1]}}}\n{rest[rest.index('hardware:') :]}"
    text = re.sub(r"search: .*", f"search: {{algorithm: {search}, evaluations: 8, batch: 3}}", text)
    return parse_job(text.replace("[accuracy, latency_ms]", "[accuracy, macs]") + more, source="job.yaml")


def options_of(folder: Path) -> RunOptions:
    return RunOptions(RunsFolder(folder / "runs"), inline=True)


def asked_of(run: nas.runs.run.Run) -> list[str]:
    with run.store() as store:
        return [a.key for ask in store.asks() for a in ask]


def test_a_class_named_by_a_job_searches_and_its_package_is_recorded(
    tmp_path: Path, plugin_packages: PluginPackages
) -> None:
    plugin_packages.install("walk-kit", {"walk_kit": WALK}, version="2.1", entries=ENTRIES)
    run = nas.run(job_of("walk, settings: {start: 3}"), options_of(tmp_path))
    facts = run.facts
    assert facts is not None
    assert facts.plugins == (PluginRef(Kind.SEARCH, "walk", "walk_kit:Walk", "walk-kit", "2.1"),)
    assert facts.search is not None
    assert facts.search.algorithm == "walk"
    space = facts.search.space
    inner = [a.key for a in space.enumerate() if a not in (space.smallest, space.largest)]
    assert asked_of(run) == [space.smallest.key, space.largest.key, *inner[3:9]]

    # The run is read without the package, and resumed with the same version of it only.
    plugin_packages.install("walk-kit", {"walk_kit": WALK}, version="2.2")
    assert nas.open_run(run.id, tmp_path / "runs").job.search.settings == {"start": 3}
    assert run.report.algorithm == "walk"
    with raises("plugin.import", "algorithm walk", "walk-kit==2.1"):
        nas.resume(run.id, options_of(tmp_path), evaluations="+2")
    plugin_packages.install("walk-kit", {"walk_kit": WALK}, version="2.2", entries=ENTRIES)
    with raises("plugin.version", "walk-kit 2.1", "walk-kit 2.2", "walk-kit==2.1", "accept_plugin_versions"):
        nas.resume(run.id, options_of(tmp_path), evaluations="+2")
    with run.store() as store:
        assert store.status() is RunStatus.FINISHED
    accepting = RunOptions(RunsFolder(tmp_path / "runs"), inline=True, accept_plugin_versions=True)
    assert len(asked_of(nas.resume(run.id, accepting, evaluations="+2"))) == 10


@pytest.mark.parametrize(
    ("old", "new", "code", "mentions"),
    [
        ("return asked", "return asked + asked", "plugin.failed", ("ask", "expected")),
        ("return asked", "return asked[:1] * 2", "plugin.failed", ("asked for before",)),
        ("return asked", "return [a.genes for a in asked]", "plugin.failed", ("list of Architecture", "tuple")),
        ("return asked", "return None", "plugin.failed", ("list of Architecture", "NoneType")),
        ("return asked", "return [type(asked[0])((99,) * len(asked[0].genes))]", "plugin.failed", ("not in the space",)),
        ("return asked", "return 1 / 0", "plugin.failed", ("ask raised ZeroDivisionError",)),
        ("evaluations): pass", "evaluations): raise KeyError(3)", "plugin.failed", ("tell raised KeyError",)),
    ],
)  # fmt: skip
def test_an_algorithm_that_misbehaves_ends_the_run_with_a_reason_that_names_it(
    tmp_path: Path, plugin_packages: PluginPackages, old: str, new: str, code: str, mentions: Sequence[str]
) -> None:
    plugin_packages.install("walk-kit", {"walk_kit": WALK.replace(old, new)})
    with raises(code, "walk_kit:Walk (walk-kit 0.1)", *mentions):
        nas.run(job_of(), options_of(tmp_path))
    run = nas.open_run("small-1", tmp_path / "runs")
    with run.store() as store:
        assert store.status() is RunStatus.FAILED
        assert "walk_kit:Walk" in store.reason()


@pytest.mark.parametrize(
    ("text", "search", "code", "mentions"),
    [
        (WALK.replace("def ask(self, n)", "def ask(self)"), "walk_kit:Walk", "plugin.contract", ("ask",)),
        (WALK.replace("def ask", "def request"), "walk_kit:Walk", "plugin.contract", ("ask", "SearchAlgorithm")),
        (WALK.replace("*, seed, constraints, ", "*, "), "walk_kit:Walk", "plugin.contract", ("constructor", "seed")),
        (WALK, "walk_kit:Walk, settings: {strat: 1}", "job.unknown-key", ("did you mean 'start'?",)),
        (WALK, "walk_kit:Walk, settings: {start: x}", "plugin.failed", ("constructor raised TypeError",)),
        (WALK, "walk_kit:Work", "plugin.import", ("has no Work",)),
        ("import absent_part\n" + WALK, "walk_kit:Walk", "plugin.import", ("absent_part",)),
        (WALK, "unheard_of:Walk", "plugin.import", ("no module unheard_of", "pip install")),
    ],
)  # fmt: skip
def test_a_plugin_that_cannot_be_used_is_told_before_a_run_is_made(
    tmp_path: Path, plugin_packages: PluginPackages, text: str, search: str, code: str, mentions: Sequence[str]
) -> None:
    plugin_packages.install("walk-kit", {"walk_kit": text})
    with raises(code, *mentions):
        nas.run(job_of(search), options_of(tmp_path))
    assert not (tmp_path / "runs" / "small-1").exists()


def test_a_package_that_takes_a_shipped_name_is_told_where_the_name_is_used(
    tmp_path: Path, plugin_packages: PluginPackages
) -> None:
    plugin_packages.install("sly", {"sly": WALK}, entries={"search": {"random": "sly:Walk"}})
    with raises("plugin.shadows", "'sly'", "random", "sly:Walk"):
        nas.run(job_of("random"), options_of(tmp_path))
    nas.run(job_of("nsga2"), options_of(tmp_path))


class Backwards(SearchAlgorithm):
    """The space in reverse order."""

    def __init__(
        self, space: SearchSpace, objectives: Sequence[Objective], *, seed: int, constraints: Sequence[object]
    ) -> None:
        self.rest = [a for a in space.enumerate() if a not in (space.smallest, space.largest)]

    def ask(self, n: int) -> list[Architecture]:
        return [self.rest.pop() for _ in range(n)]

    def tell(self, evaluations: Sequence[Evaluation]) -> None: ...

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        return self.ask(len(asked))


def test_a_class_or_an_object_is_passed_from_python(tmp_path: Path) -> None:
    run = nas.run(job_of("random"), options_of(tmp_path), algorithm=Backwards)
    assert run.job.search.algorithm == f"{__name__}:Backwards"
    assert len(asked_of(nas.resume(run.id, options_of(tmp_path), evaluations="+2"))) == 10

    def make(space: SearchSpace, objectives: Sequence[Objective], **rest: object) -> SearchAlgorithm:
        return Backwards(space, objectives, seed=1, constraints=())

    other = nas.run(job_of("random"), options_of(tmp_path), algorithm=make)
    assert asked_of(other) == asked_of(run)[:8]
    with raises("plugin.object-needed", "algorithm=", "small-2"):
        nas.resume(other.id, options_of(tmp_path), evaluations="+2")
    resumed = nas.resume(other.id, options_of(tmp_path), evaluations="+2", algorithm=make)
    assert asked_of(resumed) == asked_of(run)

    # The run goes on as it began, or not at all.
    with raises("plugin.differs", "search.algorithm", ":Backwards was passed"):
        nas.resume(other.id, options_of(tmp_path), evaluations="+2", algorithm=Backwards)
    with raises("plugin.differs", "metrics.narrow", "not in the run"):
        nas.resume(run.id, options_of(tmp_path), evaluations="+2", metrics={"narrow": Narrow()})

    facts = run.facts
    assert facts is not None
    assert facts.search is not None
    made = Backwards(facts.search.space, (), seed=1, constraints=())
    assert asked_of(nas.run(job_of("random"), options_of(tmp_path), algorithm=made)) == asked_of(run)[:8]


def test_names_of_plugins_are_checked_when_a_job_is_read(plugin_packages: PluginPackages) -> None:
    plugin_packages.install("walk-kit", {"walk_kit": "raise ValueError"}, entries=ENTRIES)
    assert job_of("walk").plugins == {"search.algorithm": (Kind.SEARCH, "walk")}
    assert job_of("guided").plugins == {}
    with raises("job.unknown-name", "search.algorithm", "did you mean 'walk'?", "guided"):
        job_of("walkk")
    with raises("job.conflict", "search.settings", "guided"):
        job_of("guided, settings: {a: 1}")
    for settings in ("3", "{a b: 2}", "{a: .nan}"):
        with raises("job.invalid-value", "search.settings"):
            job_of(f"walk, settings: {settings}")


KIT = """
import numpy as np

class Energy:
    unit, goal, per_profile = "mJ", "minimize", False

    def __init__(self, pj_per_mac=4.6):
        self.pj = pj_per_mac

    def measure(self, network):
        return network.cost.macs * self.pj * 1e-9, 0.0

class Robustness:
    unit, goal, per_profile = "share", "maximize", False

    def measure(self, network):
        noise = np.random.default_rng(0).normal(0, 0.5, network.inputs.shape).astype(np.float32)
        right = network.outputs(network.inputs + noise).argmax(axis=1) == network.labels
        return float(right.mean()), float(right.std() / len(right) ** 0.5)

class Threads(Energy):
    unit, per_profile = "threads", True

    def measure(self, network):
        return float(network.profile.threads), 0.0
"""


def with_metrics(metrics: str, objectives: str, more: str = "") -> SearchJob:
    text = job_of("random").to_yaml()
    kept = "\n".join(line for line in text.splitlines() if not line.startswith(("objectives", "constraints")))
    return parse_job(f"{kept}\nobjectives: {objectives}\nmetrics: {metrics}\n{more}", source="job.yaml")


def values_of(run: nas.runs.run.Run, metric: str) -> dict[str, float | None]:
    with run.store() as store:
        return {m.request.architecture.key: m.value for m in store.measurements() if m.request.metric == metric}


def test_metrics_of_plugins_are_objectives_and_limits(tmp_path: Path, plugin_packages: PluginPackages) -> None:
    plugin_packages.install("kit", {"kit": KIT}, entries={"metrics": {"energy": "kit:Energy"}})
    job = with_metrics(
        "{energy_mj: {name: energy, settings: {pj_per_mac: 2.0}}, steady: kit:Robustness, threads: kit:Threads}",
        "[accuracy, energy_mj, steady]", "constraints: {threads: {max: 2}}",
    )  # fmt: skip
    run = nas.run(job, options_of(tmp_path))
    energies, macs = values_of(run, "energy_mj"), values_of(nas.run(job_of("random"), options_of(tmp_path)), "macs")
    assert energies == {key: pytest.approx(value * 2e-9) for key, value in macs.items() if value is not None}
    assert all(value is not None and 0 < value <= 1 for value in values_of(run, "steady").values())
    assert set(values_of(run, "threads").values()) == {1.0}

    # The run is shown with their units and goals where the package is gone.
    (plugin_packages.folder / "kit.py").unlink()
    plugin_packages.forget()
    report = nas.open_run(run.id, tmp_path / "runs").report
    assert [(m.name, m.unit, str(m.goal)) for m in report.metrics[1:]] == [
        ("energy_mj", "mJ", "minimize"), ("steady", "share", "maximize"), ("threads@cpu-1-thread", "threads", "minimize"),
    ]  # fmt: skip
    assert report.front


class Narrow:
    """The negative number of multiply-accumulates, from a class that is no part of a package."""

    unit, goal, per_profile = "MACs", "maximize", False

    def measure(self, network: MeasuredNetwork) -> tuple[float, float]:
        return -float(network.cost.macs), 0.0


def test_metrics_are_passed_from_python(tmp_path: Path) -> None:
    run = nas.run(job_of("random"), options_of(tmp_path), metrics={"narrow": Narrow()})
    assert [objective.name for objective in run.report.objectives] == ["accuracy", "macs", "narrow"]
    macs = values_of(run, "macs")
    assert values_of(run, "narrow") == {key: -(value or 0) for key, value in macs.items()}
    with raises("plugin.object-needed", "metrics="):
        nas.resume(run.id, options_of(tmp_path), evaluations="+2")
    nas.resume(run.id, options_of(tmp_path), evaluations="+2", metrics={"narrow": Narrow()})
    assert len(values_of(run, "narrow")) == 10


class Scaled(Narrow):
    """Likewise, in a unit that only the object knows."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def measure(self, network: MeasuredNetwork) -> tuple[float, float]:
        return -self.scale * network.cost.macs, 0.0


def test_each_object_is_passed_again_also_where_a_network_is_fine_tuned(tmp_path: Path) -> None:
    scaled = {"one": Scaled(1.0), "two": Scaled(2.0)}
    run = nas.run(job_of("random"), options_of(tmp_path), metrics=scaled)
    with raises("plugin.object-needed", "metrics="):
        nas.resume(run.id, options_of(tmp_path), evaluations="+2", metrics={"one": scaled["one"]})
    with raises("plugin.object-needed", "nas.finetune(", run.id, "metrics=..."):
        nas.finetune(run, options_of(tmp_path), epochs=1, index=0)
    tuned = nas.finetune(run, options_of(tmp_path), epochs=1, index=0, metrics=scaled)
    assert [two / one for one, two in zip(values_of(tuned, "one").values(), values_of(tuned, "two").values(), strict=True)
            if one and two] == [2.0]  # fmt: skip


def test_a_network_is_fine_tuned_without_the_metrics_of_limits(tmp_path: Path, plugin_packages: PluginPackages) -> None:
    plugin_packages.install("kit", {"kit": KIT})
    limits = "constraints: {energy_mj: {max: 1000}}"
    job = with_metrics("{energy_mj: kit:Energy, threads: kit:Threads}", "[accuracy, threads]", limits)
    tuned = nas.finetune(nas.run(job, options_of(tmp_path)), options_of(tmp_path), epochs=1, index=0)
    assert list(tuned.job.metrics) == ["threads"]


@pytest.mark.parametrize(
    ("passed", "code", "mentions"),
    [
        ({"metrics": {"latency_ms": Narrow()}}, "job.conflict", ("metrics.latency_ms", "shipped")),
        ({"metrics": {"Narrow": Narrow()}}, "job.invalid-value", ("'Narrow'", "energy_mj")),
        ({"task": Narrow()}, "plugin.contract", ("task=", "Narrow object", "a class")),
        ({"family": lambda spec: None}, "plugin.contract", ("family=", "a class")),
        ({"strategy": Narrow()}, "plugin.contract", ("strategy=", "a function")),
    ],
)
def test_what_cannot_be_passed_from_python_is_told(
    tmp_path: Path, passed: Any, code: str, mentions: Sequence[str]
) -> None:
    with raises(code, *mentions):
        nas.run(job_of("random"), options_of(tmp_path), **passed)
    assert not (tmp_path / "runs" / "small-1").exists()


ANSWERS = {
    "float('nan'), 0.0": "nan",
    "1.0, float('inf')": "inf",
    "1.0, -1.0": "at least 0",
    "'much', 0.0": "str",
    "None": "None",
    "1.0": "value and its standard error",
    "(1.0,)": "value and its standard error",
    "1.0, 2.0, 3.0": "value and its standard error",
    "1 / 0, 0.0": "measure raised ZeroDivisionError",
}
"""What a metric must not return, with what the reason of the failure mentions."""


def test_candidates_without_a_usable_value_fail_and_the_search_goes_on(
    tmp_path: Path, plugin_packages: PluginPackages
) -> None:
    """Each network after the smallest and the largest gets another answer."""
    text = KIT.replace(
        "        return network.cost.macs * self.pj",
        "        answer = ANSWERS[SEEN.setdefault(network.architecture, len(SEEN))]\n"
        "        return answer() if answer else (network.cost.macs * self.pj",
    ).replace("* 1e-9, 0.0", "* 1e-9, 0.0)")
    answers = ", ".join(f"lambda: ({answer})" for answer in ANSWERS)
    plugin_packages.install("kit", {"kit": f"{text}\nSEEN, ANSWERS = {{}}, [None, None, {answers}]\n"})
    job = with_metrics("{energy_mj: kit:Energy}", "[macs, energy_mj]").to_yaml()
    job = job.replace("evaluations: 8", f"evaluations: {2 + len(ANSWERS)}")
    run = nas.run(parse_job(job, source="job.yaml"), options_of(tmp_path))
    failures = [m.reason for failed in run.failures() for m in failed.measurements]
    assert len(failures) == len(ANSWERS)
    for message, mentions in zip(failures, ANSWERS.values(), strict=True):
        assert "metric kit:Energy (kit 0.1)" in message
        assert mentions in message
    assert run.report.front


@pytest.mark.parametrize(
    ("old", "new", "mentions"),
    [
        ("network.cost.macs", "network.cost.mass", ("AttributeError", "mass")),
        ("network.cost.macs", "float('nan')", ("nan", "finite")),
    ],
)
def test_a_metric_that_fails_is_found_before_the_training(
    tmp_path: Path, plugin_packages: PluginPackages, old: str, new: str, mentions: Sequence[str]
) -> None:
    plugin_packages.install("kit", {"kit": KIT.replace(old, new)})
    job = with_metrics("{energy_mj: kit:Energy}", "[macs, energy_mj]")
    with raises("plugin.failed", "metrics.energy_mj", "metric kit:Energy (kit 0.1)", "before the training", *mentions):
        nas.run(job, options_of(tmp_path))
    assert not (tmp_path / "runs" / "small-1").exists()


@pytest.mark.parametrize(
    ("old", "new", "metrics", "code", "mentions"),
    [
        ('"minimize"', '"smaller"', "kit:Energy", "plugin.contract", ("goal", "'smaller'", "minimize or maximize")),
        ("unit, goal", "unit_, goal", "kit:Energy", "plugin.contract", ("class attribute unit",)),
        ("def measure(self, network)", "def measure(self)", "kit:Energy", "plugin.contract", ("measure",)),
        ("", "", "{name: kit:Energy, settings: {pj: 3}}", "job.unknown-key", ("metrics.energy_mj.settings", "pj_per_mac")),
    ],
)  # fmt: skip
def test_a_metric_that_cannot_be_used_is_told_before_a_run_is_made(
    tmp_path: Path,
    plugin_packages: PluginPackages,
    old: str,
    new: str,
    metrics: str,
    code: str,
    mentions: Sequence[str],
) -> None:
    plugin_packages.install("kit", {"kit": KIT.replace(old, new) if old else KIT})
    with raises(code, *mentions):
        nas.run(with_metrics(f"{{energy_mj: {metrics}}}", "[macs, energy_mj]"), options_of(tmp_path))
    assert not (tmp_path / "runs" / "small-1").exists()


@pytest.mark.parametrize(
    ("metrics", "objectives", "code", "mentions"),
    [
        ("{latency_ms: kit:E}", "[macs, latency_ms]", "conflict", ("metrics.latency_ms", "shipped")),
        ("{energy_mj: kit:E}", "[macs, accuracy]", "conflict", ("metrics.energy_mj", "objective")),
        ("{Energy: kit:E}", "[macs, Energy]", "invalid-value", ("Energy", "energy_mj")),
        ("{energy_mj: kit}", "[macs, energy_mj]", "unknown-name", ("metrics.energy_mj.name", "'kit'")),
        ("{energy_mj: kit:E}", "[macs, energy_m]", "conflict", ("metrics.energy_mj",)),
        ("{energy_mj: kit:E}", "[macs, energy_mj@cpu]", "unknown-name", ("objectives[1]", "energy_mj")),
        ("{energy_mj: {name: kit:E, set: {}}}", "[macs, energy_mj]", "unknown-key", ("'settings'",)),
        ("{energy_mj: 3}", "[macs, energy_mj]", "invalid-value", ("metrics.energy_mj", "got 3")),
    ],
)
def test_metrics_of_job_files_are_checked(metrics: str, objectives: str, code: str, mentions: Sequence[str]) -> None:
    with raises(f"job.{code}", *mentions):
        with_metrics(metrics, objectives)


STRATEGY = """
from supernets.sharing.base import LabelLoss, Pass, Phase

class Pairs:
    def __init__(self, family, *, distill, pairs=1):
        self.space, self.pairs = family.space, pairs

    def phases(self, epochs):
        return [Phase("pairs", epochs)]

    def plan(self, phase, rng, batch_loss):
        sampled = [self.space.largest, *(self.space.sample(rng) for _ in range(self.pairs))]
        return [Pass(a, (LabelLoss(),)) for a in sampled]
"""


def training_of(strategy: str) -> SearchJob:
    """A training of one epoch by a strategy."""
    return parse_job(
        re.sub(r"training: .*", f"training: {{epochs: 1, strategy: {strategy}}}", SMALL_JOB), source="job.yaml"
    )


def test_a_strategy_of_a_plugin_trains(tmp_path: Path, plugin_packages: PluginPackages) -> None:
    plugin_packages.install("kit", {"kit": STRATEGY}, entries={"strategies": {"pairs": "kit:Pairs"}})
    run = nas.train(training_of("pairs, settings: {pairs: 2}"), options_of(tmp_path))
    facts = run.facts
    assert facts is not None
    assert facts.plugins == (PluginRef(Kind.STRATEGIES, "pairs", "kit:Pairs", "kit", "0.1"),)
    assert facts.compatibility["supernet"]["settings"] == {"pairs": 2}


@pytest.mark.parametrize(
    ("old", "new", "code", "mentions"),
    [
        ("return [Phase", "return [] and [Phase", "plugin.failed", "phases returned []"),
        ('"pairs", epochs', '"pairs", epochs + 1', "plugin.failed", "add up to 2; expected 1"),
        ("def plan(self, phase, rng, batch_loss)", "def plan(self, phase)", "plugin.contract", "plan"),
        ("return [Pass", "return [] and [Pass", "plugin.failed", "plan returned []"),
        ("return [Pass", "1 / 0; return [Pass", "plugin.failed", "plan raised ZeroDivisionError"),
        ("Pass(a, (", "Pass(type(a)((99,)), (", "plugin.failed", "not in the space"),
        ("def plan", "def at(self, progress): return 1\n\n    def plan", "plugin.failed", "plan raised AttributeError"),
        ("def plan", "optimizer = penalty = chosen_architecture = id\n\n    def plan", "plugin.contract", "learns a network"),
    ],
)  # fmt: skip
def test_a_strategy_that_misbehaves_is_named(
    tmp_path: Path, plugin_packages: PluginPackages, old: str, new: str, code: str, mentions: str
) -> None:
    plugin_packages.install("kit", {"kit": STRATEGY.replace(old, new)})
    with raises(code, "strategy kit:Pairs (kit 0.1)", mentions):
        nas.train(training_of("kit:Pairs"), options_of(tmp_path))
