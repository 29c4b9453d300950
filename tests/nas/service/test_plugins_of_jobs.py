"""Plug-ins of submitted jobs: registered names are accepted, classes only where the server's owner allows them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from nas.engine.store.folder import RunsFolder
from nas.service.settings import ServiceSettings
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.plugin_packages import PluginPackages

API = "/api/v1"
ALLOWED = "kit_of_plugins:Energy"
BROKEN = "raise SystemExit('the server imported a plug-in')"
ENTRIES = {"search": {"walk": "kit_of_plugins:Walk", "random": "kit_of_plugins:Random"}}


@pytest.fixture
def settings(runs: RunsFolder) -> ServiceSettings:
    return ServiceSettings(runs, allowed_plugins=(ALLOWED,))


@pytest.fixture(autouse=True)
def kit(plugin_packages: PluginPackages) -> Iterator[None]:
    plugin_packages.install("kit", {"kit_of_plugins": BROKEN}, entries=ENTRIES)
    yield
    assert "kit_of_plugins" not in sys.modules


def test_a_class_is_refused_and_nothing_is_imported(client: TestClient) -> None:
    job = SMALL_JOB.replace("algorithm: guided", "algorithm: kit_of_plugins:Walk").replace(
        "family: mobile-cnn", "family: os:F"
    )
    answer = client.post(f"{API}/runs", json={"job": job})
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("#plugin.refused")
    fields = {problem["field"]: problem["message"] for problem in answer.json()["errors"]}
    assert set(fields) == {"search.algorithm", "supernet.family"}
    assert "owner allows" in fields["search.algorithm"]
    assert client.get(f"{API}/runs").json()["runs"] == []
    check = client.post(f"{API}/jobs/check", json={"job": job}).json()
    assert {problem["field"] for problem in check["errors"]} == set(fields)
    assert client.post(f"{API}/jobs/plans", json={"job": job}).status_code == 422


def test_registered_names_and_allowed_classes_are_accepted(client: TestClient) -> None:
    job = SMALL_JOB.replace("algorithm: guided", "algorithm: walk").replace(
        "[accuracy, latency_ms]", "[accuracy, energy]"
    )
    job += f"metrics: {{energy: {ALLOWED}}}\nconstraints: {{energy: {{max: 3}}}}\n"
    check = client.post(f"{API}/jobs/check", json={"job": job}).json()
    assert check["ok"], check
    metrics = {metric["name"]: metric for metric in check["fields"]["metrics"]}
    assert (metrics["energy"]["is_objective"], metrics["energy"]["maximum"]) == (True, 3)
    run = client.post(f"{API}/runs", json={"job": job})
    assert run.status_code == 201, run.text
    assert client.get(f"{API}/runs/{run.json()['run']}").status_code == 200
    refused = client.post(f"{API}/runs", json={"job": job.replace("Energy", "Other")})
    assert refused.json()["type"].endswith("#plugin.refused")


def test_what_jobs_may_name_is_listed(client: TestClient) -> None:
    answer = client.get(f"{API}/plugins")
    assert answer.status_code == 200, answer.text
    other, walk, allowed = answer.json()
    assert walk == {
        "kind": "search", "name": "walk", "target": "kit_of_plugins:Walk", "package": "kit", "version": "0.1", "error": "",
    }  # fmt: skip
    assert "shipped" in other["error"]
    assert (allowed["name"], allowed["package"]) == (ALLOWED, "kit")
    page = client.get("/submit", headers={"accept": "text/html"}).text
    assert ALLOWED in page
    assert "kit_of_plugins:Walk" in page


def test_an_option_that_names_no_class_is_rejected(runs: RunsFolder) -> None:
    with raises("server.settings-invalid", "--allow-plugin 'energy'"):
        ServiceSettings(runs, allowed_plugins=("energy",))
