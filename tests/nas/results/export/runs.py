"""A made-up run whose every figure follows from a formula, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nas.engine.store.base import Fit, RunStatus, RunStore
from nas.engine.store.memory import MemoryStore
from nas.results.analysis.finetuned_runs import Finetuning
from nas.results.analysis.finetuning_improvement import Change, FinetunedNetwork, Improvement
from nas.results.analysis.network_values import Point, Points
from nas.results.analysis.report import RunReport
from nas.results.analysis.significance import Comparison
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Constraint, Fidelity, Measurement, Objective, Status, Variant, metrics_of
from nas.search.problem.variants import Variants
from supernets.space import Architecture, Choice, SearchSpace
from tests.contracts.run_facts import search_facts

PROFILE = "cpu-1-thread"
BOARD = "board"
TWO = ("accuracy", f"latency_ms@{PROFILE}")
FOUR = (*TWO, "macs", "parameters")
N_IMAGES = 1000
NOISE_FLOOR = 0.02

SPACE = SearchSpace(
    [
        Choice("depth", (1, 2, 3)),
        *(Choice(f"stage{i}.width", (8, 16, 24, 32)) for i in range(3)),
        Choice("block2.kernel", (3, 5), requires=("depth", 1)),
        Choice("block3.kernel", (3, 5, 7), requires=("depth", 2)),
    ]
)


def table_of(space: SearchSpace, names: Sequence[str], points: Sequence[Point]) -> Points:
    """The table of some measured points that have these figures."""
    return Points(
        space, [p.key for p in points], names,
        np.array([[p.values[name] for name in names] for p in points]),
        np.array([[p.errors[name] for name in names] for p in points]),
        np.array([p.committed for p in points]),
        np.array([p.fidelity is Fidelity.FINAL for p in points]),
        {i: p.test for i, p in enumerate(points) if p.test is not None},
    )  # fmt: skip


def effort(architecture: Architecture) -> float:
    """How large the network is, in [0, 1]; half as large in int8, whose gene 0 comes last where there are precisions."""
    network = architecture.genes[: len(SPACE)]
    whole = sum(max(gene, 0) for gene in network) / sum(int(n) - 1 for n in SPACE.levels)
    return whole * (0.5 if architecture.genes[len(SPACE) :] == (0,) else 1.0)


def answers(architecture: Architecture) -> NDArray[np.uint8]:
    """Which of the images the network gets right: harder ones need more effort, some are luck."""
    luck = np.random.default_rng(abs(hash(architecture.genes)) % 2**32).random(N_IMAGES) < 0.03
    difficulty = np.linspace(0, 1.0, N_IMAGES)
    reach = 0.72 + 0.2 * effort(architecture) ** 0.5
    right: NDArray[np.bool_] = (difficulty < reach) ^ luck
    return right.astype(np.uint8)


def figure(architecture: Architecture, objective: Objective) -> tuple[float, float]:
    """The search figure and its error."""
    size = effort(architecture)
    wobble = 1 + 0.3 * (abs(hash(architecture.genes)) % 97) / 97
    match objective.metric:
        case "accuracy":
            share = float(answers(architecture).mean())
            return share, float(np.sqrt(share * (1 - share) / N_IMAGES))
        case "latency_ms":
            latency = 0.08 * float(np.exp(3.2 * size)) * wobble
            if objective.profile == BOARD:  # wobbles the other way, so that other networks are its best
                latency = 2.0 * float(np.exp(1.5 * size)) / wobble**2
            return latency, NOISE_FLOOR * latency
        case "macs":
            return 1e6 * float(np.exp(4 * size)), 0.0
        case _:
            return float(round(2e4 * (1 + 10 * size * wobble))), 0.0


def trained_further(report: RunReport) -> tuple[Finetuning, Finetuning]:
    """The front's first member, 5 points better and as fast to within 2 %, and another whose training was interrupted."""
    before, other = report.front[0], report.front[1]
    values = {**before.values, "accuracy": before.values["accuracy"] + 0.05}
    after = replace(before, values={name: v if name == "accuracy" else v * 1.02 for name, v in values.items()})
    comparison = Comparison(0.05, 0.01, "paired")
    change = Change(before.values["accuracy"], values["accuracy"], comparison)
    of = FinetunedNetwork(report.run, before.architecture, Variant(), before.key)
    improvement = Improvement(of, 2, 3, {"validation": change})
    done = Finetuning("b-1", of, "finished", False, "", 3, 3, report.columns, before, after, improvement)
    left = Finetuning("b-2", replace(of, key=other.key), "running", False, "", 1, 3, before=other)
    return done, left


def measure(
    store: RunStore,
    architecture: Architecture,
    objectives: Sequence[Objective],
    fidelity: Fidelity = Fidelity.SEARCH,
    variants: Variants = Variants(),  # noqa: B008 - a frozen value
) -> None:
    """Adds the measurements of one architecture; final latencies come out 10 % lower, with half the error."""
    for objective in objectives:
        value, error = figure(architecture, objective)
        if fidelity is Fidelity.FINAL:
            value, error = 0.9 * value, 0.5 * 0.9 * error
        bits = np.packbits(answers(architecture)).tobytes() if objective.metric == "accuracy" else None
        detail = {"images": N_IMAGES} if bits is not None else {}
        request = variants.request(architecture, objective, fidelity)
        store.add(Measurement(request, Status.OK, value, error, data="images", detail=detail, samples=bits))


def fail(store: RunStore, architecture: Architecture, objectives: Sequence[Objective]) -> None:
    """Adds measurements of which the last failed."""
    measure(store, architecture, objectives[:-1])
    request = Variants().request(architecture, objectives[-1])
    store.add(Measurement(request, Status.FAILED, None, None, message="the worker died"))


def predict(store: RunStore, step: int, architectures: Sequence[Architecture], objectives: Sequence[Objective]) -> None:
    """Records fits that predict the true figures, 1 % too high, by two models of which the second gains weight."""
    for objective in objectives:
        pairs = {a.key: [1.01 * figure(a, objective)[0], 0.05 * figure(a, objective)[0]] for a in architectures}
        quality = {"mape": 0.1 / step, "kendall_tau": 0.8}
        weights = {"ridge": 1 - step / 10, "LightGBM": step / 10}
        evolution = {"generations": 15, "bred": 1200 + step, "candidates": 900}
        fit = {"quality": quality, "weights": weights, "evolution": evolution, "predictions": pairs}
        store.record_fit(Fit(step, objective.name, fit))


def example_run(
    names: Sequence[str] = TWO,
    *,
    n: int = 40,
    final: bool = True,
    name: str = "digits-cnn",
    algorithm: str = "guided",
    variants: Variants = Variants(),  # noqa: B008 - a frozen value
    limits: Mapping[str, tuple[float | None, float | None]] | None = None,
    n_final: int | None = None,
    store: RunStore | None = None,
) -> RunStore:
    """A finished search of `n` evaluations in steps of ten after the smallest and the largest.

    Args:
        limits: constraints as (least, most) by figure.
        n_final: how many of the networks are measured again, the first told; None is all.
        store: where to, if not into memory.
    """
    store = MemoryStore() if store is None else store
    profiles = [PROFILE, BOARD] if any(BOARD in name for name in [*names, *(limits or {})]) else [PROFILE]
    objectives = [Objective.parse(o, profiles) for o in names]
    constraints = [Constraint(Objective.parse(o, profiles), *bounds) for o, bounds in (limits or {}).items()]
    figures = metrics_of(objectives, constraints)
    rng = np.random.default_rng(0)
    space = variants.space(SPACE)
    pool = list(dict.fromkeys(space.sample(rng) for _ in range(4 * n)))
    pool = [a for a in pool if a not in (space.smallest, space.largest)]
    told, spare = pool[: n - 2], pool[n - 2 : n + 28]
    anchors = [space.smallest, space.largest]
    facts = search_facts(
        space, names, profiles=profiles, name=name, constraints=tuple(constraints), variants=variants,
        algorithm=algorithm,
    )  # fmt: skip
    store.describe(facts, budget=Budget(n))
    ends = [[figure(a, o)[0] for a in anchors] for o in objectives]
    reference = []
    for objective, (small, large) in zip(objectives, ends, strict=True):
        worst = max(objective.sign * small, objective.sign * large)
        reference.append(objective.sign * (worst + 0.1 * abs(large - small)))
    store.update_state(reference=tuple(reference))
    for step, batch in enumerate([anchors, *(told[i : i + 10] for i in range(0, len(told), 10))]):
        store.record_ask(step, batch)
        for architecture in batch:
            measure(store, architecture, figures, variants=variants)
        if step:
            predict(store, step, [*batch, *spare], objectives)
    if final:
        measured_again = [*anchors, *told][:n_final]
        store.update_state(finalists=tuple(measured_again))
        test = [Objective.parse("accuracy", [])]
        for architecture in measured_again:
            measure(store, architecture, [o for o in figures if o.profile], Fidelity.FINAL, variants)
            measure(store, architecture, test, Fidelity.TEST, variants)
        store.set_status(RunStatus.FINISHED, reason="the budget of evaluations is used up")
    return store
