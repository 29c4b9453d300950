"""The routes of the pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from typing import Annotated, Any, get_args
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Query, Request
from markupsafe import Markup
from starlette.responses import FileResponse, JSONResponse, Response

from nas.engine.formatting import title_of, title_on_test
from nas.engine.predictions import Predictions
from nas.errors import JobError, NasError, StoreError, UnknownNameError
from nas.results.analysis.search_steps import shown_steps
from nas.results.export.format_names import FORMATS, ONNX, FormatName
from nas.results.plots.prediction_pictures import images_html, note_on
from nas.search.problem.objectives import Goal, Objective
from nas.service.api import schemas
from nas.service.api.error_codes import DESCRIPTIONS, PROBLEMS
from nas.service.audit import AuditLog
from nas.service.ownership import Thing, ThingKind
from nas.service.pages import assets, rendering
from nas.service.pages.api_reference import operations
from nas.service.pages.chart_json import chart_data, comparison_data, prediction_data, training_figures
from nas.service.pages.network_filters import ranges_of, selection_of
from nas.service.people import current_caller
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import Priority
from nas.service.views import jobs
from nas.service.views.networks import TEST, NetworkQuery, counts
from supernets.data.recognition import KINDS

_PAGE_SIZE = 50
"""Runs, or evaluations, on one page."""
_OVERVIEWS_S = 1.0
"""For the best values and fronts of a list's runs: that of 10,000 evaluations takes a second, once. The page asks again."""
_COLUMNS = {
    "data": "Data",
    "submitter": "Submitted by",
    "started": "Started",
    "status": "Status",
    "evaluations": "Evaluations",
    "accuracy": "Best accuracy",
    "latency_ms": "Best latency",
    "front": "Front",
}
"""Columns of the list of runs, beside the run's name, in their order."""
_USUAL_COLUMNS = ("data", "status", "accuracy", "latency_ms", "front")
_MEMBERS = 15
"""Members of a front on one page."""
_COMPARED = 100
"""Runs to choose from for a comparison: the newest."""
_TASKS = 100
"""Tasks on the page of stored things: the newest."""
_OLD_DAYS = 7
"""Runs that are deleted within so many days are listed."""
_AUDIT_ENTRIES = 100
"""Entries of the audit log on one page."""
_LARGE = 1000
"""Evaluations from which reading a run takes longer than a browser needs to load the scripts."""
_EXPERTS = "experts.svg"
Sort = Annotated[str, Query(max_length=120)]
Offset = Annotated[int, Query(ge=0, le=10**6)]


_Page = Callable[..., Response]
"""`rendering.page` of one server."""


def router(service: Service, settings: ServiceSettings, audit: AuditLog) -> APIRouter:
    """All pages of a service, with their styles and scripts; access to them is checked by the application."""
    pages = APIRouter(include_in_schema=False)
    shared: dict[str, Any] = {"signs_in": settings.needs_token, "allowed": partial(_is_allowed, service)}
    page, page_in_parts = partial(rendering.page, **shared), partial(rendering.page_in_parts, **shared)
    _add_list(pages, page, service)
    _add_run(pages, page, page_in_parts, service, settings)
    _add_evaluations(pages, page, service)
    _add_comparison(pages, page, service)
    _add_hardware_and_submission(pages, page, service, settings)
    _add_storage(pages, page, service, settings)
    _add_queue(pages, page, service)
    _add_audit(pages, page, audit)
    _add_help(pages, page, settings)
    return pages


def _add_list(pages: APIRouter, page: _Page, service: Service) -> None:
    @pages.get("/")
    def runs(
        status: str = "",
        kind: str = "",
        name: str = "",
        tag: str = "",
        data: str = "",
        submitter: str = "",
        accuracy_percent: str = "",
        latency_ms: str = "",
        columns: Annotated[list[str] | None, Query(max_length=20)] = None,
        sort: schemas.RunOrder | None = None,
        descending: bool = False,
        offset: Offset = 0,
    ) -> Response:
        """All runs, the newest first or sorted by a column."""
        names = {"status": status, "kind": kind, "name": name, "tag": tag, "data": data, "submitter": submitter}
        limits = {"accuracy_percent": accuracy_percent, "latency_ms": latency_ms}
        order = {"sort": sort, "descending": descending, "offset": offset, "limit": _PAGE_SIZE}
        query, problem = schemas.RunsQuery.model_validate(order), ""
        try:
            accuracy, latency = _number("accuracy", accuracy_percent), _number("latency", latency_ms)
            bounds = {"min_accuracy": None if accuracy is None else accuracy / 100, "max_latency_ms": latency}
            query = query.model_copy(update={key: value or None for key, value in names.items()} | bounds)
        except NasError as error:  # shown below the form, which keeps the filter
            problem = str(error)
        runs_page = service.runs.page(query)
        return page(
            "runs.html",
            runs_page=runs_page,
            overviews=service.runs.overviews(runs_page.runs, within_s=_OVERVIEWS_S),
            filters={key: value for key, value in {**names, **limits}.items() if value},
            problem=problem,
            columns=[column for column in _COLUMNS if column in (columns or _USUAL_COLUMNS)],
            chosen_columns=columns or (),
            all_columns=_COLUMNS,
            order={} if sort is None else {"sort": sort} | ({"descending": "1"} if descending else {}),
            limit=_PAGE_SIZE,
            statuses=list(get_args(schemas.RunStatusName)),
            choices=service.runs.filter_choices(),
        )


def _number(noun: str, text: str) -> float | None:
    """The number in a field of the filter; None for an empty one."""
    try:
        return float(text) if text.strip() else None
    except ValueError:
        message = f"the best {noun}: expected a number, got {text[:40]!r}; all runs are shown"
        raise NasError(message, code="request.invalid") from None


def _is_allowed(service: Service, kind: str, name: str) -> bool:
    """True if the sender of the present request may change a thing."""
    return service.owners.may_change(current_caller(), Thing(ThingKind(kind), name))


def _add_run(pages: APIRouter, page: _Page, page_in_parts: _Page, service: Service, settings: ServiceSettings) -> None:
    @pages.get("/runs/{run}")
    def run(run: str, sort: Sort = "", descending: bool = False, offset: Offset = 0) -> Response:
        """One run; of a large one, the head is sent before the results are read, so that the browser can load the scripts.

        Args:
            sort, descending, offset: of the table of the front's members.
        """
        summary = service.runs.readable(run)
        parameters = {"sort": sort, "descending": descending, "offset": offset}
        has_results, later = _has_results(summary), partial(_results, service, settings, run, parameters)
        if has_results and summary.evaluations >= _LARGE:
            return page_in_parts(
                "run.html",
                run=summary,
                has_results=has_results,
                parameters=parameters,
                later=later,
            )
        results = later()
        return page("run.html", run=summary, has_results=has_results, parameters=parameters, later=lambda: results)

    @pages.get("/runs/{run}/networks.json")
    def networks(run: str) -> Response:
        """The data of the run's charts."""
        return JSONResponse(chart_data(service.results.report(run)), headers={"Cache-Control": "no-store"})

    @pages.get("/runs/{run}/insight.json")
    def insight(run: str) -> Response:
        """The importance of the space's genes, and the diversity of the front."""
        return JSONResponse(service.results.genes(run), headers={"Cache-Control": "no-store"})

    @pages.get("/runs/{run}/predictions.json")
    def predictions(run: str, network: Annotated[str, Query(max_length=2000)]) -> Response:
        """The pictures and charts of a network's predictions; of those of the run that have some, see `prediction_data`."""
        data = prediction_data(_kept_predictions(settings, run), service.results.report(run), network)
        return JSONResponse(data, headers={"Cache-Control": "no-store"})

    @pages.get("/runs/{run}/predictions/{image}.jpg")
    def predicted_image(run: str, image: int) -> Response:
        """One of the images that predictions are shown for."""
        images = _kept_predictions(settings, run).images
        if not 0 <= image < len(images):
            raise UnknownNameError("file", f"{image}.jpg", [], where=run)
        return Response(images[image], media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    @pages.get(f"/runs/{{run}}/{_EXPERTS}")
    def experts(run: str) -> Response:
        """The experts of a network, as ``nas plot RUN --experts`` last drew them into the run's folder."""
        picture = settings.runs.get(run).plots / _EXPERTS
        if not picture.is_file():
            raise UnknownNameError("file", _EXPERTS, [], where=run, hint=f"`nas plot {run} --experts` draws it.")
        return FileResponse(picture, media_type="image/svg+xml", headers={"Cache-Control": "no-store"})


def _add_evaluations(pages: APIRouter, page: _Page, service: Service) -> None:
    @pages.get("/runs/{run}/evaluations")
    def evaluations(
        request: Request,
        run: str,
        status: schemas.NetworkStatus = "all",
        sort: Sort = "",
        descending: str = "",
        offset: Offset = 0,
    ) -> Response:
        """All evaluated networks of a search, those that failed included, by status and ranges of values."""
        report = service.results.report(run)
        ranges, problem = ranges_of(request.query_params, report.columns), ""
        parameters = {"status": status, **ranges, "sort": sort, "descending": bool(descending), "offset": offset}
        networks_page = schemas.NetworksPage(run=run, total=0, offset=0, networks=())
        select = None
        try:
            select = selection_of(ranges, report.columns)
            chosen = NetworkQuery(status, select, sort or None, bool(descending))
            networks_page = service.results.evaluations(run, chosen, offset=offset, limit=_PAGE_SIZE)
        except NasError as error:  # shown below the form, which keeps the filter
            problem = str(error)
        csv = {"status": status, "select": select, "sort": sort, "descending": bool(descending)}
        return page(
            "evaluations.html",
            run=service.runs.summary(run),
            report=report,
            parameters=parameters,
            networks_page=networks_page,
            problem=problem,
            size=_PAGE_SIZE,
            counts=counts(report),
            sorts={
                "": "Order of evaluation",
                **{m.name: title_of(m) for m in report.columns},
                TEST: title_on_test(report.scored),
            },
            csv=f"/api/v1/runs/{quote(run)}/evaluations.csv{rendering.query(csv)}",
        )


def _add_comparison(pages: APIRouter, page: _Page, service: Service) -> None:
    @pages.get("/compare")
    def compare(runs: Annotated[list[str] | None, Query(max_length=20)] = None) -> Response:
        """Searches side by side, and the trainings of all chosen runs."""
        chosen = list(dict.fromkeys(runs or ()))
        comparison, problem = None, ""
        differences: tuple[schemas.JobDifference, ...] = service.results.job_differences(chosen)
        try:
            chosen_searches = [run for run in chosen if service.runs.readable(run).kind == "search"]
            comparison = service.results.compare(chosen_searches) if len(chosen_searches) > 1 else None
        except NasError as error:  # shown above the form, which keeps the selection
            problem = str(error)
        trainings = service.results.trainings(chosen) if len(chosen) > 1 else {}
        metrics = [] if comparison is None else [_objective(o) for o in comparison.objectives]
        return page(
            "compare.html",
            chosen=chosen,
            runs=service.runs.page(schemas.RunsQuery(limit=_COMPARED)).runs,
            trainings=training_figures(trainings),
            comparison=comparison,
            problem=problem,
            differences=differences,
            metrics=metrics,
            data=None if comparison is None else comparison_data(comparison, metrics),
        )


def _add_hardware_and_submission(pages: APIRouter, page: _Page, service: Service, settings: ServiceSettings) -> None:
    max_bytes = settings.limits.upload_bytes

    @pages.get("/submit")
    def submit(recipe: str = "", data: str = "", model: str = "", run: str = "") -> Response:
        """A form for a job, filled with a recipe, or with the job of a run to submit it again with changes.

        Args:
            data, model: An uploaded data set and an uploaded model that the recipe is filled in with.
        """
        recipes = service.recipes.list()
        origin = service.runs.readable_detail(run) if run else None
        chosen = None
        if origin is None:
            chosen = service.recipes.get(recipe or recipes[0].name, data=data, model=model)
        return page(
            "submit.html",
            recipes=recipes,
            chosen=chosen,
            origin=origin,
            job=origin.job if origin is not None else chosen.job if chosen is not None else "",
            profiles=service.hardware.list(),
            max_bytes=max_bytes,
            plugins=jobs.plugins(settings.allowed_plugins),
            names=jobs.names(),
            data_sets=service.data_sets.list(),
            models=service.models.list(),
            selected={"data": data, "model": model},
            kinds=KINDS,
        )

    @pages.get("/hardware")
    def hardware() -> Response:
        """All hardware profiles."""
        return page("hardware.html", profiles=service.hardware.list())

    @pages.get("/hardware/{name}")
    def profile(name: str) -> Response:
        """One profile with its noise and drift."""
        hardware_profile = service.hardware.get(name)
        drift = [drift.model_dump(mode="json") for drift in hardware_profile.drift]
        return page("profile.html", profile=hardware_profile, data=drift, max_bytes=max_bytes)


def _add_storage(pages: APIRouter, page: _Page, service: Service, settings: ServiceSettings) -> None:
    @pages.get("/storage")
    def storage() -> Response:
        """The page of what clients have stored, with buttons that delete it, and of the tasks."""
        tasks = service.tasks.all()
        return page(
            "storage.html",
            data_sets=service.data_sets.list(),
            models=service.models.list(),
            profiles=[profile for profile in service.hardware.list() if not profile.shipped],
            tasks=tasks[:_TASKS],
            more_tasks=len(tasks) > _TASKS,
            limits=settings.limits,
            retention=service.retention,
            old_runs=service.retention.next_runs(_OLD_DAYS),
        )


def _add_queue(pages: APIRouter, page: _Page, service: Service) -> None:
    @pages.get("/queue")
    def run_queue() -> Response:
        """The runs that run and wait, with expected starts; administrators change their order."""
        queue = service.runs.queue()
        return page("queue.html", queue=queue, n_waiting=len(queue.waiting), priorities=list(map(str, Priority)))


def _add_audit(pages: APIRouter, page: _Page, audit: AuditLog) -> None:
    @pages.get("/audit")
    def audit_log(who: str = "", action: str = "", thing: str = "", outcome: str = "", offset: Offset = 0) -> Response:
        """The audit log; for administrators."""
        filters: dict[str, Any] = {"who": who.strip(), "action": action.strip(), "thing": thing.strip()}
        filters |= {"outcome": outcome} if outcome else {}
        query = schemas.AuditQuery.model_construct(**filters, offset=offset, limit=_AUDIT_ENTRIES)
        return page(
            "audit.html",
            audit_page=audit.page(query),
            filters={key: value for key, value in filters.items() if value},
            outcomes=list(get_args(schemas.AuditOutcome)),
            limit=_AUDIT_ENTRIES,
        )


def _add_help(pages: APIRouter, page: _Page, settings: ServiceSettings) -> None:
    provider = None if settings.sign_on is None else urlsplit(settings.sign_on.issuer).hostname

    @pages.get(PROBLEMS)
    def problems() -> Response:
        """All error codes with their meanings: what the ``type`` of a problem refers to."""
        return page(
            "problems.html", groups=groupby(sorted(DESCRIPTIONS.items()), lambda item: item[0].partition(".")[0])
        )

    @pages.get("/docs")
    def docs(request: Request) -> Response:
        """The operations of the REST API."""
        described = request.app.openapi()
        return page(
            "docs.html", groups=operations(described), address=str(request.base_url).rstrip("/") + settings.root_path
        )

    @pages.get("/login")
    def login(next: str = "/", refused: bool = False) -> Response:
        """The form for a token, and the link to single sign-on."""
        return page("login.html", next=next, refused=refused, provider=provider)

    @pages.get(f"/static/{assets.PLOTLY}")
    def plotly() -> Response:
        return assets.plotly_file()

    @pages.get("/static/{digest}/{name}")
    def static(digest: str, name: str) -> Response:
        return assets.package_file(digest, name)


def _has_results(run: schemas.RunSummary) -> bool:
    """True if the run is a search that has measured something."""
    return run.kind == "search" and run.evaluations > 0


def _results(service: Service, settings: ServiceSettings, run: str, parameters: Mapping[str, Any]) -> dict[str, object]:
    """The values that a run's page shows beside its status.

    Args:
        parameters: ``sort``, ``descending`` and ``offset`` of the table of the front's members.
    """
    detail = service.runs.readable_detail(run)
    report = service.results.report(run) if _has_results(detail) and detail.objectives else None
    query = NetworkQuery("front", None, parameters["sort"] or None, parameters["descending"])
    return {
        "members": service.results.evaluations(run, query, offset=parameters["offset"], limit=_MEMBERS)
        if report
        else None,
        "members_size": _MEMBERS,
        "run": detail,
        "report": report,
        "predictors": service.results.predictors(run) if report else (),
        "steps": shown_steps(report.steps) if report else (),
        "exports": service.exports.list(run),
        "artifacts": service.artifacts.list(run),
        "finetuned": service.runs.finetuned(run, report),
        "profiles": service.hardware.list(),
        "predictions": _predictions_part(settings, run) if report else None,
        "experts": (settings.runs.get(run).plots / _EXPERTS).is_file(),
        "images": report is not None and _takes_images(service, run),
        "formats": _formats(service, run) if report else {},
    }


def _kept_predictions(settings: ServiceSettings, run: str) -> Predictions:
    """The predictions that a run keeps.

    Raises:
        UnknownNameError: There is no such run, or it keeps none.
        StoreError: Their file is damaged.
    """
    file = settings.runs.get(run).predictions_file
    predictions = Predictions.read(file)
    if predictions is None:
        raise UnknownNameError("file", file.name, [], where=run)
    return predictions


def _predictions_part(settings: ServiceSettings, run: str) -> dict[str, object] | None:
    """What the page of a run has of its predictions before a network is chosen; None without any."""
    try:
        predictions = _kept_predictions(settings, run)
    except UnknownNameError:
        return None
    except StoreError:
        return {"images": "", "note": "", "is_damaged": True}
    addresses = [f"/runs/{quote(run)}/predictions/{i}.jpg" for i in range(len(predictions.images))]
    images = Markup(images_html(predictions, addresses))
    return {"images": images, "note": note_on(predictions), "is_damaged": False}


def _formats(service: Service, run: str) -> Mapping[FormatName, str]:
    try:
        return service.exports.formats(run)
    except JobError:  # as for `_takes_images`
        return {ONNX: FORMATS[ONNX]}


def _takes_images(service: Service, run: str) -> bool:
    try:
        return service.exports.takes_images(run)
    except JobError:  # the page of a run with a damaged job file shows the rest
        return False


def _objective(info: schemas.ObjectiveInfo) -> Objective:
    return Objective(info.name, info.unit, Goal(info.goal))
