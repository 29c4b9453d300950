"""Checks of other processes: a Ray cluster, its job server, and a server of `nas serve`."""

from __future__ import annotations

from urllib.parse import urlsplit

from nas.cli.doctor_checks.finding import Finding, ok, warning, wrong
from nas.engine.evaluation.cluster import check_answers
from nas.errors import EvaluationError, ServiceError
from nas.service.client import NasClient, RefusedError
from nas.service.jobs.job_runner import ExternalCluster
from nas.service.jobs.ray_jobs import RayJobs

_TOKEN_REJECTED = (401, 403)


def ray_cluster(address: str) -> Finding:
    """Checks that a Ray head answers at ``HOST:PORT``."""
    try:
        check_answers(address)
    except EvaluationError as error:
        return wrong("ray cluster", str(error), "start one with `ray start --head`, or correct --address")
    return ok("ray cluster", f"answers at {address}")


def job_server(jobs_url: str) -> Finding:
    """Checks that the job server of a cluster accepts jobs, with the token of Ray's own environment variables."""
    try:
        RayJobs(ExternalCluster("", jobs_url).ready).states(())
    except ServiceError as error:
        remedy = (
            "check the URL (by default http://HEAD:8265), and set RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH as on the head"
        )
        return wrong("job server", f"{jobs_url}: {error}", remedy)
    return ok("job server", f"{jobs_url} answers")


def server(client: NasClient, own_version: str) -> list[Finding]:
    """Checks that a server answers, has this installation's version, accepts this token, and can run jobs."""
    try:
        health = client.health()
        client.runs(limit=1)
    except RefusedError as error:
        token = "set NAS_TOKEN to a token from `nas token make NAME` on the server"
        remedy = token if error.problem.status in _TOKEN_REJECTED else "check its log"
        return [wrong("server", str(error), remedy)]
    except ServiceError as error:
        return [wrong("server", str(error), "correct NAS_SERVER, or start the server")]
    observation = f"{client.server} answers, version {health.version}"
    remedy = f"install the same version on both sides (this one is {own_version})"
    findings = [ok("server", observation) if health.version == own_version else warning("server", observation, remedy)]
    ready = client.ready()
    if ready.ready:
        findings.append(ok("server's parts", ", ".join(ready.parts) or "ready"))
    else:
        states = "; ".join(f"{part}: {state}" for part, state in ready.parts.items() if state != "ok") or "not ready"
        remedy = "wait if a part is starting; otherwise run `nas doctor` there"
        findings.append(warning("server's parts", states, remedy))
    if urlsplit(client.server).scheme == "http" and not client.on_loopback:
        remedy = "start it with --certificate and --key, or behind a proxy with TLS"
        findings.append(warning("server's TLS", "the token is sent unencrypted", remedy))
    return findings
