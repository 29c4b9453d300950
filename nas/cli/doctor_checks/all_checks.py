"""All checks, in the order of their dependencies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nas.cli.doctor_checks import machine, services, software, storage
from nas.cli.doctor_checks.finding import Finding
from nas.engine.store.folder import RunsFolder
from nas.service.client import NasClient
from nas.service.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of the checks besides the installation and the machine; None skips a check.

    Attributes:
        runs: The folder of the runs.
        environ: The environment variables of this process.
        address: ``HOST:PORT`` of a Ray cluster.
        jobs_url: URL of the job server of that cluster.
        client: Client of a server of `nas serve`.
    """

    runs: RunsFolder
    environ: Mapping[str, str]
    address: str | None = None
    jobs_url: str | None = None
    client: NasClient | None = None


def examine(targets: Targets) -> Iterator[Finding]:
    """The findings of all checks, as they are made."""
    yield software.python()
    yield from software.packages()
    try:
        environment = machine.environment()
    except (ImportError, OSError) as error:  # OSError: a missing shared library
        yield software.not_loaded("onnxruntime", error)
    else:
        yield from machine.measuring(environment)
        yield from machine.energy(environment)
        yield from machine.cpus(environment)
        yield machine.speed(environment)
        yield machine.threads(targets.environ, int(environment["allowed_cpus"]))
    yield from machine.memory()
    yield machine.disk(targets.runs.root)
    yield storage.runs_folder(targets.runs)
    yield from storage.runs_in(targets.runs)
    yield from storage.service_state(ServiceSettings(targets.runs).database)
    yield from storage.permissions(targets.runs)
    torch = software.torch()
    yield torch
    if torch.state != "wrong":
        yield storage.data_sets()
    yield software.ray_parts()
    if targets.address is not None:
        yield services.ray_cluster(targets.address)
    if targets.jobs_url is not None:
        yield services.job_server(targets.jobs_url)
    if targets.client is not None:
        yield from services.server(targets.client, software.own_version())
