"""What is shipped for running the service fits what it is about: Ray's own schema, the package, the command line."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml
from fastapi.testclient import TestClient

import nas.cli
import nas.service
from nas.cli.commands import app

FOLDER = Path(nas.service.__file__).parent / "deploy"
ROOT = Path(__file__).parents[3]
README = (FOLDER / "README.md").read_text(encoding="utf-8")
WORDS = [
    words.split()
    for text in re.findall(r"```\n(.*?)```", README, re.DOTALL)
    for line in text.splitlines()
    for words in re.findall(r"(?:^|\s|/|subnet-)nas ([a-z][^#&]*)", line)
] + [words.split() for words in re.findall(r"`nas ([a-z][^`]*)`", README)]


def test_the_cluster_is_one_as_ray_understands_it() -> None:
    where = find_spec("ray")
    assert where is not None
    assert where.origin is not None
    schema = json.loads((Path(where.origin).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    cluster = yaml.safe_load((FOLDER / "cluster.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(cluster, schema)
    starts = [cluster[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]
    assert all("RAY_AUTH_MODE=token" in start and "OMP_WAIT_POLICY=passive" in start for start in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_the_container_is_made_of_what_is_there() -> None:
    lines = (FOLDER / "Containerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if re.match(r"COPY (?!--)", line) for word in line.split()[1:-1]]
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]} <= {*copied}
    (extras,) = [line.partition("EXTRAS=")[2].split(",") for line in lines if line.startswith("ARG EXTRAS=")]
    assert {*extras} <= {*project["project"]["optional-dependencies"]}
    assert lines.index("USER nas") < lines.index('ENTRYPOINT ["tini", "--", "nas"]')


def test_the_container_has_what_a_server_needs_with_and_without_cuda() -> None:
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", text, re.MULTILINE)
    assert {"service", "distributed", "openvino", "postgres", "text"} <= {*extras.split(",")}
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    server = compose["services"]["nas"]
    (argument,) = server["build"]["args"]
    assert f"ARG {argument}=cpu" in text
    assert {"cpu)", "cuda)"} <= {*text.split()}
    assert (FOLDER / server["build"]["context"] / server["build"]["dockerfile"]).resolve() == FOLDER / "Containerfile"
    assert server["stop_grace_period"] == "60s"
    check_options(server["command"])


@pytest.mark.parametrize("unit", ["nas.service", "nas-stop-jobs.service"])
def test_units_start_commands_that_exist(unit: str) -> None:
    settings = unit_of(unit)
    command = settings["Service", "ExecStart"].split()
    assert command[0] == "/opt/nas/bin/nas"
    check_options([word for word in command[1:] if not word.startswith("$")])
    assert settings["Service", "UMask"] == "0077"


def test_the_servers_unit_leaves_jobs_alive_and_starts_at_boot() -> None:
    settings = unit_of("nas.service")
    assert settings["Service", "KillMode"] == "process"
    assert ("Service", "PrivateTmp") not in settings  # Ray lives in /tmp, and outlives the unit
    assert settings["Install", "WantedBy"] == "multi-user.target"
    assert unit_of("nas-stop-jobs.service")["Unit", "Conflicts"] == "nas.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_units_are_valid_and_hardened(tmp_path: Path) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    for unit in ("nas.service", "nas-stop-jobs.service"):
        text = (FOLDER / unit).read_text(encoding="utf-8").replace("/opt/nas/bin/nas", sys.executable)
        (tmp_path / unit).write_text(re.sub("^(User|Group)=.*$", rf"\1={user}", text, flags=re.MULTILINE))
    units = [str(tmp_path / unit) for unit in ("nas.service", "nas-stop-jobs.service")]
    analyze(tmp_path, "verify", "--man=no", *units)
    analyze(tmp_path, "security", "--offline=true", "--no-pager", "--threshold=30", units[0])


def analyze(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}
    result = subprocess.run(
        ["systemd-analyze", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def unit_of(name: str) -> dict[tuple[str, str], str]:
    """The settings of a unit by section and key; of a key that occurs twice, the last one."""
    settings, section = {}, ""
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings[section, key] = value
    return settings


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_the_proxys_configuration_is_valid(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        address = f"127.0.0.1:{bound.getsockname()[1]}"
    text = (FOLDER / "nginx.conf").read_text(encoding="utf-8").replace("listen 443 ssl", f"listen {address}")
    (tmp_path / "nas.conf").write_text(re.sub("^ +ssl_.*$", "", text, flags=re.MULTILINE))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    http = f"access_log off; {folders} include {tmp_path}/nas.conf;"
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid; events {{}} http {{ {http} }}")
    command = ["nginx", "-t", "-e", tmp_path / "errors.log", "-p", tmp_path, "-c", tmp_path / "nginx.conf"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_alerts_are_about_metrics_that_the_server_has(client: TestClient) -> None:
    """`client`: of a server that answers one request without an error, and one with."""
    client.get("/api/v1/health")
    text = client.get("/api/v1/metrics").text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} | {"up"}
    rules = yaml.safe_load((FOLDER / "prometheus-alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    used = {name for rule in rules for name in re.findall(r"\b(?:nas_\w+|process_\w+|up)\b", rule["expr"])}
    assert {name.removesuffix("_total") for name in used} <= {name.removesuffix("_total") for name in names}
    documented = set(re.findall(r"`((?:nas|process)_[a-z_]+)", README))
    own = {name for name in names if name.startswith("nas_") and not name.endswith("_created")}
    assert own <= documented


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's package promtool is not installed")
def test_alerts_fire_as_prometheus_understands_them(tmp_path: Path) -> None:
    alerts = tmp_path / "prometheus-alerts.yml"
    shutil.copyfile(FOLDER / alerts.name, alerts)
    case = {
        "rule_files": [alerts.name],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": 'up{job="nas", instance="a"}', "values": "1x10 0x10"},
                    {"series": 'nas_can_start_jobs{instance="a"}', "values": "1x20"},
                    {"series": 'nas_driver_deaths_total{instance="a"}', "values": "0 0 1 2 3 4 5 5x20"},
                    {"series": 'nas_disk_free_bytes{instance="a"}', "values": "9e9x20"},
                    {"series": 'nas_disk_size_bytes{instance="a"}', "values": "1e12x20"},
                ],
                "promql_expr_test": [
                    {
                        "expr": "count by (alertname) (ALERTS{alertstate='firing'})",
                        "eval_time": "15m",
                        "exp_samples": [
                            {"labels": f'{{alertname="{name}"}}', "value": 1}
                            for name in ("NasDown", "NasDiskNearlyFull", "NasDriversDie")
                        ],
                    }
                ],
            }
        ],
    }
    (tmp_path / "case.yml").write_text(yaml.safe_dump(case))
    (scraping,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(scraping.replace("/etc/prometheus/nas-alerts.yml", alerts.name))
    for arguments in (
        ["check", "rules", alerts],
        ["test", "rules", "case.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
    ):
        result = subprocess.run(["promtool", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_page_is_read_for_commands() -> None:
    assert {words[0] for words in WORDS} >= {
        "serve",
        "token",
        "doctor",
        "upgrade",
        "submit",
        "fetch",
        "status",
        "profile",
    }


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_commands_of_the_page_exist_with_their_options(words: list[str]) -> None:
    check_options(words)


def check_options(words: list[str]) -> None:
    """Checks that a command exists, with its options."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        assert rest, "a group of commands, and none of them is named"
        assert rest[0] in command.commands
        command = command.commands[rest.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known
