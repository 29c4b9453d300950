"""Times trainings in turns, so that other load affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from supernets.training.training_loop import Loop


def seconds_in_turns(loops: Mapping[str, tuple[Loop, int]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """CPU seconds of an epoch of each training, (rounds,), after a warm-up round.

    Args:
        loops: by name, each with the number of the epoch that is repeated.
    """
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds + 1):
        for name, (loop, epoch) in loops.items():
            started = time.process_time()
            loop.run_epoch(epoch, lambda step, n, loss: None)
            seconds[name].append(time.process_time() - started)
    return {name: np.array(taken[1:]) for name, taken in seconds.items()}
