"""Workers for an `ActorPool` that do as their task says: sleep, raise, hang, or end their process; they start soon."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from nas.engine.evaluation.actors import PoolActor

_FOR_EVER_S = 10_000.0


@dataclass(frozen=True, slots=True)
class Errand:
    """What to do with a number.

    Attributes:
        how: ``square`` it; ``raise``, ``hang`` or ``die`` instead; ``die once`` and then square it.
        diary: a folder in which each try leaves a file named by the node that it was on.
    """

    number: int
    how: str = "square"
    seconds: float = 0.0
    diary: Path | None = None


class Errands:
    """Does errands, and none any more once it was given two at a time."""

    def __init__(self) -> None:
        self._under_way = 0

    def __call__(self, errand: Errand) -> int:
        self._under_way += 1
        if self._under_way > 1:
            raise RuntimeError("two errands at a time")
        try:
            return self._do(errand)
        finally:
            self._under_way -= 1

    def _do(self, errand: Errand) -> int:
        n_before = 0
        if errand.diary is not None:
            n_before = len(list(errand.diary.iterdir()))
            (errand.diary / f"{n_before}-{ray.get_runtime_context().get_node_id()}").touch()
        time.sleep(errand.seconds)
        if errand.how == "raise":
            raise RuntimeError(f"no square of {errand.number}")
        if errand.how == "hang":
            time.sleep(_FOR_EVER_S)
        if errand.how == "die" or (errand.how == "die once" and not n_before):
            os._exit(1)
        return errand.number**2


class Overtaken(PoolActor):
    """An actor at which number 0 arrives after the task that was sent after it."""

    patience_s = 60.0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._other = threading.Event()

    def do(self, turn: int, task: Errand) -> int:
        if task.number == 0:
            self._other.wait(60.0)
        self._other.set()
        return int(super().do(turn, task))


class Stillborn:
    """Never starts."""

    def __init__(self) -> None:
        raise ModuleNotFoundError("No module named 'supernets'")
