"""`nas.optimize`: a search over an own space by the loop and the algorithms of jobs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeGuard

import nas.engine
from nas.engine.evaluation.base import Evaluator
from nas.engine.evaluation.metric_function import FunctionEvaluator, MetricFunction, name_of
from nas.engine.progress import ProgressObserver
from nas.engine.search_loop import search
from nas.engine.store.base import RunStore
from nas.engine.store.memory import MemoryStore
from nas.engine.store.run_facts import RunFacts, SearchFacts
from nas.errors import quoted
from nas.plugins import Kind, find, of_object
from nas.results.analysis.report import build_report
from nas.runs.optimization.arguments import (
    ConstraintsLike,
    ObjectivesLike,
    SpaceLike,
    check_kind,
    check_number,
    invalid,
    parse_budget,
    parse_constraints,
    parse_objectives,
    parse_space,
)
from nas.runs.optimization.parallel import Inline, Workers
from nas.runs.optimization.result import OptimizationResult
from nas.runs.optimization.stored_search import MADE_BY, begin_or_resume, recording_end
from nas.search.algorithms import ALGORITHMS
from nas.search.base import SearchAlgorithm, SearchProblem
from nas.search.named_predictors import plugin_of
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Objective, metrics_of
from nas.search.registry import make_algorithm, models_from
from predictors.base import Predictor
from supernets.space import SearchSpace

AlgorithmLike = str | Callable[..., SearchAlgorithm] | SearchAlgorithm


def optimize(
    space: SpaceLike,
    objectives: ObjectivesLike,
    evaluator: MetricFunction | Evaluator,
    *,
    algorithm: AlgorithmLike = "guided",
    predictor: str | type[Predictor] | None = None,
    budget: int | Budget = 100,
    store: RunStore | Path | str | None = None,
    seed: int = 1,
    batch: int = 8,
    constraints: ConstraintsLike = (),
    parallel: Workers | None = None,
    synchronous: bool = False,
    progress: bool | ProgressObserver = True,
    retry_failed: bool = False,
    accept_plugin_versions: bool = False,
) -> OptimizationResult:
    """Searches a space for the Pareto front of a function's metrics; needs neither torch nor Ray.

        result = nas.optimize(
            {"depth": [1, 2, 3], "width": [8, 16, 32]},
            {"accuracy": "maximize", "latency_ms": "minimize"},
            lambda values: {"accuracy": score(**values), "latency_ms": time(**values)},
            budget=20, store="search.db",
        )
        [(point.described, point.values) for point in result.front]

    The smallest and the largest candidate (the first and the last option of every choice) are evaluated first. With the
    candidates of the first ask, they set the hypervolume's reference point, so that the order of named options matters little.
    A candidate whose call raises, or returns no finite number for each metric, fails, and the search continues. Called
    again with the same store, it continues where it was interrupted, or with a larger budget.

    Args:
        space: A `SearchSpace`, or the options of independent choices by name, the smallest network first.
        objectives: ``"maximize"`` or ``"minimize"`` by metric; or `Objective`s, which have units, too.
        evaluator: A function of a candidate's options by name that returns its metrics by name, those of constraints
            included; or an `Evaluator`.
        algorithm: A name as in job files, ``module:Class``, a class (made of space, objectives, ``seed=`` and
            ``constraints=``), or a new object.
        predictor: The predictor on whose values the algorithm ``nsga2`` breeds: a name as in job files, ``module:Class`` or
            a class; None for none.
        budget: Number of evaluations, the smallest and the largest candidate included; or a `Budget`, which can limit the time
            and stop early, too.
        store: The path of a file that keeps the search (SQLite), an open store, or None to keep it in memory.
        seed: Seed of the algorithm, at least 0; equal seeds give equal searches, parallel ones if they are synchronous: else
            they depend on the order in which evaluations end, too.
        batch: Number of evaluations for which the algorithm is asked at once, where it does not ask for one at a time.
        constraints: ``{"latency_ms": {"max": 2.0}}``, or `Constraint`s: only what satisfies them is on the front.
        parallel: `RayWorkers` or `Processes`, for a function; None calls it in this process.
        synchronous: True to ask for a batch and wait for all of it in parallel, too. Else the algorithm is asked for one more
            candidate as soon as a worker is free, if it can be asked while others are evaluated: all that have names, but for
            those with models, `guided` and nsga2 with a predictor.
        progress: True to show progress where stderr is a terminal; or an observer of it.
        retry_failed: Evaluate again what failed in the store; so it is after a search that ended in an error.
        accept_plugin_versions: Continue a search whose algorithm's package has another version now.

    Raises:
        NasError: an argument is invalid (code ``optimize.invalid``), the algorithm takes no predictor (code
            ``algorithm.takes-no-predictor``), or the store holds another search (code ``run.incompatible``).
        PluginError: the algorithm lacks a method, or raises; or its package has another version than in the store.
        EvaluationError: the smallest and the largest candidate failed, or twenty in a row.
        StoreError: the store cannot be opened or written, or another process has it.
    """
    check_number("seed", seed, minimum=0)
    check_number("batch", batch, minimum=1)
    check_kind("store", store, ("record_ask", "add"), "a path, or an open RunStore", also=str | Path)
    check_kind("parallel", parallel, ("calling",), "nas.RayWorkers(n) or nas.Processes(n)")
    if not callable(algorithm):
        check_kind("algorithm", algorithm, ("ask", "tell"), "a name, a class or an object of an algorithm", also=str)
    made_space, wanted, limited = parse_space(space), parse_objectives(objectives), parse_budget(budget)
    limits = parse_constraints(constraints, wanted)
    problem = SearchProblem(made_space, wanted, seed, constraints=limits)
    name, implementation = (algorithm, None) if isinstance(algorithm, str) else ("", algorithm)
    searcher = make_algorithm(name, problem, implementation=implementation, predictor=predictor or "")
    facts = _facts(problem, algorithm, predictor or "", evaluator, batch)
    with ExitStack() as parts:
        opened = parts.enter_context(_opened(store))
        resumed = begin_or_resume(
            opened, facts, limited, retry_failed=retry_failed, accept_plugin_versions=accept_plugin_versions
        )
        measuring = parts.enter_context(_evaluator(evaluator, metrics_of(wanted, limits), made_space, parallel))
        observer = parts.enter_context(_observer(progress))
        with recording_end(opened):
            search(
                made_space,
                wanted,
                searcher,
                measuring,
                opened,
                resumed.budget,
                batch=batch,
                constraints=limits,
                retry_failures=resumed.retry_failures,
                synchronous=synchronous,
                on_progress=observer.progress,
            )
        return OptimizationResult(build_report(opened, run=facts.name), str(opened.state().stop or ""))


def is_evaluator(evaluator: MetricFunction | Evaluator) -> TypeGuard[Evaluator]:
    """Returns True for an `Evaluator`, False for a function."""
    return hasattr(evaluator, "evaluate") and hasattr(evaluator, "close")


def _facts(
    problem: SearchProblem,
    algorithm: AlgorithmLike,
    predictor: str | type[Predictor],
    evaluator: MetricFunction | Evaluator,
    batch: int,
) -> RunFacts:
    is_name = isinstance(algorithm, str)
    ref = find(Kind.SEARCH, str(algorithm), ALGORITHMS) if is_name else of_object(Kind.SEARCH, algorithm)
    name = str(algorithm) if ref is None else ref.name
    predictor_ref = plugin_of(predictor) if predictor else None
    predictor_name = str(predictor) if predictor_ref is None else predictor_ref.name
    search_facts = SearchFacts(
        space=problem.space,
        objectives=tuple(problem.objectives),
        constraints=tuple(problem.constraints),
        profiles=tuple(dict.fromkeys(o.profile for o in problem.objectives if o.profile is not None)),
        algorithm=name,
        predictor=predictor_name,
        models_from=models_from(name, problem.space, batch=batch, predictor=predictor_name),
    )
    plugins = tuple(plugin for plugin in (ref, predictor_ref) if plugin is not None)
    return RunFacts(
        name=name_of(evaluator), seed=problem.seed, compatibility=MADE_BY, search=search_facts, plugins=plugins
    )


@contextmanager
def _opened(store: RunStore | Path | str | None) -> Iterator[RunStore]:
    """The store to search with; a store that is open already stays open."""
    if store is None:
        yield MemoryStore()
    elif isinstance(store, str | Path):
        with closing(nas.engine.SqlStore.open(store, create=True, driver=True)) as opened:
            yield opened
    else:
        yield store


@contextmanager
def _evaluator(
    evaluator: MetricFunction | Evaluator, metrics: Sequence[Objective], space: SearchSpace, parallel: Workers | None
) -> Iterator[Evaluator]:
    """The evaluator itself, or one that calls the function."""
    if is_evaluator(evaluator):
        if parallel is not None:
            raise invalid("nas.optimize: parallel is for functions; an Evaluator distributes its measurements itself")
        yield evaluator
    elif callable(evaluator):
        with (parallel or Inline()).calling(evaluator, [metric.name for metric in metrics]) as calls:
            yield FunctionEvaluator(space, calls, name_of(evaluator))
    else:
        raise invalid(f"nas.optimize: evaluator is {quoted(repr(evaluator))}; expected a function or an Evaluator")


@contextmanager
def _observer(progress: bool | ProgressObserver) -> Iterator[ProgressObserver]:
    """The observer of the progress: a bar where stderr is a terminal."""
    if isinstance(progress, ProgressObserver):
        yield progress
    elif progress and sys.stderr.isatty():
        with nas.engine.ConsoleProgress() as bars:
            yield bars
    else:
        yield ProgressObserver()
