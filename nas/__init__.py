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
    from nas.build.user_model import supernet_of
    from nas.config import load_job
    from nas.engine.driver import resume, train
    from nas.engine.driver import search as run
    from nas.engine.progress import ProgressObserver
    from nas.engine.run import Run, open_run
    from nas.engine.run_options import RunOptions
    from nas.errors import NasError
    from nas.evaluation.base import Evaluator
    from nas.finetuning.run import finetune
    from nas.optimization.optimize import optimize
    from nas.optimization.parallel import Processes, RayWorkers
    from nas.optimization.result import OptimizationResult
    from nas.problem.budget import Budget, Plateau
    from nas.problem.objectives import Constraint, Evaluation, Goal, Measurement, Objective, Request, Status
    from nas.search.base import SearchAlgorithm
    from supernets.space import Architecture, Choice, SearchSpace

_HOMES = {
    name: module
    for module, names in {
        "nas.build.user_model": "supernet_of",
        "nas.config": "load_job",
        "nas.engine.driver": "resume train",
        "nas.engine.driver:search": "run",
        "nas.engine.progress": "ProgressObserver",
        "nas.engine.run": "Run open_run",
        "nas.engine.run_options": "RunOptions",
        "nas.errors": "NasError",
        "nas.evaluation.base": "Evaluator",
        "nas.finetuning.run": "finetune",
        "nas.optimization.optimize": "optimize",
        "nas.optimization.parallel": "Processes RayWorkers",
        "nas.optimization.result": "OptimizationResult",
        "nas.problem.budget": "Budget Plateau",
        "nas.problem.objectives": "Constraint Evaluation Goal Measurement Objective Request Status",
        "nas.search.base": "SearchAlgorithm",
        "supernets.space": "Architecture Choice SearchSpace",
    }.items()
    for name in names.split()
}
"""The module of each public name, and its name there where that is another."""

__all__ = [
    "Architecture", "Budget", "Choice", "Constraint", "Evaluation", "Evaluator", "Goal", "Measurement", "NasError", "Objective",
    "OptimizationResult", "Plateau", "Processes", "ProgressObserver", "RayWorkers", "Request", "Run", "RunOptions",
    "SearchAlgorithm", "SearchSpace", "Status", "finetune", "load_job", "open_run", "optimize", "resume", "run",
    "supernet_of", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: the command's help needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    module, _, other = _HOMES[name].partition(":")
    return getattr(import_module(module), other or name)


def __dir__() -> list[str]:
    return __all__
