"""Parameters of several routes, with their descriptions."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request

RunId = Annotated[
    str, Path(alias="run", description="A run's id, e.g. `digits-cnn-1`.", examples=["digits-cnn-1"], max_length=200)
]
ProfileName = Annotated[
    str, Path(alias="profile", description="A hardware profile's name.", examples=["cpu-1-thread"], max_length=200)
]
Select = Annotated[
    str | None,
    Query(
        max_length=500,
        description="Limits in place of the job's constraints.",
        examples=["latency_ms<=1.0, accuracy>=0.9"],
    ),
]
OneProfile = Annotated[
    str | None, Query(max_length=80, description="Of this hardware profile alone.", examples=["cpu-1-thread"])
]
Offset = Annotated[int, Query(ge=0, le=10**9, description="How many to skip.")]
MAX_NETWORKS = 10_000


def client_name(request: Request) -> str:
    """The name of a request's token; "" where it has none."""
    return str(getattr(request.state, "token", ""))
