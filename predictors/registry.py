"""The shipped predictors by the names that job files give them (no numpy, since every job file is checked by it)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

PREDICTORS: Mapping[str, str] = {
    "auto": "model_selection:AutoPredictor",
    "lightgbm": "single_models:lightgbm",
    "lightgbm-linear": "single_models:lightgbm_linear",
    "ridge": "single_models:ridge",
    "gaussian-process": "single_models:gaussian_process",
}
"""``module:function``, or a class, below `predictors`; it is called with those of ``layout``, ``n_columns``, ``positive`` and
``seed`` that it takes, see `single_models`."""


def load_predictor(name: str) -> Callable[..., Any]:
    """The function that makes the shipped predictor of a name, unfitted."""
    module, _, attribute = PREDICTORS[name].partition(":")
    make: Callable[..., Any] = getattr(import_module(f"predictors.{module}"), attribute)
    return make
