"""Makes the predictors that jobs name: shipped ones, and those of plug-ins, whose calls are checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nas.errors import PluginError, quoted
from nas.plugins import Kind, PluginRef, calling, check, construct, find, load, of_object
from predictors.base import Array, Prediction, Predictor
from predictors.registry import PREDICTORS, load_predictor

NamedPredictor = tuple[str, Callable[..., Predictor]]
"""A name, and a function that makes the predictor, unfitted, from ``layout``, ``n_columns``, ``positive`` and ``seed``."""


def find_predictor(predictor: str | type) -> NamedPredictor:
    """The predictor of a name, or of a class that a caller passed.

    Args:
        predictor: Name of a shipped predictor or a plug-in, ``module:Class``, or a class.

    Raises:
        UnknownNameError: There is none of this name.
        PluginError: The plug-in cannot be loaded, or lacks a method.
    """
    if not isinstance(predictor, str | type):
        expected = "expected a name, or a class, of which an object is made for each metric and step"
        raise PluginError(f"predictor={quoted(repr(predictor))}: {expected}", code="plugin.contract")
    ref = plugin_of(predictor)
    if ref is None:
        make = load_predictor(str(predictor))
        # A class is passed on as it is: `auto` has weights and intervals of its own.
        return str(predictor), make if isinstance(make, type) else _with_arguments_it_takes(make)
    implementation = load(ref, Predictor) if isinstance(predictor, str) else predictor
    check(ref, implementation, Predictor)
    return ref.name, _plugin_maker(ref, implementation)


def plugin_of(predictor: str | type) -> PluginRef | None:
    """The plug-in that a predictor's name or class refers to; None for a shipped name. Raises as `find_predictor`."""
    if isinstance(predictor, str):
        return find(Kind.PREDICTORS, predictor, PREDICTORS)
    return of_object(Kind.PREDICTORS, predictor)


def _with_arguments_it_takes(make: Callable[..., Predictor]) -> Callable[..., Predictor]:
    return lambda **arguments: make(**_accepted(make, arguments))


def _plugin_maker(ref: PluginRef, implementation: Any) -> Callable[..., Predictor]:
    def make(**arguments: Any) -> Predictor:
        accepted = _accepted(implementation, arguments)
        return CheckedPredictor(ref, construct(ref, implementation, settings={}, key="search.predictor", **accepted))

    return make


def _accepted(make: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments for which a function or a constructor has a parameter."""
    parameters = inspect.signature(make).parameters
    return {name: value for name, value in arguments.items() if name in parameters}


class CheckedPredictor:
    """A predictor of a plug-in whose answers are checked; what it raises names the plug-in."""

    def __init__(self, ref: PluginRef, inner: Predictor) -> None:
        self._ref, self._inner = ref, inner

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,)."""
        with calling(self._ref, "fit"):
            self._inner.fit(features, labels)

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d)."""
        with calling(self._ref, "predict"):
            prediction = self._inner.predict(features)
        if not isinstance(prediction, Prediction):
            raise self._wrong(f"expected a predictors.Prediction, got {type(prediction).__name__}")
        for name in ("mean", "std", "low", "high"):
            values = getattr(prediction, name)
            if np.shape(values) != (len(features),) or not np.isfinite(values).all():
                shape = f"({len(features)},)"
                raise self._wrong(f"expected finite numbers of shape {shape} as {name}, got shape {np.shape(values)}")
        return prediction

    def _wrong(self, fault: str) -> PluginError:
        return PluginError(f"{self._ref}: predict: {fault}")
