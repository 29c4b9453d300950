"""Typed client of the REST API.

from nas.service.client import NasClient
with NasClient("http://127.0.0.1:8700") as client:
    run = client.submit(Path("job.yaml").read_text()).run
    for summary in client.watch(run):
        print(summary.status, summary.evaluations)
"""

from nas.service.client.client import NasClient
from nas.service.client.errors import RefusedError, UnreachableError

__all__ = ["NasClient", "RefusedError", "UnreachableError"]
