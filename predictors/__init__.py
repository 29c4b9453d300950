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
    from predictors.base import Prediction as Prediction
    from predictors.base import Predictor as Predictor
    from predictors.errors import PredictorError as PredictorError
    from predictors.feature_columns import FeatureLayout as FeatureLayout
    from predictors.kernel_process import KernelProcess as KernelProcess
    from predictors.lightgbm import LightGBMPredictor as LightGBMPredictor
    from predictors.linear import ColumnLinearPredictor as ColumnLinearPredictor
    from predictors.linear import MeanPredictor as MeanPredictor
    from predictors.linear import RidgePredictor as RidgePredictor
    from predictors.model_selection import AutoPredictor as AutoPredictor
    from predictors.quality import Quality as Quality
    from predictors.transfer import KnownDevices as KnownDevices
    from predictors.transfer import TransferPredictor as TransferPredictor

_HOMES = {
    "AutoPredictor": "model_selection",
    "ColumnLinearPredictor": "linear",
    "FeatureLayout": "feature_columns",
    "KernelProcess": "kernel_process",
    "KnownDevices": "transfer",
    "LightGBMPredictor": "lightgbm",
    "MeanPredictor": "linear",
    "Prediction": "base",
    "Predictor": "base",
    "PredictorError": "errors",
    "Quality": "quality",
    "RidgePredictor": "linear",
    "TransferPredictor": "transfer",
}
"""The module of each public name."""

__all__ = [
    "AutoPredictor", "ColumnLinearPredictor", "FeatureLayout", "KernelProcess", "KnownDevices", "LightGBMPredictor",
    "MeanPredictor", "Prediction", "Predictor", "PredictorError", "Quality", "RidgePredictor", "TransferPredictor",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: LightGBM and scikit-learn take a second to load."""
    if name not in _HOMES:
        raise AttributeError(f"module 'predictors' has no attribute {name!r}")
    return getattr(import_module(f"predictors.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
