"""Predictors of latency and accuracy: feature rows and labels in, means and intervals out (numpy, no torch).

import numpy as np
from predictors import AutoPredictor, FeatureLayout

rng = np.random.default_rng(0)
depth, width = rng.integers(1, 6, size=40), rng.integers(8, 65, size=40)
features = np.column_stack([depth * width, depth, width]).astype(float)
latency_ms = 0.1 + 0.002 * depth * width * rng.normal(1, 0.02, size=40)
model = AutoPredictor(layout=FeatureLayout(macs=0, aggregates=(0,)), positive=True, seed=0)
model.fit(features[:30], latency_ms[:30])
found = model.predict(features[30:])
print(np.mean((found.low <= latency_ms[30:]) & (latency_ms[30:] <= found.high)))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictors.base import Prediction, Predictor
    from predictors.errors import PredictorError
    from predictors.feature_columns import FeatureLayout
    from predictors.kernel_process import KernelProcess
    from predictors.lightgbm import LightGBMPredictor
    from predictors.linear import ColumnLinearPredictor, MeanPredictor, RidgePredictor
    from predictors.model_selection import AutoPredictor
    from predictors.quality import Quality
    from predictors.transfer import KnownDevices, TransferPredictor

_HOMES = {
    name: module
    for module, names in {
        "base": "Prediction Predictor",
        "errors": "PredictorError",
        "feature_columns": "FeatureLayout",
        "kernel_process": "KernelProcess",
        "lightgbm": "LightGBMPredictor",
        "linear": "ColumnLinearPredictor MeanPredictor RidgePredictor",
        "model_selection": "AutoPredictor",
        "quality": "Quality",
        "transfer": "KnownDevices TransferPredictor",
    }.items()
    for name in names.split()
}
"""The module of each public name."""

__all__ = [
    "AutoPredictor",
    "ColumnLinearPredictor",
    "FeatureLayout",
    "KernelProcess",
    "KnownDevices",
    "LightGBMPredictor",
    "MeanPredictor",
    "Prediction",
    "Predictor",
    "PredictorError",
    "Quality",
    "RidgePredictor",
    "TransferPredictor",
]


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: LightGBM and scikit-learn take a second to load."""
    if name not in _HOMES:
        raise AttributeError(f"module 'predictors' has no attribute {name!r}")
    return getattr(import_module(f"predictors.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
