"""Commands against a server: what they ask, what they print for people and for scripts, and how they end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

import nas.service
from nas.engine.store.folder import RunsFolder
from nas.plugins.testing.onnx_networks import conv_net
from nas.service.client import NasClient
from nas.service.jobs.dispatcher import Dispatcher
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.nas.commands import SMALL_JOB, Shell
from tests.nas.service.client.answers import Script, as_json, gone, problem, summary
from tests.nas.service.client.served import served
from tests.nas.service.made_runs import Jobs
from tests.nas.users_networks import MODEL, installed

QUEUED = summary("queued", queue_position=2)
COURSE = [QUEUED, summary(epoch=2), summary(evaluations=15), summary("finished", evaluations=30)]
HERE = ("--server", "http://127.0.0.1:8700")
CONTENT = b"\x08\x0aonnx"


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name in ("NAS_SERVER", "NAS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return Shell(tmp_path, capsys, monkeypatch)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Script]:
    """Puts a script in the place of the server, whatever its address."""

    def put(**answers: Any) -> Script:
        script = Script(**answers)
        through = partial(NasClient, wait=script.waited.append, through=httpx.MockTransport(script))
        monkeypatch.setattr(nas.service, "NasClient", through)
        return script

    return put


def course(*found: Any) -> list[Callable[[], httpx.Response]]:
    return [lambda value=value: as_json(value) for value in found]


def page(*runs: Any, total: int | None = None, offset: int = 0) -> Callable[[], httpx.Response]:
    shown = [run.model_dump(mode="json") for run in runs]
    total = len(runs) if total is None else total
    return lambda: httpx.Response(200, json={"total": total, "offset": offset, "runs": shown})


class TestSubmit:
    def test_the_text_of_the_job_is_sent(self, shell: Shell, serve: Callable[..., Script]) -> None:
        script = serve(runs=[lambda: as_json(QUEUED)])
        job = shell.job("name: small  # mine\n")
        found = shell.nas("submit", job, "--hardware", "cpu-1-thread", "--hardware", "board", "--kind", "training")
        assert json.loads(script.asked[0].content) == {
            "job": "name: small  # mine\n", "kind": "training", "hardware": ["cpu-1-thread", "board"],
        }  # fmt: skip
        assert found.out == "small-1: queued, number 2\nnext: nas watch small-1\n"
        assert (found.code, found.err) == (0, "")

    def test_scripts_get_the_run(self, shell: Shell, serve: Callable[..., Script]) -> None:
        serve(runs=[lambda: as_json(QUEUED)])
        assert shell.nas("submit", shell.job(), "--json").data == QUEUED.model_dump(mode="json")

    def test_and_may_be_watched(self, shell: Shell, serve: Callable[..., Script]) -> None:
        serve(runs=[lambda: as_json(QUEUED)], status=course(*COURSE))
        found = shell.nas("submit", shell.job(), "--watch")
        assert found.code == 0
        assert found.err.splitlines()[:2] == ["submitted as small-1", "small-1: queued, number 2"]
        assert found.out == "small-1: finished, 30 of 30 evaluations\nnext: nas fetch small-1\n"

    def test_a_refused_job_is_told_by_field(self, shell: Shell, serve: Callable[..., Script]) -> None:
        wrong = [{"field": "search.evaluations", "message": "expected at least 1, got 0"}]
        serve(runs=[lambda: problem(422, "the job cannot be run", errors=wrong)])
        found = shell.nas("submit", shell.job())
        assert (found.code, found.out) == (1, "")
        assert found.err == "error: the job cannot be run\n  search.evaluations: expected at least 1, got 0\n"

    @pytest.mark.parametrize(
        ("arguments", "code", "value"),
        [
            (["none.yaml"], "file.not-readable", "none.yaml"),
            (["latin.yaml"], "file.not-readable", "UTF-8"),
            (["job.yaml", "--kind", "both"], "job.invalid-value", "'both'"),
            (["job.yaml", "--server", "here"], "service.invalid-url", "'here'"),
            (["job.yaml", "--token", "a", "--token-file", "b"], "service.invalid-token", "--token-file"),
            (["job.yaml", "--token-file", "empty"], "service.invalid-token", "empty"),
            (["job.yaml", "--token-file", "none"], "service.invalid-token", "none"),
        ],
    )
    def test_invalid_arguments_are_an_error_before_anything_is_sent(
        self, shell: Shell, serve: Callable[..., Script], arguments: list[str], code: str, value: str
    ) -> None:
        script = serve(runs=[lambda: as_json(QUEUED)])
        shell.job()
        (shell.folder / "empty").write_text("\n")
        (shell.folder / "latin.yaml").write_bytes(b"name: \xe9\n")
        found = shell.nas("submit", *arguments)
        assert found.code == 1
        assert found.error == code
        assert value in found.err
        assert script.asked == []


class TestStatus:
    def test_all_runs_of_all_pages(self, shell: Shell, serve: Callable[..., Script]) -> None:
        first, second = summary("failed", run="a-2", reason="no such data"), QUEUED
        script = serve(runs=[page(first, total=2), page(second, total=2, offset=1)])
        assert [row["run"] for row in shell.nas("status", "--json").data] == ["a-2", "small-1"]
        assert [dict(request.url.params)["offset"] for request in script.asked] == ["0", "1"]
        script.answers["runs"] = [page(first, second)]
        lines = shell.nas("status").out.splitlines()
        assert lines[1].split() == ["a-2", "search", "failed", "0", "of", "30", "evaluations", "no", "such", "data",
                                    "nas", "resume", "a-2", "--server", "http://127.0.0.1:8700"]  # fmt: skip
        assert lines[2].split()[:5] == ["small-1", "search", "queued,", "number", "2"]

    def test_one_run(self, shell: Shell, serve: Callable[..., Script]) -> None:
        serve(status=[lambda: as_json(COURSE[1])])
        assert shell.nas("status", "small-1", "--json").data == COURSE[1].model_dump(mode="json")
        assert "2 of 4 epochs" in shell.nas("status", "small-1").out

    def test_no_runs(self, shell: Shell, serve: Callable[..., Script]) -> None:
        serve(runs=[page()])
        assert shell.nas("status").out == "no runs at http://127.0.0.1:8700; submit one with: nas submit JOB.yaml\n"
        assert shell.nas("status", "--json").data == []


class TestWatch:
    def test_people_see_each_change(self, shell: Shell, serve: Callable[..., Script]) -> None:
        serve(status=course(*COURSE))
        found = shell.nas("watch", "small-1")
        assert found.code == 0
        assert found.err.splitlines()[:3] == [
            "small-1: queued, number 2", "small-1: running", "training, epoch: 2 of 4",
        ]  # fmt: skip
        assert "searching: 30 of 30" in found.err

    def test_scripts_get_a_line_a_change(self, shell: Shell, serve: Callable[..., Script]) -> None:
        serve(status=course(*COURSE))
        found = shell.nas("watch", "small-1", "--json")
        assert [json.loads(line) for line in found.out.splitlines()] == [c.model_dump(mode="json") for c in COURSE]
        assert found.err == ""

    @pytest.mark.parametrize("status", ["failed", "cancelled"])
    @pytest.mark.parametrize("extra", [[], ["--json"]])
    def test_a_run_that_does_not_finish_is_an_error(
        self, shell: Shell, serve: Callable[..., Script], status: str, extra: list[str]
    ) -> None:
        serve(status=course(QUEUED, summary(status, reason="the disk is full")))
        found = shell.nas("watch", "small-1", *extra)
        assert found.code == 1
        error, following = found.err.splitlines()[-2:]
        assert error == f"error: small-1: {status}: the disk is full"
        assert following.startswith("next: nas resume small-1 --server http://127.0.0.1:8700")

    def test_ctrl_c_leaves_the_run_alone_and_says_so(self, shell: Shell, serve: Callable[..., Script]) -> None:
        def interrupted() -> httpx.Response:
            raise KeyboardInterrupt

        script = serve(status=[*course(QUEUED), interrupted])
        found = shell.nas("watch", "small-1")
        assert found.code == 130
        assert "nas watch small-1" in found.err
        assert {request.method for request in script.asked} == {"GET"}

    @pytest.mark.parametrize("extra", [[], ["--json"]])
    def test_a_server_that_goes_away_is_waited_for_and_told(
        self, shell: Shell, serve: Callable[..., Script], extra: list[str]
    ) -> None:
        serve(status=[*course(QUEUED), gone, gone, gone, *course(COURSE[3])])
        found = shell.nas("watch", "small-1", *extra)
        assert found.code == 0
        notes = [line for line in found.err.splitlines() if "waiting up to" in line]
        assert len(notes) == 1
        assert notes[0].startswith(
            "small-1 continues; waiting up to 5 minutes for its server: no server answers at http"
        )

    def test_no_server(self, shell: Shell, serve: Callable[..., Script]) -> None:
        serve(status=[gone])
        found = shell.nas("watch", "small-1")
        assert (found.code, found.out) == (1, "")
        assert found.err.startswith("error: no server answers at http://127.0.0.1:8700")
        assert found.err.endswith("\nnext: nas serve\n")


class TestLogs:
    def test_until_now(self, shell: Shell, serve: Callable[..., Script]) -> None:
        serve(logs=[lambda: httpx.Response(200, text="one\ntwo\n")])
        assert shell.nas("logs", "small-1").out == "one\ntwo\n"
        assert shell.nas("logs", "small-1", "--json").data == {"run": "small-1", "logs": "one\ntwo\n"}

    def test_until_the_end(self, shell: Shell, serve: Callable[..., Script]) -> None:
        texts = ["one\n", "one\ntwo\n"]
        script = serve()
        for extra, expected in (([], "one\ntwo\n"), (["--json"], None)):
            script.answers = {
                "status": [lambda: as_json(COURSE[1]), lambda: as_json(COURSE[3])],
                "logs": [lambda text=text: httpx.Response(200, text=text) for text in texts],
            }
            found = shell.nas("logs", "small-1", "--follow", *extra)
            assert found.code == 0
            if expected is not None:
                assert found.out == expected
            else:
                assert [json.loads(line)["logs"] for line in found.out.splitlines()] == ["one\n", "two\n"]


def test_cancel(shell: Shell, serve: Callable[..., Script]) -> None:
    script = serve(cancel=[lambda: as_json(summary("cancelled"))])
    kept = "; its measurements are kept\nnext: nas resume small-1 --server http://127.0.0.1:8700\n"
    assert shell.nas("cancel", "small-1").out == f"small-1: cancelled{kept}"
    assert shell.nas("cancel", "small-1", "--json").data["status"] == "cancelled"
    script.answers["cancel"] = [lambda: as_json(summary())]
    assert shell.nas("cancel", "small-1").out == f"small-1: is being cancelled{kept}"
    assert [(r.method, r.url.path) for r in script.asked] == [("POST", "/api/v1/runs/small-1/cancel")] * 3


class TestResume:
    def test_a_run_of_the_server_waits_again(self, shell: Shell, serve: Callable[..., Script]) -> None:
        script = serve(resume=[lambda: as_json(QUEUED)])
        found = shell.nas("resume", "small-1", *HERE)
        assert (found.code, found.err) == (0, "")
        assert found.out == "small-1: queued, number 2\nnext: nas watch small-1 --server http://127.0.0.1:8700\n"
        more = shell.nas("resume", "small-1", "--evaluations", "+50", "--minutes", "7", *HERE, "--json")
        assert more.data == QUEUED.model_dump(mode="json")
        assert [(r.method, r.url.path) for r in script.asked] == [("POST", "/api/v1/runs/small-1/resume")] * 2
        assert [json.loads(r.content) for r in script.asked] == [{}, {"evaluations": "+50", "minutes": "7"}]
        shell.nas("resume", "small-1", "--retry-failed", *HERE)
        assert json.loads(script.asked[-1].content) == {"retry_failed": True}

    def test_the_environment_alone_never_means_the_server(
        self, shell: Shell, serve: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = serve(resume=[lambda: as_json(QUEUED)])
        monkeypatch.setenv("NAS_SERVER", "https://team.test")
        found = shell.nas("resume", "small-1")
        assert found.code == 1
        assert "unknown run 'small-1'" in found.err
        assert "for a run on your server: nas resume small-1 --server https://team.test" in found.err.splitlines()
        assert script.asked == []

    @pytest.mark.parametrize(
        "options",
        [
            ["--token", "a"],
            ["--token-file", "a"],
            *([*HERE, *o] for o in (["--inline"], ["--runs", "a"], ["--address", "a"])),
        ],
    )
    def test_options_of_the_other_place_are_wrong_usage(
        self, shell: Shell, serve: Callable[..., Script], options: list[str]
    ) -> None:
        script = serve(resume=[lambda: as_json(QUEUED)])
        found = shell.nas("resume", "small-1", *options)
        assert found.code == 2
        assert "is for runs on" in found.err
        assert script.asked == []


class TestFetch:
    @pytest.fixture
    def script(self, serve: Callable[..., Script]) -> Script:
        export = {
            "export": "e1", "run": "small-1", "status": "queued", "reason": "", "submitted": "2025-01-01T00:00:00Z",
            "request": {"select": None, "index": None}, "files": [], "result": None,
        }  # fmt: skip
        file = {"name": "model.onnx", "bytes": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
        done = {**export, "status": "finished", "files": [file], "result": {"parity": 1e-7}}
        return serve(**{
            "exports": [lambda: httpx.Response(202, json=export)],
            "e1": [lambda: httpx.Response(200, json={**export, "status": "running"}), lambda: httpx.Response(200, json=done)],
            "model.onnx": [lambda: httpx.Response(200, content=CONTENT)],
        })  # fmt: skip

    def test_an_export_is_waited_for_and_downloaded(self, shell: Shell, script: Script) -> None:
        found = shell.nas("fetch", "small-1")
        assert found.code == 0
        assert found.out == "wrote small-1/model.onnx\n"
        assert found.err == "export e1: queued\nexport e1: running\n"
        assert (shell.folder / "small-1" / "model.onnx").read_bytes() == CONTENT
        assert json.loads(script.asked[0].content) == {}

    def test_within_limits_into_a_folder_for_scripts(self, shell: Shell, script: Script) -> None:
        made = shell.nas("fetch", "small-1", "-o", "to", "--select", "latency_ms<=1", "--json").data
        assert made["paths"] == ["to/model.onnx"]
        assert made["result"] == {"parity": 1e-7}
        shell.nas("fetch", "small-1", "--index", "0", "--with-preprocessing")
        posted = [json.loads(request.content) for request in script.asked if request.method == "POST"]
        assert posted == [{"select": "latency_ms<=1"}, {"index": 0, "with_preprocessing": True}]

    def test_a_failed_export_is_an_error(self, shell: Shell, script: Script) -> None:
        failed = json.loads(script.answers["e1"][1]().content) | {
            "status": "failed",
            "reason": "no parity",
            "files": [],
        }
        script.answers["e1"] = [lambda: httpx.Response(200, json=failed)]
        found = shell.nas("fetch", "small-1")
        assert found.code == 1
        assert found.err.splitlines()[-1] == "error: small-1: the export failed: no parity"
        assert not (shell.folder / "small-1").exists()

    def test_one_choice_is_taken(self, shell: Shell, script: Script) -> None:
        found = shell.nas("fetch", "small-1", "--select", "latency_ms<=1", "--index", "0")
        assert (found.code, found.error) == (1, "selection.ambiguous")
        assert script.asked == []


class TestTheToken:
    @pytest.fixture
    def script(self, serve: Callable[..., Script]) -> Script:
        return serve(runs=[page()])

    @pytest.mark.parametrize("way", ["option", "file", "environment", "file before environment"])
    def test_comes_from(self, shell: Shell, script: Script, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
        (shell.folder / "token").write_text("s3cret\n")
        arguments = {"option": ["--token", "s3cret"], "environment": []}.get(way, ["--token-file", "token"])
        if way == "environment":
            monkeypatch.setenv("NAS_TOKEN", "s3cret")
        elif way == "file before environment":
            monkeypatch.setenv("NAS_TOKEN", "other")
        assert shell.nas("status", *arguments).code == 0
        assert script.asked[0].headers["authorization"] == "Bearer s3cret"

    def test_is_not_shown_where_there_is_none(self, shell: Shell, script: Script) -> None:
        assert shell.nas("status").code == 0
        assert "authorization" not in script.asked[0].headers

    def test_the_server_comes_from_the_environment(
        self, shell: Shell, script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NAS_SERVER", "https://team.test/nas")
        assert shell.nas("status").code == 0
        assert str(script.asked[0].url).startswith("https://team.test/nas/api/v1/runs?")


def test_the_true_server(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = RunsFolder(shell.folder / "served")
    runs.check_writable()
    settings = ServiceSettings(runs)
    state = ServiceState.open(settings.database)
    jobs = Jobs()
    dispatcher = Dispatcher(settings, state, jobs, address=lambda: None)
    with served(Service(settings, state, jobs)) as url:
        monkeypatch.setenv("NAS_SERVER", url)
        submitted = shell.nas("submit", shell.job(SMALL_JOB), "--json").data
        assert (submitted["run"], submitted["status"]) == ("small-1", "queued")
        assert shell.nas("status", "--json").data == [submitted]
        assert shell.nas("cancel", "small-1").code == 0
        dispatcher.tick()
        assert shell.nas("watch", "small-1").err.splitlines()[-2].startswith("error: small-1: cancelled")
        assert shell.nas("logs", "small-1", "--follow").out == ""
        assert shell.nas("fetch", "small-1").code == 1
        assert "unknown run 'big-1'" in shell.nas("status", "big-1").err
        wrong = shell.nas("submit", shell.job(SMALL_JOB.replace("kernel: [3]", "kernel: [4]")))
        assert wrong.code == 1
        assert "kernel" in wrong.err
    state.close()


def test_the_captured_model_of_a_job_is_uploaded_once(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(shell.folder, monkeypatch)
    (shell.folder / "jobs").mkdir()
    assert shell.nas("capture", MODEL, "--input", "1x8x8", "-o", "jobs/my net.capture").code == 0
    job = "name: own\ndata: {name: digits}\nsupernet:\n  model: my net.capture  # mine\n"
    (shell.folder / "jobs" / "own.yaml").write_text(job)
    runs = RunsFolder(shell.folder / "served")
    runs.check_writable()
    settings = ServiceSettings(runs)
    state = ServiceState.open(settings.database)
    with served(Service(settings, state, Jobs())) as url:
        monkeypatch.setenv("NAS_SERVER", url)
        first = shell.nas("submit", "jobs/own.yaml", "--json")
        assert first.code == 0, first.err
        assert "uploaded jobs/my net.capture as the model my-net-" in first.err
        [model] = shell.nas("models", "list", "--json").data
        text = runs.get(first.data["run"]).submitted_file.read_text()
        assert f"model: {model['path']}  # mine" in text
        assert "uploaded" not in shell.nas("submit", "jobs/own.yaml").err
        assert len(shell.nas("models", "list", "--json").data) == 1
        (shell.folder / "jobs" / "conv.onnx").write_bytes(conv_net(depth=3, size=8))
        onnx_job = job.replace("my net.capture", "conv.onnx").replace(
            "  model", "  arguments: {dequantize: false}\n  model"
        )
        (shell.folder / "jobs" / "onnx.yaml").write_text(onnx_job)
        captured_onnx = shell.nas("submit", "jobs/onnx.yaml", "--json")
        assert "uploaded jobs/conv.onnx as the model conv-" in captured_onnx.err
        refused = shell.nas("submit", shell.job(job.replace("my net.capture", "timm:resnet18")))
        assert "submitted jobs run no model's own code" in refused.err
        assert shell.nas("models", "delete", model["name"]).code == 1  # two runs wait for it
        assert shell.nas("models", "add", "more", "jobs/my net.capture").out == (
            "in the job file: supernet: {model: models/more}\n"
        )
        assert shell.nas("models", "delete", "more").code == 0
        assert "more" not in shell.nas("models", "list").out
    state.close()
