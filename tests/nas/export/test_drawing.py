"""Pictures come out the same whichever process draws them, and so do errors."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from matplotlib.figure import Figure

from nas.errors import NasError
from nas.export.drawing import Makers, drawing


def draw(makers: Makers, beside: Sequence[str] = ()) -> dict[str, bytes]:
    with drawing(makers, beside=beside) as files:
        return files()


def picture(*, width: float = 2.0) -> Figure:
    figure = Figure(figsize=(width, 2.0))
    figure.subplots().plot([1, 2, 3], [1, 4, 9])
    return figure


def test_files_are_in_their_order_and_pictures_of_nothing_are_left_out() -> None:
    makers = {"first": picture, "none": lambda: None, "last": lambda: picture(width=3.0)}
    alone = draw(makers)
    assert list(alone) == ["first.png", "first.svg", "last.png", "last.svg"]
    assert list(draw(makers, beside=["first", "none"]).items()) == list(alone.items())


def test_a_second_process_draws_what_it_is_to_draw() -> None:
    drawn_by: list[int] = []

    def here() -> Figure:
        drawn_by.append(os.getpid())
        return picture()

    def there() -> Figure:
        drawn_by.append(os.getpid())  # in a process of its own, whose list this is not
        return picture()

    draw({"here": here, "there": there}, beside=["there"])
    assert drawn_by == [os.getpid()]


@pytest.mark.parametrize("beside", [(), ("wrong",), ("right",)], ids=["alone", "there", "here"])
def test_an_error_comes_through(beside: tuple[str, ...]) -> None:
    def wrong() -> Figure:
        raise NasError("nothing to plot")

    with pytest.raises(NasError, match="nothing to plot"):
        draw({"right": picture, "wrong": wrong}, beside=beside)
