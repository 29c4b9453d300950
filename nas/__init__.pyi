from .engine.evaluation.base import Evaluator as Evaluator
from .engine.progress import ProgressObserver as ProgressObserver
from .errors import NasError as NasError
from .jobs.build.user_model import supernet_of as supernet_of
from .jobs.run.run_options import RunOptions as RunOptions
from .jobs.schema import load_job as load_job
from .runs.compression.run import compress as compress
from .runs.driver import resume as resume
from .runs.driver import run as run
from .runs.driver import train as train
from .runs.finetuning.run import finetune as finetune
from .runs.optimization.optimize import optimize as optimize
from .runs.optimization.parallel import Processes as Processes
from .runs.optimization.parallel import RayWorkers as RayWorkers
from .runs.optimization.result import OptimizationResult as OptimizationResult
from .runs.run import Run as Run
from .runs.run import open_run as open_run
from .search.base import SearchAlgorithm as SearchAlgorithm
from .search.problem.budget import Budget as Budget
from .search.problem.budget import Plateau as Plateau
from .search.problem.objectives import (
    Constraint as Constraint,
)
from .search.problem.objectives import (
    Evaluation as Evaluation,
)
from .search.problem.objectives import (
    Goal as Goal,
)
from .search.problem.objectives import (
    Measurement as Measurement,
)
from .search.problem.objectives import (
    Objective as Objective,
)
from .search.problem.objectives import (
    Request as Request,
)
from .search.problem.objectives import (
    Status as Status,
)
from .search.space import Architecture as Architecture
from .search.space import Choice as Choice
from .search.space import SearchSpace as SearchSpace
