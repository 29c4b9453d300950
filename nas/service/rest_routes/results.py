"""Routes of the results of searches."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from nas.service.api import schemas
from nas.service.http.problems import Answers, answers
from nas.service.rest_routes.parameters import MAX_NETWORKS, Offset, OneProfile, RunId, Select
from nas.service.service import Service
from nas.service.views.networks import NetworkQuery, networks_csv

_TABLE = {"schema": {"type": "string"}, "example": "number,key,accuracy,accuracy error\n0,1-0-2-x,0.967,0.008\n"}
_CSV: Answers = {200: {"description": "A table.", "content": {"text/csv": _TABLE}}}
Status = Annotated[
    schemas.NetworkStatus | None,
    Query(description="Networks of this status; without it, all that have a value of every metric."),
]
Limits = Annotated[
    str | None,
    Query(max_length=500, description="Limits that the networks satisfy.", examples=["latency_ms<=1.0, accuracy>=0.9"]),
]
Sort = Annotated[
    str | None,
    Query(max_length=120, description="A metric to sort by, or `test`: the test accuracy.", examples=["latency_ms"]),
]
Descending = Annotated[bool, Query(description="The largest, or the last, first.")]


def routes(service: Service) -> APIRouter:
    """All routes of results."""
    router = APIRouter(tags=["results"])

    @router.get("/runs/{run}/front", responses=answers(404, 409))
    def run_front(run: RunId, profile: OneProfile = None, select: Select = None) -> schemas.Front:
        """The measured Pareto front, the cheapest network first."""
        return service.results.front(run, profile=profile, select=select)

    @router.get("/runs/{run}/front.csv", response_class=Response, responses={**_CSV, **answers(404, 409)})
    def run_front_csv(run: RunId, profile: OneProfile = None, select: Select = None) -> Response:
        """The front as a table."""
        members = service.results.front(run, profile=profile, select=select).members
        return _table(f"{run}-front.csv", members, service.results.scored(run))

    @router.get("/runs/{run}/evaluations", response_model=schemas.NetworksPage, responses=answers(404, 409))
    def run_evaluations(
        run: RunId,
        offset: Offset = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_NETWORKS, description="How many at most.")] = 1000,
        status: Status = None,
        select: Limits = None,
        sort: Sort = None,
        descending: Descending = False,
    ) -> Response:
        """Evaluated networks, in the order in which they were evaluated or by a metric."""
        query = NetworkQuery(status, select, sort, descending)
        return _json(service.results.evaluations(run, query, offset=offset, limit=limit))

    @router.get("/runs/{run}/evaluations.csv", response_class=Response, responses={**_CSV, **answers(404, 409)})
    def run_evaluations_csv(
        run: RunId, status: Status = None, select: Limits = None, sort: Sort = None, descending: Descending = False
    ) -> Response:
        """All evaluated networks as a table."""
        page = service.results.evaluations(run, NetworkQuery(status, select, sort, descending), limit=10**9)
        return _table(f"{run}-evaluations.csv", page.networks, service.results.scored(run))

    @router.get("/runs/{run}/predicted", response_model=schemas.NetworksPage, responses=answers(404, 409))
    def run_predicted(
        run: RunId, limit: Annotated[int, Query(ge=1, le=MAX_NETWORKS, description="How many at most.")] = 2000
    ) -> Response:
        """Networks that the last predictors predicted and that were not measured."""
        return _json(service.results.predicted(run, limit=limit))

    @router.get("/runs/{run}/training", responses=answers(404))
    def run_training(run: RunId) -> schemas.Training:
        """Losses and scores of the largest and the smallest network, by epoch of the run's training."""
        return service.results.training(run)

    @router.get("/runs/{run}/predictors", responses=answers(404, 409))
    def run_predictors(run: RunId) -> tuple[schemas.PredictorInfo, ...]:
        """How well each objective is predicted, by cross-validation."""
        return service.results.predictors(run)

    @router.get("/runs/{run}/steps", responses=answers(404, 409))
    def run_steps(
        run: RunId,
        offset: Offset = 0,
        limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 1000,
    ) -> schemas.SearchSteps:
        """How each step chose its networks: candidates bred, proposed and measured, and the models with their weights."""
        return service.results.steps(run, offset=offset, limit=limit)

    @router.get("/runs/{run}/convergence", responses=answers(404, 409))
    def run_convergence(run: RunId) -> tuple[schemas.CurvePoint, ...]:
        """(evaluations, hypervolume) over the search."""
        return service.results.convergence(run)

    @router.get("/runs/{run}/pick", responses=answers(404, 409))
    def pick_network(
        run: RunId,
        select: Annotated[
            str, Query(max_length=500, description="Limits that it must satisfy.", examples=["latency_ms<=1.0"])
        ],
        profile: OneProfile = None,
    ) -> schemas.Network:
        """The measured network within limits that is best by the task's metric, such as the accuracy."""
        return service.results.pick(run, select, profile=profile)

    @router.get("/compare", responses=answers(404, 409))
    def compare_runs(
        run: Annotated[
            list[str],
            Query(
                min_length=1, max_length=16, description="Runs to compare.", examples=[["digits-cnn-1", "digits-cnn-2"]]
            ),
        ],
    ) -> schemas.Comparison:
        """Searches compared in their common objectives, from one reference point."""
        return service.results.compare(run)

    return router


def _json(page: schemas.NetworksPage) -> Response:
    # Serialized here: the framework would validate thousands of networks once more.
    return Response(page.model_dump_json(), media_type="application/json")


def _table(name: str, networks: tuple[schemas.Network, ...], scored: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(networks_csv(networks, scored=scored), media_type="text/csv", headers=headers)
