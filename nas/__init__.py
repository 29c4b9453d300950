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
    from nas.build.user_model import supernet_of as supernet_of
    from nas.config import load_job as load_job
    from nas.engine.driver import resume as resume
    from nas.engine.driver import search as run
    from nas.engine.driver import train as train
    from nas.engine.progress import ProgressObserver as ProgressObserver
    from nas.engine.run import Run as Run
    from nas.engine.run import open_run as open_run
    from nas.engine.run_options import RunOptions as RunOptions
    from nas.errors import NasError as NasError
    from nas.evaluation.base import Evaluator as Evaluator
    from nas.finetuning.run import finetune as finetune
    from nas.optimization.optimize import optimize as optimize
    from nas.optimization.parallel import Processes as Processes
    from nas.optimization.parallel import RayWorkers as RayWorkers
    from nas.optimization.result import OptimizationResult as OptimizationResult
    from nas.problem.budget import Budget as Budget
    from nas.problem.budget import Plateau as Plateau
    from nas.problem.objectives import Constraint as Constraint
    from nas.problem.objectives import Evaluation as Evaluation
    from nas.problem.objectives import Goal as Goal
    from nas.problem.objectives import Measurement as Measurement
    from nas.problem.objectives import Objective as Objective
    from nas.problem.objectives import Request as Request
    from nas.problem.objectives import Status as Status
    from nas.search.base import SearchAlgorithm as SearchAlgorithm
    from supernets.space import Architecture as Architecture
    from supernets.space import Choice as Choice
    from supernets.space import SearchSpace as SearchSpace

_HOMES = {
    "Architecture": "supernets.space",
    "Budget": "nas.problem.budget",
    "Choice": "supernets.space",
    "Constraint": "nas.problem.objectives",
    "Evaluation": "nas.problem.objectives",
    "Evaluator": "nas.evaluation.base",
    "Goal": "nas.problem.objectives",
    "Measurement": "nas.problem.objectives",
    "NasError": "nas.errors",
    "Objective": "nas.problem.objectives",
    "OptimizationResult": "nas.optimization.result",
    "Plateau": "nas.problem.budget",
    "Processes": "nas.optimization.parallel",
    "ProgressObserver": "nas.engine.progress",
    "RayWorkers": "nas.optimization.parallel",
    "Request": "nas.problem.objectives",
    "Run": "nas.engine.run",
    "RunOptions": "nas.engine.run_options",
    "SearchAlgorithm": "nas.search.base",
    "SearchSpace": "supernets.space",
    "Status": "nas.problem.objectives",
    "finetune": "nas.finetuning.run",
    "load_job": "nas.config",
    "open_run": "nas.engine.run",
    "optimize": "nas.optimization.optimize",
    "resume": "nas.engine.driver",
    "run": "nas.engine.driver:search",
    "supernet_of": "nas.build.user_model",
    "train": "nas.engine.driver",
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
