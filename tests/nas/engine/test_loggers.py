"""What a run tells arrives in the files of TensorBoard, MLflow, W&B and Trackio, once, and a log that fails ends no run."""

from __future__ import annotations

import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from nas.engine.loggers import FORMS, GROUPS, ProgressLogger, open_loggers
from nas.engine.progress import CompositeObserver
from nas.engine.search_progress import SearchProgress
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.errors import LoggerError
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.runs.driver import resume
from nas.runs.driver import run as search
from nas.search.problem.budget import Budget
from supernets.training.trainer import Epoch
from tests.contracts.run_facts import search_facts
from tests.full_disk import files_of_at_most
from tests.nas.commands import SMALL_JOB, Shell

FACTS = search_facts(objectives=["accuracy", "macs"], profiles=["cpu"], name="small", algorithm="random")


def epoch(number: int) -> Epoch:
    return Epoch(number, loss=2.0 / number, largest=0.9, smallest=0.8, samples=100, seconds=1.0, cpu_seconds=1.0)


class Remembered(ProgressLogger):
    """A logger that remembers, and fails when it is told to."""

    errors = (LoggerError,)

    def __init__(self, note: Callable[[str], None] = print, clock: Callable[[], float] = lambda: 100.0) -> None:
        super().__init__("memory", note, clock)
        self.told: list[Any] = []
        self.fails = False

    def _tell(self, *what: Any) -> None:
        if self.fails:
            raise LoggerError("the server is gone")
        self.told.append(what)

    def begin_run(self, run: RunFolder, parameters: Mapping[str, str]) -> None:
        self._tell("begin", run.id)

    def write(self, metrics: Sequence[tuple[str, int, float]]) -> None:
        self._tell("write", list(metrics))

    def close(self, status: str) -> None:
        self._tell("close", status)


class TestSink:
    @pytest.fixture
    def notes(self) -> list[str]:
        return []

    @pytest.fixture
    def now(self) -> list[float]:
        return [100.0]

    @pytest.fixture
    def sink(self, notes: list[str], now: list[float]) -> Remembered:
        return Remembered(notes.append, lambda: now[0])

    def test_figures_by_step_epoch_and_evaluation(self, sink: Remembered) -> None:
        with sink:
            sink.begin(RunFolder(Path("small-1")), FACTS, Budget(4), 0)
            sink.step(1, 10, 2.5)
            sink.epoch(epoch(1), 4)
            sink.progress(SearchProgress("searching", 1, 30))
            sink.progress(SearchProgress("searching", 2, 30, hypervolume=0.5, front=2, failures=1, too_noisy=3))
            sink.progress(SearchProgress("measuring the front again", 1, 9))
            sink.count("measuring blocks", 1, 2)
            sink.note("hello")
        assert sink.told == [
            ("begin", "small-1"),
            ("write", [("training/loss", 1, 2.5), ("epoch/loss", 1, 2.0), ("epoch/largest", 1, 0.9),
                       ("epoch/smallest", 1, 0.8)]),
            ("write", [("search/front", 1, 0.0), ("search/failures", 1, 0.0), ("search/too_noisy", 1, 0.0),
                       ("search/front", 2, 2.0), ("search/failures", 2, 1.0), ("search/too_noisy", 2, 3.0),
                       ("search/hypervolume", 2, 0.5)]),
            ("close", "FINISHED"),
        ]  # fmt: skip

    def test_what_a_resumed_run_counts_again_is_not_written_again(self, sink: Remembered) -> None:
        with sink:
            sink.begin(RunFolder(Path("small-1")), FACTS, Budget(4), 2)
            for done in range(1, 5):
                sink.progress(SearchProgress("searching", done, 4))
        steps = {step for what in sink.told if what[0] == "write" for _, step, _ in what[1]}
        assert steps == {3, 4}

    def test_figures_are_kept_back_for_a_while_and_no_longer(self, sink: Remembered, now: list[float]) -> None:
        sizes = []
        for step in range(1, 1201):
            sink.step(step, 1200, 1.0)
            sizes = [len(what[1]) for what in sink.told]
        assert sizes == [500, 500]
        now[0] += 5.0
        sink.step(1201, 1201, 1.0)
        assert [len(what[1]) for what in sink.told] == [500, 500, 201]

    def test_a_figure_that_is_none_is_left_out(self, sink: Remembered) -> None:
        with sink:
            sink.step(1, 10, math.nan)
            sink.step(2, 10, 1.0)
        assert sink.told[0] == ("write", [("training/loss", 2, 1.0)])

    def test_a_log_that_fails_is_told_once_and_left_alone(self, sink: Remembered, notes: list[str]) -> None:
        with sink:
            sink.begin(RunFolder(Path("small-1")), FACTS, Budget(4), 0)
            sink.fails = True
            for number in range(1, 4):
                sink.epoch(epoch(number), 4)
            sink.fails = False
            sink.epoch(epoch(4), 4)
        assert notes == [
            "memory: cannot be written: the server is gone; the run continues, and nothing more is logged there"
        ]
        assert sink.told == [("begin", "small-1")]

    @pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
    def test_how_it_ended(self, sink: Remembered, error: type[BaseException], status: str) -> None:
        with pytest.raises(error), sink:
            raise error
        assert sink.told == [("close", status)]


def test_several_displays_are_told_the_same() -> None:
    sinks = [Remembered(), Remembered()]
    several = CompositeObserver(sinks)
    several.begin(RunFolder(Path("small-1")), FACTS, Budget(4), 0)
    several.step(1, 2, 0.5)
    several.epoch(epoch(1), 1)
    several.progress(SearchProgress("searching", 1, 1))
    several.count("x", 1, 1)
    several.note("x")
    for sink in sinks:
        sink.__exit__(None, None, None)
    assert sinks[0].told == sinks[1].told
    assert len(sinks[0].told) == 4


@pytest.mark.parametrize("text", ["tensorboard", "tensorboard:", "aim:project", "wandb:", ":x", ""])
def test_what_is_no_sink(text: str) -> None:
    with pytest.raises(LoggerError, match=FORMS), open_loggers([text], print, experiment="e"):
        pass


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What event files hold, by the format of TFRecord: length, its checksum, data, their checksum."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


class TestTensorBoard:
    def test_figures_are_in_the_files_of_the_run(self, tmp_path: Path) -> None:
        with open_loggers([f"tensorboard:{tmp_path / 'new' / 'logs'}"], print, experiment="e") as (sink,):
            sink.begin(RunFolder(tmp_path / "small-1"), FACTS, Budget(4), 0)
            sink.step(7, 10, 2.5)
            sink.epoch(epoch(1), 4)
        found = scalars(tmp_path / "new" / "logs" / "small-1")
        assert found["training/loss"] == [(7, 2.5)]
        assert found["epoch/largest"] == [(1, pytest.approx(0.9))]

    def test_a_full_disk_ends_the_log_alone(self, tmp_path: Path) -> None:
        notes: list[str] = []
        n_threads = threading.active_count()
        with (
            files_of_at_most(1000),
            open_loggers([f"tensorboard:{tmp_path / 'logs'}"], notes.append, experiment="e") as (sink,),
        ):
            sink.begin(RunFolder(tmp_path / "small-1"), FACTS, Budget(4), 0)
            for step in range(1000):  # more than a queue would hold
                sink.step(step, 1000, 2.5)
            sink.epoch(epoch(1), 4)
        (note,) = notes
        assert "logs: cannot be written: File too large; the run continues" in note
        assert threading.active_count() <= n_threads

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(LoggerError, match="cannot be written"),
            open_loggers([f"tensorboard:{tmp_path / 'file' / 'logs'}"], print, experiment="e"),
        ):
            pass

    def test_a_search_and_its_resumption(self, tmp_path: Path) -> None:
        job = parse_job(
            SMALL_JOB.replace("epochs: 4", "epochs: 1")
            .replace("algorithm: guided, evaluations: 30, batch: 7", "algorithm: random, evaluations: 4, batch: 2")
            .replace("[accuracy, latency_ms]", "[accuracy, macs]"),
            source="job.yaml",
        )
        logs, runs = f"tensorboard:{tmp_path / 'logs'}", RunsFolder(tmp_path / "runs")
        with open_loggers([logs], print, experiment="e") as (sink,):
            search(job, RunOptions(runs, inline=True, observer=sink))
        first = scalars(tmp_path / "logs" / "small-1")
        assert [step for step, _ in first["search/front"]] == [1, 2, 3, 4]
        assert [step for step, _ in first["epoch/loss"]] == [1]
        with open_loggers([logs], print, experiment="e") as (sink,):
            resume("small-1", RunOptions(runs, inline=True, observer=sink), evaluations="+2")
        both = scalars(tmp_path / "logs" / "small-1")
        assert [step for step, _ in both["search/front"]] == [1, 2, 3, 4, 5, 6]
        assert both["training/loss"] == first["training/loss"]


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_command_with_a_wrong_one_makes_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    shell = Shell(tmp_path, capsys, monkeypatch)
    if way == "environment":
        monkeypatch.setenv("NAS_LOG_TO", "aim:x")
    found = shell.nas("search", shell.job(), "--inline", *(["--log-to", "aim:x"] if way == "option" else []))
    assert found.code == 1
    assert found.err == f"error: --log-to 'aim:x': unknown kind 'aim'; expected {FORMS}\n"
    assert shell.runs() == set()


class TestMLflow:
    """Against its file store, whose files are read without it."""

    @pytest.fixture(autouse=True)
    def mlflow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("mlflow", reason="MLflow is not installed (the extra mlflow)")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def test_a_run_and_its_resumption_are_one_run(self, tmp_path: Path) -> None:
        where = [f"mlflow:{(tmp_path / 'store').as_uri()}"]
        with open_loggers(where, print, experiment="team") as (sink,):
            sink.begin(RunFolder(tmp_path / "it's" / "small-1"), FACTS, Budget(4), 0)
            sink.epoch(epoch(1), 4)
        with suppress(KeyboardInterrupt), open_loggers(where, print, experiment="team") as (sink,):
            sink.begin(RunFolder(tmp_path / "it's" / "small-1"), FACTS, Budget(4), 1)
            sink.progress(SearchProgress("searching", 1, 2, front=1))
            sink.progress(SearchProgress("searching", 2, 2, front=2))
            raise KeyboardInterrupt
        with open_loggers(where, print, experiment="team") as (sink,):
            sink.begin(RunFolder(tmp_path / "other" / "small-1"), FACTS, Budget(4), 0)
        losses = list((tmp_path / "store").rglob("metrics/epoch/loss"))
        assert [path.read_text().split()[1:] for path in losses] == [["2.0", "1"]]
        run = losses[0].parents[2]
        assert [line.split()[1:] for line in (run / "metrics/search/front").read_text().splitlines()] == [["2.0", "2"]]
        assert (run / "params/objectives").read_text() == "accuracy, macs"
        assert {path.name for path in (run / "params").iterdir()} == {
            "name", "kind", "seed", "algorithm", "evaluations", "objectives", "profiles", "precisions", "runtimes",
        }  # fmt: skip
        assert "status: 5" in (run / "meta.yaml").read_text()  # killed
        assert len(list(run.parent.glob("*/params"))) == 2

    def test_a_server_that_is_not_there(self) -> None:
        with (
            pytest.raises(LoggerError, match=r"mlflow:http://127\.0\.0\.1:9: cannot be written"),
            open_loggers(["mlflow:http://127.0.0.1:9"], print, experiment="e"),
        ):
            pass


def log_twice(where: str, folder: Path) -> None:
    """Logs a run that is interrupted, and its resumption."""
    with suppress(KeyboardInterrupt), open_loggers([where], print, experiment="e") as (sink,):
        sink.begin(RunFolder(folder / "small-1"), FACTS, Budget(4), 0)
        sink.step(7, 10, 2.5)
        sink.epoch(epoch(1), 4)
        raise KeyboardInterrupt
    with open_loggers([where], print, experiment="e") as (sink,):
        sink.begin(RunFolder(folder / "small-1"), FACTS, Budget(4), 1)
        sink.progress(SearchProgress("searching", 1, 2, front=1))
        sink.progress(SearchProgress("searching", 2, 2, front=2, hypervolume=0.5))


@pytest.fixture
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections of this process to anything but sockets of this machine fail the test."""

    def connect(self: socket.socket, address: object) -> None:
        assert self.family == socket.AF_UNIX or "127.0.0.1" in str(address), f"connects to {address}"
        real_connect(self, address)

    real_connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.mark.usefixtures("without_network")
class TestWandb:
    """In its offline mode, whose files are read by the format of LevelDB's log: blocks of 32 KiB with parts of records."""

    @pytest.fixture(autouse=True)
    def wandb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("wandb", reason="Weights & Biases is not installed (the extra wandb)")
        for name in ("WANDB_MODE", "WANDB_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("WANDB_DIR", str(tmp_path))

    def records(self, path: Path) -> list[Any]:
        from wandb.proto.wandb_internal_pb2 import Record

        data, at, part, found = path.read_bytes(), 7, b"", []
        assert data.startswith(b":W&B")
        while at + 7 <= len(data):
            if (left := 32768 - at % 32768) < 7:
                at += left
                continue
            _, length, kind = struct.unpack_from("<IHB", data, at)
            part += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # a whole record, or its last part
                found.append(Record.FromString(part))
                part = b""
        return found

    @pytest.mark.slow
    def test_a_run_and_its_resumption_have_one_id_and_their_own_steps(self, tmp_path: Path) -> None:
        log_twice("wandb:team", tmp_path)
        files = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
        assert len(files) == 2
        deadline = time.monotonic() + 30
        first, second = map(self.records, files)
        while not (first and second and second[-1].HasField("exit")) and time.monotonic() < deadline:
            time.sleep(0.1)  # its process writes the rest of the files after it has answered
            first, second = map(self.records, files)
        runs = [record.run for record in (*first, *second) if record.HasField("run")]
        assert {run.run_id for run in runs} == {files[0].stem.removeprefix("run-")}
        assert {(run.project, run.display_name) for run in runs} == {("team", "small-1")}
        config = {u.key: u.value_json for u in runs[0].config.update}
        assert config["objectives"] == '"accuracy, macs"'
        rows = []
        for record in (*first, *second):
            if record.HasField("history"):
                items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                rows.append({key: float(value) for key, value in items.items() if not key.startswith("_")})
        assert {"training/step": 7, "training/loss": 2.5} in rows
        assert {"epoch/step": 1, "epoch/loss": 2.0, "epoch/largest": 0.9, "epoch/smallest": 0.8} in rows
        [last] = [row for row in rows if "search/hypervolume" in row]
        assert (last["search/step"], last["search/front"], last["search/hypervolume"]) == (2, 2, 0.5)
        exits = [record.exit.exit_code for record in (*first, *second) if record.HasField("exit")]
        assert exits == [1, 0]
        stepped = {
            r.metric.glob_name: r.metric.step_metric for r in first if r.HasField("metric") and r.metric.glob_name
        }
        assert stepped == {f"{group}/*": f"{group}/step" for group in GROUPS}
        assert not any(record.HasField("stats") for record in (*first, *second))

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("WANDB_DIR", str(tmp_path / "file" / "logs"))
        with (
            pytest.raises(LoggerError, match="wandb:team: cannot be written"),
            open_loggers(["wandb:team"], print, experiment="e"),
        ):
            pass


@pytest.mark.usefixtures("without_network")
class TestTrackio:
    """In its local database, read by its own client."""

    @pytest.fixture(autouse=True)
    def trackio(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("trackio", reason="Trackio is not installed (the extra trackio)")
        from trackio import sqlite_storage

        monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")

    def test_a_run_and_its_resumption_are_one_run(self, tmp_path: Path) -> None:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        log_twice("trackio:team", tmp_path)
        [run] = trackio.Api().runs("team")
        assert run.name == "small-1"
        assert run.config is not None
        assert run.config["objectives"] == "accuracy, macs"
        rows = SQLiteStorage.get_logs("team", "small-1")
        assert [(row["step"], row["training/loss"]) for row in rows if "training/loss" in row] == [(7, 2.5)]
        assert [(row["step"], row["epoch/smallest"]) for row in rows if "epoch/smallest" in row] == [(1, 0.8)]
        assert [(row["step"], row["search/front"]) for row in rows if "search/front" in row] == [(2, 2.0)]

    @pytest.mark.parametrize("project", ["registry-team"])
    def test_what_is_no_name_of_a_project(self, project: str) -> None:
        with (
            pytest.raises(LoggerError, match="cannot be written"),
            open_loggers([f"trackio:{project}"], print, experiment="e"),
        ):
            pass

    def test_a_database_that_cannot_be_written_ends_the_log_alone(self, tmp_path: Path) -> None:
        notes: list[str] = []
        with open_loggers(["trackio:team"], notes.append, experiment="e") as (sink,):
            sink.begin(RunFolder(tmp_path / "small-1"), FACTS, Budget(4), 0)
            [database] = (tmp_path / "trackio").glob("team*.db")
            database.write_bytes(b"no database" * 1000)
            sink.epoch(epoch(1), 4)
            sink.epoch(epoch(2), 4)
        [note] = notes
        assert note.startswith("trackio:team: cannot be written")
