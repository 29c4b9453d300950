"""The `space` section of a job file, derived from the spec of each family (no torch)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, create_model, model_validator

from nas.jobs.schema.errors import problem, show
from nas.jobs.schema.section import Section
from supernets.errors import DimensionError
from supernets.families.shared.spec import (
    Dimension,
    Flag,
    Kind,
    Number,
    Options,
    Order,
    Ratios,
    Spec,
    Stages,
    Vocabularies,
    Word,
    dimensions,
)

_WITHOUT: tuple[object, ...] = (0, ())
"""Values of the models that say that the networks are without an optional dimension."""


class SpaceConfig(Section):
    """A space of a family spelled out, or (beside a preset) the keys that replace the preset's; see `space_config`."""

    spec_type: ClassVar[type[Spec]]

    def spec(self, base: Spec | None = None) -> Spec:
        """The space as the family takes it: the keys that are given, and those of `base` in place of the others; raises
        `DimensionError` if a key is given by neither, or its value makes no network."""
        values = {} if base is None else dict(vars(base))
        for dimension in dimensions(self.spec_type):
            value = getattr(self, dimension.name)
            if value is None:
                continue
            if isinstance(dimension.kind, Stages):
                value = tuple(stage.spec() for stage in value)
            values[dimension.name] = None if dimension.optional and value in _WITHOUT else value
        return self.spec_type.from_values(values)


class _StageConfig(SpaceConfig):
    """A stage of a space, which has no preset to take keys from."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            self.spec()
        except DimensionError as error:
            raise problem(error.dimension, error.text) from None
        return self


class PluginSpaceConfig(Section):
    """The space of a plug-in's family as a job writes it: its keys are checked when the family is loaded."""

    model_config = ConfigDict(extra="allow")


_MODELS: dict[type[Spec], type[SpaceConfig]] = {}


def space_config(spec: type[Spec]) -> type[SpaceConfig]:
    """The model of the section for a family's spec: one optional key for each of its dimensions."""
    if spec not in _MODELS:
        _MODELS[spec] = _family_space(spec)
    return _MODELS[spec]


def _family_space(spec: type[Spec]) -> type[SpaceConfig]:
    return _model(spec, SpaceConfig, {d.name: (_annotation(d, required=False), None) for d in dimensions(spec)})


def _model(spec: type[Spec], base: type[SpaceConfig], fields: dict[str, Any]) -> type[SpaceConfig]:
    model = create_model(f"{spec.__name__}Config", __base__=base, **fields)
    model.spec_type = spec
    return model


def _annotation(dimension: Dimension, *, required: bool) -> Any:
    """The type of a dimension's key; with None for a key that is not `required`."""
    kind = dimension.kind
    off = dimension.optional and isinstance(kind, Options)
    value = _value_type(kind, min_length=0 if off else 1)
    # The description completes "expected ...": it is what errors say.
    described: Any = Annotated[value if required else value | None, Field(description=kind.expected)]
    if not off:
        return described

    def read_options(written: object) -> object:
        if written == []:
            raise problem("", f"expected {kind.expected}, got []")
        return () if written in (None, "none") else written

    serializer = PlainSerializer(lambda options: "none" if options == () else options)
    return Annotated[described, BeforeValidator(read_options), serializer]


def _read_vocabularies(written: object) -> object:
    """A list of what a job has; a number alone is one option."""
    values = written if isinstance(written, list | tuple) else (written,)
    for value in values:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (0 < value <= 1 or (value >= 2 and float(value).is_integer())):
            raise problem("", f"expected {Vocabularies.expected}, got {show(value)}")
    return values


def _value_type(kind: Kind, *, min_length: int = 1) -> Any:
    match kind:
        case Number():
            return Annotated[int, Field(strict=True)]
        case Vocabularies():
            number = Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True)]
            return Annotated[tuple[number, ...], Field(min_length=min_length), BeforeValidator(_read_vocabularies)]
        case Ratios():
            return Annotated[tuple[Annotated[float, Field(strict=True)], ...], Field(min_length=min_length)]
        case Order():
            return tuple[Annotated[int, Field(strict=True)], ...]
        case Options():
            return Annotated[tuple[Annotated[int, Field(strict=True)], ...], Field(min_length=min_length)]
        case Flag():
            return Annotated[bool, Field(strict=True)]
        case Word(words):
            return Literal[words]
        case Stages(spec):
            fields = {
                d.name: (_annotation(d, required=True), ... if d.required else d.default) for d in dimensions(spec)
            }
            return tuple[_model(spec, _StageConfig, fields), ...]  # type: ignore[misc]  # made just now
        case _:
            raise TypeError(f"no key of a job file is made of {kind!r}")
