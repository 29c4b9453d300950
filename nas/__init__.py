"""Neural architecture search: joins supernets, predictors and hardware profiles into jobs, runs and fronts.

A job file, in three lines:

    run = nas.run(nas.load_job("digits-cnn.yaml"))
    print([dict(point.values) for point in run.front])
    run.export("digits.onnx", select="latency_ms<=0.02")

Search as a library, over an own space and function:

    result = nas.optimize(
        {"depth": [1, 2, 3], "width": [8, 16, 32]}, {"accuracy": "maximize", "latency_ms": "minimize"}, evaluate, budget=20
    )
    print([(point.described, point.values) for point in result.front])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.engine.evaluation.base import Evaluator
    from nas.engine.progress import ProgressObserver
    from nas.errors import NasError
    from nas.jobs.build.user_model import supernet_of
    from nas.jobs.run.run_options import RunOptions
    from nas.jobs.schema import load_job
    from nas.runs.driver import resume, train
    from nas.runs.driver import search as run
    from nas.runs.finetuning.run import finetune
    from nas.runs.optimization.optimize import optimize
    from nas.runs.optimization.parallel import Processes, RayWorkers
    from nas.runs.optimization.result import OptimizationResult
    from nas.runs.run import Run, open_run
    from nas.search.base import SearchAlgorithm
    from nas.search.problem.budget import Budget, Plateau
    from nas.search.problem.objectives import Constraint, Evaluation, Goal, Measurement, Objective, Request, Status
    from supernets.space import Architecture, Choice, SearchSpace

_HOMES = {
    name: module
    for module, names in {
        "nas.jobs.build.user_model": "supernet_of",
        "nas.jobs.schema": "load_job",
        "nas.runs.driver": "resume train",
        "nas.runs.driver:search": "run",
        "nas.engine.progress": "ProgressObserver",
        "nas.runs.run": "Run open_run",
        "nas.jobs.run.run_options": "RunOptions",
        "nas.errors": "NasError",
        "nas.engine.evaluation.base": "Evaluator",
        "nas.runs.finetuning.run": "finetune",
        "nas.runs.optimization.optimize": "optimize",
        "nas.runs.optimization.parallel": "Processes RayWorkers",
        "nas.runs.optimization.result": "OptimizationResult",
        "nas.search.problem.budget": "Budget Plateau",
        "nas.search.problem.objectives": "Constraint Evaluation Goal Measurement Objective Request Status",
        "nas.search.base": "SearchAlgorithm",
        "supernets.space": "Architecture Choice SearchSpace",
    }.items()
    for name in names.split()
}
"""The module of each public name, and its name there where that is another."""

__all__ = [
    "Architecture",
    "Budget",
    "Choice",
    "Constraint",
    "Evaluation",
    "Evaluator",
    "Goal",
    "Measurement",
    "NasError",
    "Objective",
    "OptimizationResult",
    "Plateau",
    "Processes",
    "ProgressObserver",
    "RayWorkers",
    "Request",
    "Run",
    "RunOptions",
    "SearchAlgorithm",
    "SearchSpace",
    "Status",
    "finetune",
    "load_job",
    "open_run",
    "optimize",
    "resume",
    "run",
    "supernet_of",
    "train",
]


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: the command's help needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    module, _, other = _HOMES[name].partition(":")
    return getattr(import_module(module), other or name)


def __dir__() -> list[str]:
    return __all__
