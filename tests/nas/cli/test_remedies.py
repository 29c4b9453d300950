"""Remedies of errors as the command line, the server and Python show them."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from nas.cli.remedies import next_text, remedy_text, run_command, show_parameter, step_after
from nas.errors import REPEAT, NasError, Remedy, attach_remedy, remedy_of
from supernets.errors import CaptureError, CheckpointError
from tests.nas.commands import Shell

DEFAULT = Path("runs")


@pytest.mark.parametrize(
    ("remedy", "runs", "expected"),
    [
        (Remedy("resume", "tiny-1"), DEFAULT, "nas resume tiny-1"),
        (Remedy("show", "tiny-1"), Path("/my data"), "nas show tiny-1 --runs '/my data'"),
        (
            Remedy("resume", "tiny-1", {"evaluations": "+50"}),
            Path("x"),
            "nas resume tiny-1 --runs x --evaluations +50",
        ),
        (Remedy("resume", "tiny-1", {"retry_failed": True}), DEFAULT, "nas resume tiny-1 --retry-failed"),
        (Remedy("export", "tiny-1", {"index": 0}), DEFAULT, "nas export tiny-1 --index 0"),
        (Remedy("runs"), Path("x"), "nas runs --runs x"),
        (Remedy("init"), Path("x"), "nas init"),
        (Remedy("search", "my runs/a-1/job.yaml"), Path("x"), "nas search 'my runs/a-1/job.yaml'"),
        (Remedy(REPEAT, options={"runs": "FOLDER"}), Path("x"), "the same command with --runs FOLDER"),
    ],
)
def test_a_remedy_is_a_command_with_the_selected_runs_folder(remedy: Remedy, runs: Path, expected: str) -> None:
    assert remedy_text(remedy, runs) == next_text(remedy, runs) == expected


def test_no_remedy_is_no_command() -> None:
    assert next_text(None, DEFAULT) == ""
    assert run_command("plot", "a-1", DEFAULT) == "nas plot a-1"


def test_an_error_of_a_library_has_its_next_step_by_its_code() -> None:
    error = CaptureError("net.capture: cannot be read", code="capture.malformed")
    assert step_after(error, DEFAULT, set()) == "nas capture MODEL --output FILE"
    attach_remedy(error, Remedy("resume", "a-1"))
    assert step_after(error, Path("x"), set()) == "nas resume a-1 --runs x"
    assert step_after(ValueError("no code"), DEFAULT, set()) == ""
    assert step_after(typer.Exit(3), DEFAULT, set()) == ""


@pytest.mark.parametrize(
    "error",
    [
        CaptureError("its input is not known", code="capture.input-unknown"),
        NasError("none is within them", remedy=Remedy(REPEAT, options={"input": "3x224x224"})),
    ],
)
def test_an_option_is_suggested_only_for_a_command_that_has_it(error: Exception) -> None:
    assert step_after(error, DEFAULT, {"--input", "--json"}) == "the same command with --input 3x224x224"
    assert step_after(error, DEFAULT, {"--json"}) == ""


@pytest.mark.parametrize(
    ("parameter", "message", "expected"),
    [
        ("index", "index 99: the front has 3 members, by index", "--index 99: the front has 3 members, by index"),
        ("log_to", "log_to 'x': expected a kind", "--log-to 'x': expected a kind"),
        ("evaluations", "run a-1: evaluations 3: too few", "run a-1: --evaluations 3: too few"),
        ("arguments", "arguments are those of a function", "--arguments are those of a function"),
        ("replay", "replay a-1: it is no search", "replay a-1: it is no search"),
        ("", "index 99: no parameter", "index 99: no parameter"),
    ],
)
def test_a_parameter_is_printed_as_the_option_of_the_command(parameter: str, message: str, expected: str) -> None:
    error = NasError(message, parameter=parameter)
    show_parameter(error, {"--index", "--log-to", "--evaluations", "--arguments"})
    assert str(error) == expected


def test_an_unknown_value_is_printed_with_its_option_and_a_folder_of_its_name_is_not(after: Shell) -> None:
    assert after.nas("show", "gone").err.startswith("error: unknown run 'gone' in runs")
    answer = after.nas("export", "small-1", "--select", "speed<=1")
    assert answer.err.startswith("error: --select: unknown objective 'speed'")
    assert after.nas("export", "small-1", "--index", "99").err.startswith("error: --index 99: the front of run")


def test_a_file_that_does_not_exist_is_written_by_a_command(after: Shell) -> None:
    expected = "next: nas capture MODEL --output FILE"
    assert after.nas("inspect", "no-such-model.capture").err.splitlines()[1:] == [expected]
    assert after.nas("inspect", "no-such-model").err.splitlines()[1:] == []
    assert after.nas("inspect", "torchvision:no-such-model").err.splitlines()[1:] == []


def test_the_first_remedy_of_an_error_is_kept_also_of_another_package() -> None:
    error = CheckpointError("it is damaged")
    assert remedy_of(error) is None
    attach_remedy(error, Remedy("resume", "a-1"))
    attach_remedy(error, Remedy("runs"))
    assert remedy_of(error) == Remedy("resume", "a-1")
    assert str(NasError("it is full", remedy=Remedy("doctor"))) == "it is full"


def test_a_command_prints_the_message_and_then_the_command_to_copy(
    after: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    (after.folder / "my runs").symlink_to("runs")
    error, remedy = after.nas("resume", "small-1", "--inline").err.splitlines()
    assert error.startswith("error: run small-1 is finished; ")
    assert remedy == "next: nas resume small-1 --evaluations +50"
    monkeypatch.setenv("NAS_RUNS", "my runs")
    assert after.nas("export", "small-1", "--select", "key=9-9").err.splitlines()[1:] == [
        "next: nas show small-1 --runs 'my runs'"
    ]
    gone = after.nas("runs", "--runs", "gone").err.splitlines()
    assert gone[1:] == ["next: the same command with --runs FOLDER"]
