"""Pictures as files, drawn by this process and by forks of it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized

import matplotlib
from matplotlib.figure import Figure

from nas.visualization.forks import forked
from nas.visualization.style import STYLE, files_of

Makers = Mapping[str, Callable[[], Figure | None]]
"""By name, what makes a picture; None where there is nothing to show."""


def draw(makers: Makers, *, processes: int = 1, longest: Sequence[str] = ()) -> dict[str, bytes]:
    """``NAME.png`` and ``NAME.svg`` of all pictures, in their order.

    The same pictures give the same bytes, whichever process draws them.

    Args:
        processes: how many draw: this one and forks of it, see `forked`.
        longest: names of the pictures that take longest, which are begun first (others than the makers' are passed over).

    Raises:
        NasError: as a maker does, in any process.
    """
    ordered = [*(name for name in longest if name in makers), *(name for name in makers if name not in longest)]
    others = min(processes, len(makers)) - 1
    if others < 1:
        found = _files(makers, ordered)
    else:
        pile = _Pile(makers, ordered, multiprocessing.get_context("fork").Value("i", 0))
        with ExitStack() as ends:
            forks = [ends.enter_context(forked(lambda _: pile.draw())) for _ in range(others)]
            found = pile.draw()
            for fork in forks:
                found |= fork.result()
    in_order = [f"{name}.{suffix}" for name in makers for suffix in ("png", "svg")]
    return {name: found[name] for name in in_order if name in found}


@dataclass(frozen=True, slots=True)
class _Pile:
    """Pictures from which each process takes the next one when it has drawn its last."""

    makers: Makers
    names: Sequence[str]
    n_taken: Synchronized[int]

    def draw(self) -> dict[str, bytes]:
        return _files(self.makers, iter(self._take, None))

    def _take(self) -> str | None:
        with self.n_taken.get_lock():
            number = self.n_taken.value
            self.n_taken.value += 1
        return self.names[number] if number < len(self.names) else None


def _files(makers: Makers, names: Iterable[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in names:
        with matplotlib.rc_context(STYLE):
            figure = makers[name]()
        if figure is not None:
            found |= files_of(name, figure)
    return found
