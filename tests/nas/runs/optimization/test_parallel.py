"""Calls in other processes: results as inline ones, dead processes, functions that cannot be sent."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nas
from nas.engine.store.sql import SqlStore
from tests.errors import raises
from tests.nas.runs.optimization.small_search import OBJECTIVES, SPACE, evaluate


def search(function: Any, parallel: Any, **further: Any) -> nas.OptimizationResult:
    arguments: dict[str, Any] = {"algorithm": "nsga2", "budget": 20, "progress": False, **further}
    return nas.optimize(SPACE, OBJECTIVES, function, parallel=parallel, **arguments)


def values_of(result: nas.OptimizationResult) -> list[tuple[str, dict[str, float]]]:
    return [(point.key, dict(point.values)) for point in result.evaluations]


def with_pid(values: Mapping[str, Any]) -> dict[str, float]:
    """Names its process where depth is 3, and dies with it at one candidate."""
    if values["depth"] == 3 and values["width"] == 16:
        os.kill(os.getpid(), signal.SIGKILL)
    if values["depth"] == 2:
        raise ValueError(f"in {os.getpid()}")
    return evaluate(values)


@pytest.mark.slow
def test_processes_give_the_search_of_one() -> None:
    assert values_of(search(evaluate, nas.Processes(2), synchronous=True)) == values_of(search(evaluate, None))


def slow_at_depth_3(values: Mapping[str, Any]) -> dict[str, float]:
    """Takes longer than many others together where depth is 3."""
    time.sleep(0.6 if values["depth"] == 3 else 0.01)
    return evaluate(values)


@pytest.mark.slow
def test_processes_do_not_wait_for_a_slow_candidate(tmp_path: Path) -> None:
    result = search(slow_at_depth_3, nas.Processes(2), algorithm="random", store=tmp_path / "a.db")
    assert len(result.evaluations) == 20
    with closing(SqlStore.open(tmp_path / "a.db", create=False, driver=False)) as store:
        told = store.told()
        asked = [architecture for step in store.asks() for architecture in step]
    arrived = [architecture for some in told for architecture in some or []]
    assert {len(some) for some in told[2:] if some is not None} == {1}
    assert arrived != [a for a in asked if a in arrived], "nothing overtook anything"


@pytest.mark.slow
def test_a_candidate_that_kills_its_process_fails_alone() -> None:
    result = search(with_pid, nas.Processes(2), algorithm="random", budget=40)
    by_reason = {message.partition("})")[2] for message in result.failures.values() if "ValueError" not in message}
    assert by_reason == {" ended its process"}
    assert sum("ended its process" in message for message in result.failures.values()) == 2  # of both activations
    raised = [message for message in result.failures.values() if "ValueError" in message]
    assert len(raised) == 10
    assert not any(f"in {os.getpid()}" in message for message in raised)
    assert len(result.evaluations) == 40 - 12


def hanging(values: Mapping[str, Any]) -> dict[str, float]:
    """Never returns for one candidate."""
    if values["depth"] == 3 and values["width"] == 16 and values["activation"] == "relu":
        threading.Event().wait()
    return evaluate(values)


@pytest.mark.slow
def test_a_candidate_that_exceeds_the_time_limit_fails_alone() -> None:
    result = search(hanging, nas.Processes(2, time_limit_s=1.5), algorithm="random", budget=40)
    [message] = result.failures.values()
    assert message == "hanging({'depth': 3, 'width': 16, 'activation': 'relu'}) took longer than the limit of 1.5 s"
    assert len(result.evaluations) == 39
    assert not multiprocessing.active_children()


def dying_later(values: Mapping[str, Any]) -> dict[str, float]:
    """Ends its process soon after it has returned, mostly while that is idle."""
    threading.Timer(0.02, os._exit, [5]).start()
    return evaluate(values)


@pytest.mark.slow
def test_a_process_that_dies_while_it_is_idle_is_replaced() -> None:
    result = search(dying_later, nas.Processes(2), algorithm="random", budget=20, batch=2)
    assert len(result.evaluations) + len(result.failures) == 20
    assert all("ended its process" in message for message in result.failures.values())
    assert len(result.evaluations) > 2


@pytest.mark.slow
def test_a_module_that_only_this_process_can_import_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates larger than a pipe's buffer are still being sent when the process ends."""
    (tmp_path / "only_here.py").write_text(
        f"import os\nassert os.getpid() == {os.getpid()}\n"
        "def cost(values):\n    return {'cost': len(values['text'])}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    function = importlib.import_module("only_here").cost
    texts = ["a" * 300_000, "b" * 300_001]
    with raises("evaluation.anchor-failed", "ended its process"):
        nas.optimize(
            {"text": texts}, {"cost": "minimize"}, function, budget=2, parallel=nas.Processes(1), progress=False
        )


def test_a_function_of_a_program_without_a_file_is_rejected_before_any_call(monkeypatch: pytest.MonkeyPatch) -> None:
    program = ModuleType("__main__")  # as of python -c, or of a prompt
    exec("def cost(values): return {'cost': values['a']}", program.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", program)
    with raises("evaluation.not-picklable", "no file that another process could import", "nas.RayWorkers"):
        nas.optimize(
            {"a": [1, 2]}, {"cost": "minimize"}, program.cost, budget=2, parallel=nas.Processes(1), progress=False
        )


def starting_others(values: Mapping[str, Any]) -> dict[str, float]:
    """Starts a process that outlives it, and waits for it where the depth is 3."""
    if values["depth"] == 3 and values["width"] == 16:
        subprocess.run([sys.executable, "-c", f"import time; time.sleep(60)  # {MARK}"], check=True)
    return evaluate(values)


MARK = "started by a candidate of test_parallel"


@pytest.mark.slow
def test_what_a_candidate_has_started_ends_with_it() -> None:
    result = search(starting_others, nas.Processes(2, time_limit_s=2.0), algorithm="random", budget=40)
    assert len(result.failures) == 2
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(MARK.encode() in command for command in commands)


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), float("inf"), "2"])
@pytest.mark.parametrize("workers", [nas.Processes, nas.RayWorkers])
def test_a_time_limit_is_a_number_of_seconds(workers: Any, limit: Any) -> None:
    with raises("optimize.invalid", "time_limit_s", "seconds above 0"):
        workers(2, time_limit_s=limit)


def test_a_function_without_a_module_cannot_be_sent_to_processes() -> None:
    with raises("evaluation.not-picklable", "<lambda>", "nas.RayWorkers"):
        search(lambda values: evaluate(values), nas.Processes(2))


@pytest.mark.parametrize("made", [lambda: nas.Processes(0), lambda: nas.RayWorkers(0), lambda: nas.RayWorkers("2")])
def test_a_number_of_workers_is_at_least_one(made: Any) -> None:
    with raises("optimize.invalid", "at least 1"):
        made()


@pytest.mark.slow
@pytest.mark.ray
def test_ray_gives_the_search_of_one_also_of_closures_and_failures(tmp_path: Path) -> None:
    import ray

    factor = 2.0

    def closure(values: Mapping[str, Any]) -> dict[str, float]:
        if values["depth"] == 2 and values["width"] == 16:
            raise ValueError("no")
        return {**evaluate(values), "accuracy": factor * evaluate(values)["accuracy"]}

    inline = search(closure, None)
    spread = search(closure, nas.RayWorkers(2), store=tmp_path / "a.db", synchronous=True)
    assert not ray.is_initialized()
    assert values_of(spread) == values_of(inline)
    assert spread.failures == inline.failures
    try:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        more = search(closure, nas.RayWorkers(1), store=tmp_path / "a.db", budget=26)
        assert ray.is_initialized()  # it was the caller's
    finally:
        ray.shutdown()
    assert values_of(more)[: len(spread.evaluations)] == values_of(spread)
    assert len(more.evaluations) + len(more.failures) == 26
