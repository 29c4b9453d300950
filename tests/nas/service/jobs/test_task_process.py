"""A task's command is run once, and what it printed and how it ended is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nas.service.jobs.task_process import TaskResult, run_task
from tests.errors import raises


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_what_it_prints_and_how_it_ends_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    made = run_task(path, python("import sys; print('{\"a\": 1}'); print('ö', file=sys.stderr)"), time_limit_s=60)
    assert made == TaskResult(0, '{"a": 1}\n', "ö") == TaskResult.read(path)
    assert made.data == {"a": 1}
    assert run_task(path, python("raise SystemExit(1)"), time_limit_s=60) == made  # it is done already
    assert sorted(p.name for p in tmp_path.iterdir()) == ["result.json", "result.log"]


def test_arguments_are_no_shells(tmp_path: Path) -> None:
    made = run_task(tmp_path / "r.json", [*python("import sys; print(sys.argv[1:])"), "$HOME; a", "'"], time_limit_s=60)
    assert made.stdout == f"{['$HOME; a', chr(39)]}\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; print('error: no such network\\nbye', file=sys.stderr); sys.exit(1)", "no such network"),
        ("raise ValueError('x')", "ValueError: x"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("print('no json')", "'no json\\n'"),
        ("print([1])", "'[1]\\n'"),
    ],
)
def test_the_reason_of_a_failure_is_reported(tmp_path: Path, code: str, reason: str) -> None:
    made = run_task(tmp_path / "r.json", python(code), time_limit_s=60)
    with raises("service.unavailable", reason):
        _ = made.data


def test_a_command_above_its_time_limit_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.service.jobs.task_process._GRACE_S", 0.1)
    stubborn = python("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(100)")
    made = run_task(tmp_path / "r.json", stubborn, time_limit_s=0.5)
    assert made.exit_code is None
    assert made.reason == "it took too long"


def test_sigterm_ends_the_command_and_keeps_nothing(tmp_path: Path) -> None:
    path, pid = tmp_path / "r.json", tmp_path / "pid"
    command = [sys.executable, "-m", "nas.cli", "task", "--result", str(path), "--", *python(
        f"import os, time; open({str(pid)!r} + '.new', 'w').write(str(os.getpid())); "
        f"os.rename({str(pid)!r} + '.new', {str(pid)!r}); time.sleep(100)"
    )]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])})
    while not pid.exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert not path.exists()


def test_a_damaged_result_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{")
    with raises("task.result-damaged"):
        TaskResult.read(tmp_path / "r.json")
