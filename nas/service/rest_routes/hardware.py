"""Routes of hardware profiles, measurements on them, recipes, uploaded data sets and models."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Path, Query, Request, Response, UploadFile

from nas.errors import JobError
from nas.service.api import schemas
from nas.service.http.concurrency_limit import ConcurrencyLimit
from nas.service.http.metrics import PREFIX
from nas.service.http.problems import answers
from nas.service.rest_routes.parameters import ProfileName
from nas.service.service import Service
from nas.service.uploads.content_check import OPTIONS
from nas.service.views import jobs
from supernets.data.recognition import KINDS

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
"""Names of what is uploaded."""

MeasurementId = Annotated[
    str, Path(alias="measurement", description="A measurement's id.", examples=["0f3a5c7e"], max_length=200)
]
RecipeName = Annotated[
    str, Path(alias="recipe", description="A recipe's name.", examples=["digits-cnn"], max_length=200)
]


def routes(service: Service, parsing: ConcurrencyLimit, unpacking: ConcurrencyLimit) -> APIRouter:
    """All routes of what jobs refer to.

    Args:
        parsing: Limit of the profiles that are parsed at once.
        unpacking: Limit of the uploaded files that are checked and stored at once.
    """
    router = APIRouter()

    @router.get("/profiles", tags=["hardware"], responses=answers())
    def list_profiles() -> tuple[schemas.Profile, ...]:
        """List the hardware profiles: those of the catalog, then those that were added."""
        return service.hardware.list()

    @router.post("/profiles", status_code=201, tags=["hardware"], responses=answers(409, 413))
    async def add_profile(request: Request, response: Response, upload: schemas.ProfileUpload) -> schemas.Profile:
        """Add a hardware profile of your own; jobs name it like those of the catalog."""
        profile = await parsing.run(request, lambda: service.hardware.add(upload))
        response.headers["Location"] = f"{PREFIX}/profiles/{profile.name}"
        return profile

    @router.get("/profiles/{profile}", tags=["hardware"], responses=answers(404))
    def show_profile(profile: ProfileName) -> schemas.Profile:
        """Show a profile, with the noise and the drift of its measurements by run."""
        return service.hardware.get(profile)

    @router.delete("/profiles/{profile}", status_code=204, tags=["hardware"], responses=answers(404, 409))
    def delete_profile(profile: ProfileName) -> None:
        """Delete a profile that was added."""
        service.hardware.delete(profile)

    @router.post(
        "/profiles/{profile}/measurements", status_code=202, tags=["hardware"], responses=answers(404, 409, 413)
    )
    async def measure_model(
        request: Request,
        response: Response,
        profile: ProfileName,
        model: Annotated[UploadFile, File(description="An ONNX model in one file.")],
    ) -> schemas.ModelMeasurement:
        """Measure the latency of an ONNX model on a profile."""
        measurement = await unpacking.run(request, lambda: service.hardware.measure(profile, model.file))
        response.headers["Location"] = f"{PREFIX}/profiles/{quote(profile)}/measurements/{measurement.measurement}"
        return measurement

    @router.get("/profiles/{profile}/measurements/{measurement}", tags=["hardware"], responses=answers(404))
    def show_measurement(profile: ProfileName, measurement: MeasurementId) -> schemas.ModelMeasurement:
        """Show the status of a measurement, and its result."""
        return service.hardware.measurement(profile, measurement)

    @router.delete(
        "/profiles/{profile}/measurements/{measurement}",
        status_code=204,
        tags=["hardware"],
        responses=answers(404, 409),
    )
    def delete_measurement(profile: ProfileName, measurement: MeasurementId) -> None:
        """Delete a measurement that has ended."""
        service.hardware.delete_measurement(profile, measurement)

    @router.get("/recipes", tags=["recipes"], responses=answers())
    def list_recipes() -> tuple[schemas.Recipe, ...]:
        """List the built-in jobs."""
        return service.recipes.list()

    @router.get("/recipes/{recipe}", tags=["recipes"], responses=answers(404))
    def show_recipe(
        recipe: RecipeName,
        data: Annotated[str, Query(description="An uploaded data set that the job shall name.", max_length=64)] = "",
        model: Annotated[str, Query(description="An uploaded model that the job shall name.", max_length=64)] = "",
    ) -> schemas.Recipe:
        """Show a built-in job with its text, filled in for an uploaded data set and an uploaded model."""
        return service.recipes.get(recipe, data=data, model=model)

    @router.get("/plugins", tags=["recipes"], responses=answers())
    def list_plugins() -> tuple[schemas.Plugin, ...]:
        """List the plug-ins that jobs may name: registered ones, and classes that the server allows."""
        return jobs.plugins(service.settings.allowed_plugins)

    @router.get("/data", tags=["data"], responses=answers())
    def list_data() -> tuple[schemas.DataSet, ...]:
        """List the uploaded data sets, by name."""
        return service.data_sets.list()

    @router.delete("/data/{name}", status_code=204, tags=["data"], responses=answers(404, 409))
    def delete_data(
        name: Annotated[str, Path(description="A data set's name.", examples=["flowers"], max_length=200)],
    ) -> None:
        """Delete an uploaded data set; ended runs that used it can no longer be resumed or exported."""
        service.data_sets.delete(name)

    @router.post("/data", status_code=201, tags=["data"], responses=answers(409, 413))
    async def add_data(
        request: Request,
        response: Response,
        name: Annotated[str, Form(max_length=64, pattern=NAME, examples=["flowers"])],
        archive: Annotated[
            UploadFile,
            File(
                description="A zip archive of images with one folder a class, of images and the table of their labels, or of "
                "text files; or a single table or text file."
            ),
        ],
        kind: Annotated[
            Literal["", *KINDS],  # type: ignore[valid-type]  # made from the names
            Form(description="The data set's name in jobs; without, it is recognised."),
        ] = "",
        task: Annotated[
            Literal["", "classification", "regression", "multi-label"],
            Form(description="How a table's labels are read; without, it is recognised."),
        ] = "",
        options: Annotated[
            str,
            Form(
                description=f"A JSON object with keys of a job's data section: {', '.join(OPTIONS)}.",
                max_length=4000,
                examples=['{"text_column": "review"}'],
            ),
        ] = "",
    ) -> schemas.DataUpload:
        """Upload a data set; it is read and divided as a job does it before it is stored."""
        filename = archive.filename or ""
        chosen = _mapping(options)
        data_set = await unpacking.run(
            request,
            lambda: service.data_sets.add(name, archive.file, filename, kind=kind, task=task, options=chosen),
        )
        response.headers["Location"] = f"{PREFIX}/data/{name}"
        return data_set

    @router.get("/models", tags=["data"], responses=answers())
    def list_models() -> tuple[schemas.CapturedModel, ...]:
        """List the captured models and pretrained networks, by name."""
        return service.models.list()

    @router.delete("/models/{name}", status_code=204, tags=["data"], responses=answers(404, 409))
    def delete_model(
        name: Annotated[str, Path(description="A model's name.", examples=["resnet18"], max_length=200)],
    ) -> None:
        """Delete a captured model, of which runs that have begun keep a copy, or a pretrained network."""
        service.models.delete(name)

    @router.post("/models", status_code=201, tags=["data"], responses=answers(409, 413))
    async def add_model(
        request: Request,
        response: Response,
        name: Annotated[str, Form(max_length=64, pattern=NAME, examples=["resnet18"])],
        model: Annotated[
            UploadFile,
            File(
                description="The file of a captured model; a zip archive of a pretrained network's folder, with config.json "
                "and safetensors; or a GGUF file: data without code."
            ),
        ],
    ) -> schemas.CapturedModel:
        """Upload a model; jobs name a captured one as supernet.model: models/NAME, a pretrained one as supernet.pretrained."""
        model_info = await unpacking.run(request, lambda: service.models.add(name, model.file))
        response.headers["Location"] = f"{PREFIX}/models/{name}"
        return model_info

    return router


def _mapping(options: str) -> dict[str, Any]:
    """The options in the JSON of a form's field; raises `JobError` for anything else."""
    try:
        mapping = json.loads(options or "{}")
    except (ValueError, RecursionError):
        mapping = None
    if not isinstance(mapping, dict):
        text = f'expected a JSON object such as {{"text_column": "review"}}, got {options[:80]!r}'
        raise JobError(f"options: {text}", code="data.invalid-option", fields=[("options", text)])
    return mapping
