"""What is shown of a network's outputs beside its metrics: those of some examples, and tables of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Illustration:
    """Outputs of a network on a part of the data, as pictures and charts show them.

    Attributes:
        examples: (k,), int64: positions of the examples that are shown; they depend on the labels alone, and so are the same
            for all networks.
        outputs: (k, ...): scored outputs of these examples.
        tables: Arrays by name, of the shapes that the task states, over all examples.
    """

    examples: NDArray[np.int64]
    outputs: NDArray[Any]
    tables: Mapping[str, NDArray[Any]]


def varied_examples(shows: NDArray[np.bool_], n: int) -> NDArray[np.int64]:
    """Positions of examples that show many classes, ascending, (at most n,).

    Each is the first of those with most classes that the ones before it do not show; once every class is shown, it begins anew.

    Args:
        shows: (examples, classes), True where an example shows a class.
        n: Number of examples; fewer where there are fewer.
    """
    chosen: list[int] = []
    missing = np.ones(shows.shape[1], dtype=np.bool_)
    is_free = np.ones(len(shows), dtype=np.bool_)
    while len(chosen) < min(n, len(shows)):
        gains = np.where(is_free, (shows & missing).sum(axis=1), -1)
        if gains.max() == 0 and not missing.all():
            missing[:] = True
            continue
        best = int(gains.argmax())
        chosen.append(best)
        is_free[best] = False
        missing &= ~shows[best]
    return np.array(sorted(chosen), dtype=np.int64)
