"""`nas show` and `nas plot` of made-up runs: limits of the job, limits afterwards, and hardware profiles."""

from __future__ import annotations

from nas.engine.store.sql import SqlStore
from tests.nas.commands import SMALL_JOB, Shell
from tests.nas.results.export.runs import BOARD, PROFILE, TWO, example_run

LATENCY = f"latency_ms@{PROFILE}"


def make(
    shell: Shell, name: str, *objectives: str, n_final: int | None = None, **limits: tuple[float | None, float | None]
) -> None:
    """A run of this name in the shell's runs folder."""
    folder = shell.folder / "runs" / name
    folder.mkdir(parents=True)
    (folder / "job.yaml").write_text(SMALL_JOB)
    store = SqlStore.open(folder / "run.db", create=True, driver=True)
    example_run(objectives or TWO, limits=limits, n_final=n_final, store=store)
    store.close()


def test_show_tells_the_limits_and_what_keeps_them(shell: Shell) -> None:
    make(shell, "a-1", latency_ms=(None, 0.5), macs=(None, 1e7))
    data = shell.nas("show", "a-1", "--json").data
    assert [c["figure"] for c in data["constraints"]] == [LATENCY, "macs"]
    assert all(p["values"][LATENCY] <= 0.5 and p["values"]["macs"] <= 1e7 for p in data["front"])
    text = shell.nas("show", "a-1").out
    assert f"constraints: {LATENCY} at most 0.5 ms, macs at most 10 M" in text
    assert "no network keeps" not in text
    assert " macs " in text


def test_show_tells_the_nearest(shell: Shell) -> None:
    make(shell, "a-1", latency_ms=(None, 0.001))
    text = shell.nas("show", "a-1").out
    assert f"the nearest has {LATENCY} 0.07779 ms (at most 0.001 ms: 77.8 times as much)" in text
    assert "nearest " in text.splitlines()[4]
    data = shell.nas("show", "a-1", "--json").data
    assert (data["front"], data["nearest"]["broken"][0]["max"]) == ([], 0.001)
    answer = shell.nas("show", "a-1", "--select", "latency_ms<=0.002")
    assert answer.code == 1
    assert "the nearest is 0-0-0-0-x-x" in answer.err
    assert shell.nas("show", "a-1", "--select", "latency_ms<=1", "--json").data["values"][LATENCY] <= 1


def test_a_selection_shows_the_best_and_the_front_within_it(shell: Shell) -> None:
    make(shell, "a-1", n_final=12, latency_ms=(None, 0.3))
    data = shell.nas("show", "a-1", "--select", "latency_ms<=1", "--json").data
    assert data["limits"] == [{"figure": LATENCY, "sign": "<=", "bound": 1.0}]
    assert 0.3 < data["values"][LATENCY] <= 1
    assert data["key"] in [p["key"] for p in data["front"]]
    text = shell.nas("show", "a-1", "--select", "latency_ms<=1").out
    assert f"the best of 40 measured networks with {LATENCY} at most 1 ms" in text
    assert f"replaces the job's constraints: {LATENCY} at most 0.3 ms" in text
    assert "ms *" in text
    assert "* by the search's shorter protocol alone" in text
    assert "shorter protocol" not in shell.nas("show", "a-1").out


def test_each_profile_is_shown_alone(shell: Shell) -> None:
    make(shell, "a-1", *TWO, f"latency_ms@{BOARD}")
    whole = shell.nas("show", "a-1", "--json").data
    assert list(whole["fronts"]) == [PROFILE, BOARD]
    alone = shell.nas("show", "a-1", "--profile", BOARD, "--json").data
    assert [o["name"] for o in alone["objectives"]] == ["accuracy", f"latency_ms@{BOARD}"]
    assert [p["key"] for p in alone["front"]] == [p["key"] for p in whole["fronts"][BOARD]]
    text = shell.nas("show", "a-1").out
    assert f"front of {BOARD} alone: " in text
    chosen = shell.nas("show", "a-1", "--profile", BOARD, "--select", "latency_ms<=4", "--json").data
    assert chosen["values"][f"latency_ms@{BOARD}"] <= 4
    answer = shell.nas("show", "a-1", "--profile", "bord")
    assert answer.code == 1
    assert "unknown profile 'bord'; did you mean 'board'?" in answer.err


def test_networks_have_the_same_numbers_in_every_view(shell: Shell) -> None:
    make(shell, "a-1", *TWO, f"latency_ms@{BOARD}")
    front = [p["key"] for p in shell.nas("show", "a-1", "--json").data["front"]]
    number_by_key = {}
    for options in (
        (),
        ("--profile", BOARD),
        ("--profile", PROFILE),
        ("--select", "accuracy>=0"),
        ("--select", "network=2"),
    ):
        rows = [line.split() for line in shell.nas("show", "a-1", *options).out.splitlines()]
        rows = [row for row in rows if len(row) > 3 and row[1].isdecimal() and (row[0].isdecimal() or row[0] == "–")]
        assert len(rows) > 2
        for position, number, *_, key in rows:
            assert position == (str(front.index(key)) if key in front else "–")
            assert number_by_key.setdefault(key, number) == number
    key, number = next(iter(number_by_key.items()))
    assert shell.nas("show", "a-1", "--select", f"network={number}", "--json").data["key"] == key
    assert shell.nas("show", "a-1", "--select", f"key={key}", "--json").data["key"] == key
    answer = shell.nas("show", "a-1", "--select", "network=1000")
    assert answer.code == 1
    assert "has no network '1000'; expected a number from 1 to 40" in answer.err


def test_plots_take_the_same_selection(shell: Shell) -> None:
    make(shell, "a-1", latency_ms=(None, 0.3))
    (page,) = [p for p in shell.nas("plot", "a-1", "-o", "all", "--json").data["paths"] if p.endswith("html")]
    assert "Limits: latency_ms@cpu-1-thread at most 0.3 ms." in (shell.folder / page).read_text()
    shell.nas("plot", "a-1", "-o", "some", "--select", "latency_ms<=0.2, accuracy>=0.5")
    text = (shell.folder / "some" / "front.html").read_text()
    assert "Limits: latency_ms@cpu-1-thread at most 0.2 ms, accuracy at least 50 %." in text
