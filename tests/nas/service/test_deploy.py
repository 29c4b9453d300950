"""What is shipped for running the service fits what it is about: Ray's own schema, the package, the command line."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml

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
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        assert rest, "a group of commands, and none of them is named"
        assert rest[0] in command.commands
        command = command.commands[rest.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known
