"""The JSON schema of job files, by which editors complete and check them (no torch)."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema

from hardware_profiles.catalog import known_profiles
from nas.jobs.schema.data import PATHS
from nas.jobs.schema.search_job import SearchJob
from nas.jobs.schema.space import space_config
from nas.search.problem.objectives import known_objectives
from supernets.families.registry import FAMILIES
from supernets.families.shared.spec import Options, Spec, Stages, Vocabularies, dimensions

SCHEMA_FILE = "job.schema.json"
"""The name that the modelines of the recipes refer to."""
SCHEMA_TITLE = "Job file of subnet-nas"
_DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest that all editors read; `$defs` of later ones is a plain path to them."""
_PLUGIN = {"type": "string", "pattern": r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"}
_OPEN = (
    ("DataConfig", "name"),
    ("SupernetConfig", "family"),
    ("TrainingConfig", "strategy"),
    ("SearchConfig", "algorithm"),
    ("SearchConfig", "predictor"),
    ("MetricConfig", "name"),
)
"""The keys that also take `module:Class`."""
_PATH = {"type": "string", "pattern": r"/|\.ya?ml$"}
_METRIC = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*(@.+)?$"}


class _Generator(GenerateJsonSchema):
    """Without the titles that repeat the keys, and the defaults that say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        field_schema = super().default_schema(schema)
        if field_schema.get("default", ...) in (None, {}, []):
            field_schema.pop("default", None)
        return field_schema


def job_schema() -> dict[str, Any]:
    """The schema of job files: every job that is read satisfies it, but contradictions between keys are found only by reading.

    The names are those of this installation.
    """
    spaces = {name: space_config(family.spec) for name, family in FAMILIES.items()}
    models: Sequence[type[BaseModel]] = [SearchJob, *spaces.values()]
    refs, document = models_json_schema([(model, "validation") for model in models], schema_generator=_Generator)
    definitions = document["$defs"]
    for model in _models(SearchJob):
        _describe(definitions[model.__name__]["properties"], model)
    for name, space in spaces.items():
        _allow_none(definitions, refs[space, "validation"], FAMILIES[name].spec)
    _open_names(definitions)
    _accept_short_forms(definitions)
    _depend_on_family(definitions["SupernetConfig"], {n: refs[m, "validation"] for n, m in spaces.items()})
    del definitions["SpaceConfig"], definitions["PluginSpaceConfig"]
    job = definitions.pop(SearchJob.__name__)
    schema: dict[str, Any] = _portable({"$schema": _DIALECT, **job, "title": SCHEMA_TITLE, "$defs": definitions})
    return schema


def job_schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(job_schema(), indent=2) + "\n"


def field_notes(model: type[BaseModel]) -> dict[str, str]:
    """The purposes of a section's keys by the names of its fields: the texts below them in its class."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    notes: dict[str, str] = {}
    name = ""
    for statement in getattr(node, "body", ()):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        elif name and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            notes[name] = " ".join(str(statement.value.value).split())
            name = ""
    return notes


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections of a section, and itself."""
    if not inspect.isclass(annotation) or not issubclass(annotation, BaseModel):
        for part in get_args(annotation):
            yield from _models(part)
        return
    if annotation.model_fields:
        yield annotation
    for field in annotation.model_fields.values():
        yield from _models(field.annotation)


def _describe(properties: dict[str, Any], model: type[BaseModel]) -> None:
    """Puts what a key is for before what its value may be."""
    notes = field_notes(model)
    for name, field in model.model_fields.items():
        parts = [notes.get(name, ""), _expected(field)]
        if text := " ".join(filter(None, parts)):
            properties[field.alias or name]["description"] = text


def _expected(field: FieldInfo) -> str:
    return f"Expected: {field.description}." if field.description else ""


def _allow_none(definitions: dict[str, Any], ref: Mapping[str, str], spec: type[Spec]) -> None:
    """Lets a space's optional dimensions be `none`."""
    properties = definitions[ref["$ref"].rpartition("/")[2]]["properties"]
    for dimension in dimensions(spec):
        key_schema = properties[dimension.name]
        if dimension.optional and isinstance(dimension.kind, Options):
            key_schema["anyOf"] = [*key_schema["anyOf"], {"enum": ["none", 0]}]
            if isinstance(dimension.kind, Vocabularies):
                key_schema["anyOf"].append(key_schema["anyOf"][0]["items"])
        if isinstance(dimension.kind, Stages):
            stages = key_schema.get("anyOf", [key_schema])[0]["items"]
            _allow_none(definitions, stages, dimension.kind.spec)


def _open_names(definitions: dict[str, Any]) -> None:
    """Lists the known names, of which some keys take others, too."""
    for model, key in _OPEN:
        key_schema = definitions[model]["properties"][key]
        if "enum" not in key_schema:  # an optional name, beside null
            key_schema = key_schema["anyOf"][0]
        names = key_schema.pop("enum")
        key_schema["anyOf"] = [*([{"enum": names}] if names else []), _PLUGIN]
        del key_schema["type"]
    job = definitions[SearchJob.__name__]["properties"]
    profiles = [profile.name for profile in known_profiles()]
    profile_name = {"type": "string", "pattern": job["name"]["pattern"]}
    job["hardware"]["items"] = {"anyOf": [{"enum": profiles}, _PATH, profile_name]}
    metrics = {"anyOf": [{"enum": sorted({name.partition("@")[0] for name in known_objectives(profiles)})}, _METRIC]}
    job["objectives"]["items"] = metrics
    job["constraints"]["propertyNames"] = metrics
    runtimes = job["runtimes"]["anyOf"][0]
    runtimes["items"] = {"anyOf": [{"enum": runtimes["items"]["enum"]}, _PLUGIN]}
    for key_schema in (runtimes, *(job[key] for key in ("hardware", "objectives", "precisions", "warm_start"))):
        key_schema["uniqueItems"] = True


def _accept_short_forms(definitions: dict[str, Any]) -> None:
    """Allows what the validators of the models read beside the types of their fields, and no more than they do."""
    definitions["SupernetConfig"]["properties"]["sharing"]["anyOf"].append({"const": "slice"})
    distill = definitions["TrainingConfig"]["properties"]["distill"]
    distill["enum"] += [True, False]  # as in job files of the first version
    del distill["type"]
    metrics = definitions[SearchJob.__name__]["properties"]["metrics"]
    name = definitions["MetricConfig"]["properties"]["name"]
    metrics["additionalProperties"] = {"anyOf": [metrics["additionalProperties"], {"anyOf": name["anyOf"]}]}
    metrics["propertyNames"] = {"pattern": "^[a-z][a-z0-9_]{0,39}$"}
    parts = [
        {"type": "integer", "minimum": 2, "maximum": 10**9},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    ]
    for part in ("validation", "test"):
        definitions["DataConfig"]["properties"][part]["anyOf"] = [*parts, {"type": "null"}]
    definitions["BoundsConfig"]["minProperties"] = 1
    with_files = {"properties": {"name": {"enum": list(PATHS)}}}
    definitions["DataConfig"]["allOf"] = [{"if": with_files, "then": {"required": ["path"]}}]


def _depend_on_family(supernet: dict[str, Any], spaces: Mapping[str, Mapping[str, str]]) -> None:
    """Makes the presets and the space those of the family; a family of a plug-in has its own, which are not known here."""
    properties = supernet["properties"]
    properties["space"]["anyOf"] = [{"type": "object"}, {"type": "null"}]
    default = properties["family"]["default"]
    supernet["allOf"] = [
        {
            # Without `required`, the condition is true where the key is missing.
            "if": {"properties": {"family": {"const": name}}, **({} if name == default else {"required": ["family"]})},
            "then": {
                "properties": {
                    "preset": {"enum": [*family.presets, None]},
                    "space": {"anyOf": [dict(spaces[name]), {"type": "null"}]},
                }
            },
        }
        for name, family in FAMILIES.items()
    ]
    supernet["anyOf"] = [{"required": [key]} for key in ("preset", "space", "from", "pretrained", "model")]


def _portable(schema: Any) -> Any:
    """The schema with the ends of patterns as JavaScript writes them."""
    if isinstance(schema, dict):
        return {
            key: value.replace(r"\z", "$") if key == "pattern" and isinstance(value, str) else _portable(value)
            for key, value in schema.items()
        }
    return [_portable(item) for item in schema] if isinstance(schema, list) else schema
