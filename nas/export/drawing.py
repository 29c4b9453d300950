"""Pictures as files, drawn by this process and, where it may be forked, by others beside it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized

import matplotlib
from matplotlib.figure import Figure

from nas.export.figures import STYLE, files_of

Makers = Mapping[str, Callable[[], Figure | None]]
"""By name, what makes a picture; None where there is nothing to show."""


@contextmanager
def drawing(
    makers: Makers, *, processes: int = 1, longest: Sequence[str] = ()
) -> Iterator[Callable[[], dict[str, bytes]]]:
    """A context in which other processes draw pictures already, while this one has something else to do.

    What it gives helps them, and waits for the last: ``NAME.png`` and ``NAME.svg`` of all, in their order. The same
    pictures give the same bytes, whichever process draws them.

    Args:
        processes: how many draw, this one included. The others are forks of it, which have all that was read and loaded
            here: for a command that has one thread; a process in which others run, holding locks, must not be forked.
        longest: names of the pictures that take longest, which are begun first (others than the makers' are passed over).

    Raises:
        NasError: as a maker does, in any process.
    """
    ordered = [*(name for name in longest if name in makers), *(name for name in makers if name not in longest)]
    others = min(processes, len(makers)) - 1
    if others < 1:
        yield partial(_files, makers, makers)
        return
    context = multiprocessing.get_context("fork")
    pile = _Pile(makers, ordered, context.Value("i", 0))
    # The workers inherit what makes the pictures, and the run behind it, which would take long to send.
    with ProcessPoolExecutor(others, mp_context=context, initializer=_inherit, initargs=(pile,)) as pool:
        meanwhile = [pool.submit(_draw_inherited) for _ in range(others)]

        def files() -> dict[str, bytes]:
            found = pile.draw()
            for one in meanwhile:
                found |= one.result()
            in_order = [f"{name}.{suffix}" for name in makers for suffix in ("png", "svg")]
            return {name: found[name] for name in in_order if name in found}

        yield files


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


_pile: _Pile | None = None
"""What a fork helps to draw; in the first process it stays empty."""


def _inherit(pile: _Pile) -> None:
    global _pile
    _pile = pile


def _draw_inherited() -> dict[str, bytes]:
    assert _pile is not None
    return _pile.draw()
