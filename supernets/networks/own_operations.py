"""Operations of this project's own networks: functions of tensors that are one call each in a captured program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

NAMESPACE = "subnet_nas"
"""The namespace of the operations in torch's registry, and of their names in programs."""
FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""The function of each operation, by its name in programs without overload, ``subnet_nas.attend``."""
_LIBRARY = torch.library.Library(NAMESPACE, "DEF")
_RECORDING: ContextVar[bool] = ContextVar("recording", default=False)
Observer = Callable[[str, tuple[Any, ...], dict[str, Any]], None]
"""Is called with the name and the arguments of an own operation, before it computes."""
_OBSERVER: ContextVar[Observer | None] = ContextVar("observer", default=None)

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def recording() -> Iterator[None]:
    """The context in which a call of an own operation is one operation for torch's tracers, whatever it computes."""
    token = _RECORDING.set(True)
    try:
        yield
    finally:
        _RECORDING.reset(token)


def is_recording() -> bool:
    """Returns whether a forward is being captured, see `recording`."""
    return _RECORDING.get()


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """The context in which an observer is called with each own operation of the thread."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def own_operation(schema: str, shapes: Callable[..., Any] | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function of tensors an operation of programs; it computes as before, with gradients, except in `recording`.

    Its rules of dimensions, work and ONNX are registered by its name in `supernets.networks.operations`.

    Args:
        schema: the arguments and results as torch's registry writes them, ``(Tensor x, int size) -> Tensor``.
        shapes: the function for tensors without values, where the function itself reads or makes values; results must be
            new tensors.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = function.__name__
        _LIBRARY.define(f"{name}{schema}")
        _LIBRARY.impl(name, lambda *args, **kwargs: _new(function(*args, **kwargs)), "CompositeExplicitAutograd")
        fake = shapes or (lambda *args, **kwargs: _new(function(*args, **kwargs)))
        torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)
        operation = getattr(getattr(torch.ops, NAMESPACE), name).default

        def compute(*args: P.args, **kwargs: P.kwargs) -> R:
            # torch.compile cannot read variables of a context
            if not torch.compiler.is_dynamo_compiling() and _RECORDING.get():
                result: R = operation(*args, **kwargs)
                return result
            return function(*args, **kwargs)

        FUNCTIONS[f"{NAMESPACE}.{name}"] = compute

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            is_plain = not torch.compiler.is_dynamo_compiling() and not _RECORDING.get()
            if is_plain and (observer := _OBSERVER.get()) is not None:
                observer(name, args, kwargs)
            return compute(*args, **kwargs)

        return call

    return decorate


def _new(result: Any) -> Any:
    """Results that share no memory with arguments, as torch's registry requires."""
    return tuple(part.clone() for part in result) if isinstance(result, tuple) else result.clone()
