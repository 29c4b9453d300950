"""All checks, in the order in which one depends on the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nas.client import NasClient
from nas.doctor import machine, services, software, storage
from nas.doctor.finding import Finding, wrong
from nas.service.settings import ServiceSettings
from nas.store.folder import RunsFolder


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be looked at beside the installation and the machine.

    Attributes:
        environ: environment variables.
        address: ``HOST:PORT`` of a Ray cluster, where there is one.
        jobs_url: of its job server.
        client: of a server, where there is one.
    """

    runs: RunsFolder
    environ: Mapping[str, str]
    address: str | None = None
    jobs_url: str | None = None
    client: NasClient | None = None


def examine(asked: Asked) -> Iterator[Finding]:
    """What every check finds, as it finds it."""
    yield software.python()
    yield from software.packages()
    try:
        told = machine.environment()
    except (ImportError, OSError) as error:  # OSError: a shared library that is not there
        said = (str(error).splitlines() or [type(error).__name__])[0]
        yield wrong("onnxruntime", f"cannot be loaded: {said}", "pip install --upgrade onnxruntime")
    else:
        yield from machine.measuring(told)
        yield from machine.cpus(told)
        yield machine.threads(asked.environ, int(told["allowed_cpus"]))
    yield from machine.memory()
    yield machine.disk(asked.runs.root)
    yield storage.runs_folder(asked.runs)
    yield from storage.runs_in(asked.runs)
    yield from storage.service_state(ServiceSettings(asked.runs).database)
    torch = software.torch()
    yield torch
    if torch.state != "wrong":
        yield storage.data_sets()
    yield software.ray_parts()
    if asked.address is not None:
        yield services.ray_cluster(asked.address)
    if asked.jobs_url is not None:
        yield services.job_server(asked.jobs_url)
    if asked.client is not None:
        yield from services.server(asked.client, software.own_version())
