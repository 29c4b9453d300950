"""What networks are trained and scored for: loss, metrics, distillation, and what an export must keep."""

from supernets.tasks.base import Metric, Score, Task
from supernets.tasks.classification import CLASSIFICATION, Classification
from supernets.tasks.imitation import Imitation
from supernets.tasks.language_modelling import LanguageModelling
from supernets.tasks.multi_label import MultiLabel
from supernets.tasks.regression import Regression
from supernets.tasks.segmentation import Segmentation

__all__ = [
    "CLASSIFICATION",
    "Classification",
    "Imitation",
    "LanguageModelling",
    "Metric",
    "MultiLabel",
    "Regression",
    "Score",
    "Segmentation",
    "Task",
]
