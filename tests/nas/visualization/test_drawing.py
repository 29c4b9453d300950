"""Pictures come out the same whichever process draws them, and so do errors."""

from __future__ import annotations

import multiprocessing
import os
from functools import partial
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from nas.errors import NasError
from nas.visualization.drawing import draw


def picture(*, width: float = 2.0) -> Figure:
    figure = Figure(figsize=(width, 2.0))
    figure.subplots().plot([1, 2, 3], [1, 4, 9])
    return figure


def test_files_are_in_their_order_and_pictures_of_nothing_are_left_out() -> None:
    makers = {"first": picture, "none": lambda: None, "last": lambda: picture(width=3.0)}
    alone = draw(makers)
    assert list(alone) == ["first.png", "first.svg", "last.png", "last.svg"]
    for processes in (2, 3, 9):
        assert list(draw(makers, processes=processes, longest=["last"]).items()) == list(alone.items())


def test_the_longest_are_begun_first_and_each_is_drawn_once(tmp_path: Path) -> None:
    def drawn(name: str) -> Figure:
        with (tmp_path / "drawn").open("a") as file:
            file.write(f"{name} {os.getpid()}\n")
        return picture()

    def together(name: str) -> Figure:
        meeting.wait(60)  # neither of the two is drawn before the other is begun: by another process
        return drawn(name)

    meeting = multiprocessing.get_context("fork").Barrier(2)
    makers = {"a": partial(drawn, "a"), "b": partial(together, "b"), "c": partial(together, "c")}
    draw(makers, processes=2, longest=["c", "b"])
    lines = [line.split() for line in (tmp_path / "drawn").read_text().splitlines()]
    assert [name for name, _ in lines[2:]] == ["a"]
    assert sorted(name for name, _ in lines[:2]) == ["b", "c"]
    first, second = (int(process) for _, process in lines[:2])
    assert first != second
    assert os.getpid() in (first, second)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_an_error_comes_through(processes: int) -> None:
    def wrong() -> Figure:
        raise NasError("nothing to plot")

    with pytest.raises(NasError, match="nothing to plot"):
        draw({"right": picture, "wrong": wrong, "other": picture}, processes=processes)


def test_an_error_of_another_process_comes_through() -> None:
    here = os.getpid()
    begun = multiprocessing.get_context("fork").Event()

    def wrong_elsewhere() -> Figure:
        if os.getpid() == here:
            begun.wait(60)  # the other process has taken its picture by then
            return picture()
        begun.set()
        raise NasError("nothing to plot")

    with pytest.raises(NasError, match="nothing to plot"):
        draw({"one": wrong_elsewhere, "two": wrong_elsewhere}, processes=2)
