"""Pictures as files, drawn here or, some of them meanwhile, in a second process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

import matplotlib
from matplotlib.figure import Figure

from nas.export.figures import STYLE, files_of

Makers = Mapping[str, Callable[[], Figure | None]]
"""By name, what makes a picture; None where there is nothing to show."""


@contextmanager
def drawing(makers: Makers, *, beside: Collection[str] = ()) -> Iterator[Callable[[], dict[str, bytes]]]:
    """A context in which a second process draws some pictures.

    What it gives draws the others and waits for those: ``NAME.png`` and ``NAME.svg`` of all, in their order. The same
    pictures give the same bytes.

    Args:
        beside: names of those that the second process draws: a fork of this one, which has all that was read and loaded
            here. For a command that has one thread; one that others run beside, holding locks, must not be forked.

    Raises:
        NasError: as a maker does, in either process.
    """
    there = {name: make for name, make in makers.items() if name in beside}
    if not there:
        yield partial(_files, makers)
        return
    context = multiprocessing.get_context("fork")
    # Its worker inherits what makes the pictures, and the run behind it, which would take long to send.
    with ProcessPoolExecutor(1, mp_context=context, initializer=_inherit, initargs=(there,)) as second:
        meanwhile = second.submit(_inherited_files)

        def files() -> dict[str, bytes]:
            here = {name: make for name, make in makers.items() if name not in beside}
            found = _files(here) | meanwhile.result()
            ordered = [f"{name}.{suffix}" for name in makers for suffix in ("png", "svg")]
            return {name: found[name] for name in ordered if name in found}

        yield files


def _files(makers: Makers) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, make in makers.items():
        with matplotlib.rc_context(STYLE):
            figure = make()
        if figure is not None:
            found |= files_of(name, figure)
    return found


_makers: Makers = {}
"""What the second process draws; in the first it stays empty."""


def _inherit(makers: Makers) -> None:
    global _makers
    _makers = makers


def _inherited_files() -> dict[str, bytes]:
    return _files(_makers)
