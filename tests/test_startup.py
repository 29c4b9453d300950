"""The command line answers before anything heavy is loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from tests.light_process import HEAVY, PLAIN, LightProcess, light_process
from tests.nas.commands import SMALL_JOB
from tests.nas.service.made_runs import searched, trained

Loaded = Callable[..., tuple[set[str], str]]


def checked(process: LightProcess) -> Loaded:
    """Runs ``nas`` with arguments, checks its exit code, and gives the watched modules that it loads and what it prints."""

    def run(arguments: list[str], *, code: int = 0) -> tuple[set[str], str]:
        ended, printed, heavy = process.run(arguments)
        assert ended == code, printed
        return heavy, printed

    return run


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    with light_process(tmp_path_factory.mktemp("light")) as process:
        yield checked(process)


@pytest.fixture(scope="module")
def loaded_by_the_command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """The same, of a process without numpy and databases, which are watched, too."""
    watched = ("numpy", "sqlalchemy", *HEAVY)
    with light_process(tmp_path_factory.mktemp("lighter"), imported=["nas.cli.commands"], watched=watched) as process:
        yield checked(process)


def test_the_check_sees_what_is_loaded() -> None:
    code = f"import sys, supernets.sharing.base; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'torch'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--help"], "search"), (["search", "--help"], "--json"), (["init"], "digits-cnn")],
    ids=["help", "search-help", "init"],
)
def test_help_and_lists_load_nothing_heavy(arguments: list[str], words: str, loaded: Loaded) -> None:
    heavy, output = loaded(arguments)
    assert words in output
    assert not heavy


def test_every_help_text_is_printed_without_what_is_heavy_numpy_and_databases() -> None:
    names = ("numpy", "sqlalchemy", "pydantic", "httpx", *HEAVY)
    code = f"""
import sys
from typer.main import get_command
from nas.cli.commands import app

def print_help(command, name):
    command.main(["--help"], name, standalone_mode=False)
    for name, below in getattr(command, "commands", {{}}).items():
        print_help(below, name)

print_help(get_command(app), "nas")
print("heavy:", [n for n in {names!r} if n in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=PLAIN)
    assert done.stdout.count("Usage: ") > 50
    assert done.stdout.endswith("heavy: []\n")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed: 3", "seeds: 3", "did you mean 'seed'"),
        ("[accuracy, latency_ms]", "[accuracy, latency]", "objectives[1]"),
        ("[cpu-1-thread]", "[cpu-1-threads]", "cpu-1-threads"),
        ("[cpu-1-thread]", "[mine.yaml]", "mine.yaml"),
        ("name: digits,", "name: image-folder, path: photos,", "photos does not exist"),
        (
            SMALL_JOB,
            "name: a\ndata: {name: text-classification, path: .}\nsupernet: {family: encoder, pretrained: bert}",
            "bert",
        ),
        ("epochs: 4,", "epochs: 4, teacher: gone,", "gone"),
        ("seed: 3", "seed: 3\nwarm_start: [gone]", "gone"),
        ("seed: 3", "seed: 3\nlookup_tables: [gone.json]", "gone.json"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "search"])
def test_a_wrong_name_or_path_in_a_job_is_found_before_anything_heavy_is_loaded(
    tmp_path: Path, command: str, old: str, new: str, words: str, loaded: Loaded
) -> None:
    (tmp_path / "job.yaml").write_text(SMALL_JOB.replace(old, new, 1))
    heavy, output = loaded([command, str(tmp_path / "job.yaml"), "--runs", str(tmp_path / "runs")], code=1)
    assert words in output
    assert not heavy


@pytest.mark.parametrize(
    "arguments",
    [["plan", "gone"], ["show", "gone"], ["plot", "gone"], ["export", "gone", "-o", "gone.onnx"], ["resume", "gone"],
     ["finetune", "gone"], ["export-study", "gone"], ["cascade", "gone"], ["export-transformers", "gone", "-o", "gone"],
     ["calibrate", "cpu-1-thread", "--job", "gone"], ["profile", "--sweep", "gone"]],
    ids=" ".join,
)  # fmt: skip
def test_so_is_a_wrong_name_on_the_command_line(arguments: list[str], loaded: Loaded) -> None:
    heavy, output = loaded(arguments, code=1)
    assert "error: " in output
    assert "gone" in output
    assert not heavy


def test_so_is_what_no_run_can_be_extended_by(tmp_path: Path, loaded: Loaded) -> None:
    open_store(RunsFolder(tmp_path).create("tiny", "job"), create=True, driver=True).close()
    heavy, output = loaded(["resume", "tiny-1", "--evaluations", "abc", "--runs", str(tmp_path)], code=1)
    assert "--evaluations abc" in output
    assert not heavy


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["finetune", "made-1", "--index", "99"], "members, numbered 0 to"),
     (["finetune", "made-1", "--learning-rate", "-1"], "--learning-rate: expected a number above 0"),
     (["finetune", "made-1", "--store", "mysql://host/runs"], "--store mysql://host/runs: runs are kept in PostgreSQL"),
     (["export", "made-1", "--index", "99"], "members, numbered 0 to"),
     (["export", "made-1", "--select", "1<=latency_ms"], "write latency_ms>=1"),
     (["export", "made-1", "-o", "model.pt"], "model.pt: expected a file that ends in .onnx"),
     (["export-transformers", "made-1", "-o", "new", "--index", "99"], "members, numbered 0 to"),
     (["plot", "made-1", "-o", __file__], "expected a folder")],
    ids=" ".join,
)  # fmt: skip
def test_so_is_a_wrong_choice_of_a_run_s_network(
    tmp_path: Path, arguments: list[str], words: str, loaded: Loaded
) -> None:
    searched(RunsFolder(tmp_path), n=20)
    code = 2 if "--learning-rate" in arguments else 1
    heavy, output = loaded([*arguments, "--runs", str(tmp_path)], code=code)
    assert words in output
    assert not heavy


@pytest.mark.parametrize(
    ("old", "new", "arguments", "words"),
    [("name: digits,", "name: image-folder, path: job.yaml,", [], "job.yaml is a file; expected a folder with one folder"),
     ("epochs: 4,", "epochs: 4, threads: 1024,", [], "training.threads: 1024 threads"),
     ("epochs: 4,", "epochs: 4, workers: 2,", ["--inline"], "training.workers: 2 workers need Ray"),
     ("family:", "pretrained: ., family:", [], "config.json"),
     ("seed: 3", "seed: 3\nwarm_start: [training-1]", [], "warm_start[0] training-1: it is no search"),
     ("seed: 3", "seed: 3", ["--address", "somewhere"], "--address 'somewhere': expected HOST:PORT")],
)  # fmt: skip
def test_so_is_what_a_job_cannot_have(
    tmp_path: Path, old: str, new: str, arguments: list[str], words: str, loaded: Loaded
) -> None:
    text = SMALL_JOB.replace(old, new, 1)
    if "pretrained" in new:
        text = SMALL_JOB.partition("supernet:")[0] + "supernet: {family: vit-encoder, pretrained: .}\n"
    (tmp_path / "job.yaml").write_text(text)
    trained(RunsFolder(tmp_path / "runs"), name="training")
    command = ["plan", str(tmp_path / "job.yaml"), "--runs", str(tmp_path / "runs"), *arguments]
    heavy, output = loaded(command, code=1)
    assert words in output
    assert not heavy


@pytest.mark.skipif(any(Path("/dev").glob("nvidia*")), reason="this machine has a GPU")
def test_so_is_an_accelerator_that_this_machine_lacks(tmp_path: Path, loaded: Loaded) -> None:
    (tmp_path / "job.yaml").write_text(SMALL_JOB.replace("epochs: 4,", "epochs: 4, device: cuda,", 1))
    heavy, output = loaded(["train", str(tmp_path / "job.yaml"), "--runs", str(tmp_path / "runs")], code=1)
    assert "training.device: cuda, and this machine has no driver of a GPU" in output
    assert not heavy


@pytest.mark.parametrize("arguments", [["serch"], ["search"], ["show", "gone"], ["init", "gone"]], ids=" ".join)
def test_a_typing_error_is_answered_without_numpy_and_databases(
    tmp_path: Path, arguments: list[str], loaded_by_the_command_line: Loaded
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(SMALL_JOB.replace("cpu-1-thread", "cpu-1-threads", 1))
    code = 2 if arguments == ["serch"] else 1
    arguments = [*arguments, str(job)] if arguments == ["search"] else arguments
    heavy, _ = loaded_by_the_command_line(arguments, code=code)
    assert not heavy


def test_so_is_a_finished_run_and_a_budget_that_is_used_up(tmp_path: Path, loaded: Loaded) -> None:
    searched(RunsFolder(tmp_path), n=20)
    for arguments, words in (([], "nothing to resume"), (["--evaluations", "10"], "the run has used")):
        heavy, output = loaded(["resume", "made-1", "--runs", str(tmp_path), *arguments], code=1)
        assert words in output
        assert not heavy


def test_a_run_is_opened_for_reading_without_what_drives_it() -> None:
    code = f"import sys, nas; nas.open_run; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_commands_against_a_server_load_neither_the_engine_nor_the_server() -> None:
    names = (*HEAVY, "fastapi", "uvicorn", "sqlalchemy")
    imports = "import sys, nas.service.client, nas.cli.remote, nas.engine.console"
    code = f"{imports}; print([n for n in {names!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nas.cli", "--help"], capture_output=True, text=True, check=False, env=PLAIN
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["resume", "made-1"], ["export", "made-1"]], ids=lambda one: one[0])
@pytest.mark.parametrize(("content", "words"), [(None, "no such file"), ("name: [", "not valid YAML")])
def test_the_job_file_of_a_run_is_read_before_anything_heavy(
    tmp_path: Path, arguments: list[str], content: str | None, words: str, loaded: Loaded
) -> None:
    folder = searched(RunsFolder(tmp_path), final=arguments[0] == "export")
    folder.job_file.unlink()
    if content is not None:
        folder.job_file.write_text(content)
    heavy, output = loaded([*arguments, "--runs", str(tmp_path)], code=1)
    assert not heavy
    assert str(folder.job_file) in output
    assert words in output
    assert "restore it from a copy" in output
