from .problem.budget import check_extension as check_extension
from .problem.evaluation_counts import EvaluationCounts as EvaluationCounts
from .problem.evaluation_counts import evaluations_text as evaluations_text
from .problem.objectives import ACCURACY as ACCURACY
from .problem.objectives import Goal as Goal
from .problem.objectives import Objective as Objective
from .problem.tasks import TaskMetrics as TaskMetrics
