"""How commands drive runs: what interrupts them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from nas.cli.interruption import INTERRUPTION
from nas.cli.running import driving


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    INTERRUPTION.noted = False


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_goes_on_though_a_library_may_lose_it(
    tmp_path: Path, number: signal.Signals, lost: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = []

    def drive() -> None:
        with driving(tmp_path, inline=True) as options:
            with contextlib.suppress(*([KeyboardInterrupt] if lost else [])):  # as in a finalizer
                signal.raise_signal(number)
            reached.append("the next step")
            options.observer.step(1, 2, 0.5)
            reached.append("the one after it")

    with pytest.raises(typer.Exit) as ended:
        drive()
    assert ended.value.exit_code == 130
    assert reached == (["the next step"] if lost else [])
    assert "measurements are kept" not in capsys.readouterr().err  # there is no run yet
