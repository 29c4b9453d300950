"""Contract tests of what only this project implements: stores, evaluators, latency profilers, predictors."""

import pytest

for _module in ("evaluator", "latency_profiler", "predictor", "store"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")  # so that failures show values
