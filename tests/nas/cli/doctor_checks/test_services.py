"""Servers and clusters that answer, reject the token, have another version, or are missing."""

from __future__ import annotations

import socket
from typing import Any

import httpx

from nas.cli.doctor_checks import services
from nas.cli.doctor_checks.finding import Finding
from nas.service.client import NasClient
from tests.nas.service.client.answers import Script, gone, problem

READY = {"ready": True, "parts": {"ray": "ok", "store": "ok"}}


def script(ready: Any = READY, *, version: str = "0.1.0") -> Script:
    return Script(
        health=[lambda: httpx.Response(200, json={"status": "ok", "version": version})],
        runs=[lambda: httpx.Response(200, json={"total": 0, "offset": 0, "runs": []})],
        ready=[lambda: httpx.Response(200 if ready["ready"] else 503, json=ready)],
    )


def checked(script: Script, url: str = "http://127.0.0.1:8700") -> list[Finding]:
    with NasClient(url, wait=lambda _: None, through=httpx.MockTransport(script)) as client:
        return services.server(client, "0.1.0")


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: str(finding.state) for finding in findings}


def test_a_healthy_server() -> None:
    assert states(checked(script())) == {"server": "ok", "server's parts": "ok"}


def test_a_server_of_another_version_that_is_not_ready() -> None:
    starting = {"ready": False, "parts": {"ray": "is being started", "store": "ok"}}
    findings = checked(script(starting, version="0.2.0"))
    assert states(findings) == {"server": "warning", "server's parts": "warning"}
    assert "0.1.0" in findings[0].remedy
    assert findings[1].observation == "ray: is being started"


def test_a_token_without_encryption() -> None:
    assert states(checked(script(), "http://team.test:8700"))["server's TLS"] == "warning"
    assert "server's TLS" not in states(checked(script(), "https://team.test:8700"))


def test_a_server_that_rejects_the_token() -> None:
    rejecting = script()
    rejecting.answers["runs"] = [lambda: problem(401, "a token is needed")]
    (found,) = checked(rejecting)
    assert found.state == "wrong"
    assert "NAS_TOKEN" in found.remedy


def test_no_server() -> None:
    (found,) = checked(Script(health=[gone]))
    assert found.state == "wrong"
    assert "127.0.0.1:8700" in found.observation


def test_a_missing_cluster() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = services.ray_cluster(f"127.0.0.1:{port}")
    assert (found.check, found.state) == ("ray cluster", "wrong")
    assert "ray start --head" in found.remedy


def test_a_missing_job_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = services.job_server(f"http://127.0.0.1:{port}")
    assert (found.check, found.state) == ("job server", "wrong")
    assert "RAY_AUTH_TOKEN_PATH" in found.remedy
