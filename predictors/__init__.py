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

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: LightGBM and scikit-learn take a second to load.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
