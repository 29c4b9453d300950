"""The space of a job file's supernet, as one model for each family (no torch)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from nas.config.errors import problem
from nas.config.section import Flag, Section
from supernets.errors import SpaceError
from supernets.families.encoder_spec import EncoderSpec, ViTEncoderSpec
from supernets.families.resnet_spec import BottleneckStage, ResNetSpec
from supernets.families.spec import Activation, CNNSpec, StageSpec
from supernets.families.vit_spec import ViTSpec, divided_head_size

Spec = CNNSpec | ResNetSpec | ViTSpec | EncoderSpec | ViTEncoderSpec
"""A space as its family takes it."""

# Every field of plain values has a description that completes "expected ...": it is what errors say.
_Options = Annotated[
    tuple[Annotated[int, Field(strict=True)], ...],
    Field(min_length=1, description="a list of whole numbers in ascending order, e.g. [8, 16, 24]"),
]
_OptionsOrNone = Annotated[
    _Options | None, Field(description="a list of whole numbers in ascending order, e.g. [2, 4]")
]
_Ratios = Annotated[tuple[Annotated[float, Field(strict=True)], ...], Field(min_length=1)]
_Channels = Annotated[int | None, Field(strict=True, description="a number of channels")]
_Pixels = Annotated[int | None, Field(strict=True, description="a number of pixels")]
_Stride = Annotated[int, Field(strict=True, description="a whole number such as 1 or 2")]
_RESOLUTION = "a list of numbers of pixels in ascending order, e.g. [20, 28], or none for images as they are"


def _read_resolution(value: object) -> object:
    """Without any option where a job says that there is no such choice, be it by `none` or by null."""
    if value == []:
        raise problem("", f"expected {_RESOLUTION}, got []")
    return () if value in (None, "none") else value


def _write_resolution(value: tuple[int, ...] | None) -> object:
    return "none" if value == () else value


_Resolution = Annotated[
    tuple[Annotated[int, Field(strict=True)], ...] | None,
    BeforeValidator(_read_resolution),
    PlainSerializer(_write_resolution),
    Field(description=_RESOLUTION),
]
"""Empty: no choice of resolutions, whatever the preset has; None: nothing was written."""


class _Stage(Section):
    """One stage of a convolutional family's space."""

    stride: _Stride
    depth: _Options
    width: _Options

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            self.spec()
        except SpaceError as error:
            key, _, text = str(error).partition(": ")
            raise problem(key, text) from None
        return self

    @abstractmethod
    def spec(self) -> StageSpec | BottleneckStage:
        """The stage as the family takes it."""


class StageConfig(_Stage):
    """One stage of the family mobile-cnn; see `StageSpec`."""

    kernel: _Options
    expand: _Options
    squeeze: Flag = False
    activation: Activation = "relu"

    def spec(self) -> StageSpec:
        return StageSpec(self.stride, self.depth, self.width, self.kernel, self.expand, self.squeeze, self.activation)


class BottleneckStageConfig(_Stage):
    """One stage of the family resnet; see `BottleneckStage`."""

    expand: Annotated[_Ratios, Field(description="a list of numbers in ascending order, e.g. [0.2, 0.25, 0.35]")]

    def spec(self) -> BottleneckStage:
        return BottleneckStage(self.stride, self.depth, self.width, self.expand)


class CNNSpaceConfig(Section):
    """A space of the family mobile-cnn spelled out, or (beside a preset) the keys that replace the preset's."""

    stem: _Channels = None
    stem_stride: _Stride | None = None
    stages: Annotated[
        tuple[StageConfig, ...] | None,
        Field(description="a list of stages, each with stride, depth, width, kernel and expand"),
    ] = None
    head: _Channels = None
    activation: Activation | None = None
    mix: Annotated[int | None, Field(strict=True, description="a number of channels, or 0 for no such layer")] = None
    resolution: _Resolution = None

    def spec(self, base: Spec | None = None) -> CNNSpec:
        """The space as the family takes it: this one's keys, and `base`'s where they are not given; the last three may be
        given by neither.

        Raises:
            SpaceError: a key is given by neither, or a number is out of range; the text begins with the key.
        """
        stages = None if self.stages is None else tuple(stage.spec() for stage in self.stages)
        given = {"stem": self.stem, "stem_stride": self.stem_stride, "stages": stages, "head": self.head}
        chosen = {"activation": self.activation, "mix": self.mix, "resolution": self.resolution}
        optional = {key: value for key, value in _merged(chosen, base).items() if value not in (None, 0, ())}
        return CNNSpec(**_completed(given, base), **optional)


class ResNetSpaceConfig(Section):
    """A space of the family resnet spelled out, or (beside a preset) the keys that replace the preset's; see `ResNetSpec`."""

    stem: _OptionsOrNone = None
    stem_stride: _Stride | None = None
    stem_pool: Annotated[bool | None, Field(strict=True, description="true or false")] = None
    stages: Annotated[
        tuple[BottleneckStageConfig, ...] | None,
        Field(description="a list of stages, each with stride, depth, width and expand"),
    ] = None
    resolution: _Resolution = None

    def spec(self, base: Spec | None = None) -> ResNetSpec:
        """The space as the family takes it: this one's keys, and `base`'s where they are not given; `stem_pool` and
        `resolution` may be given by neither.

        Raises:
            SpaceError: another key is given by neither, a number is out of range, or a resolution is not divided by the
                strides; the text begins with the key.
        """
        stages = None if self.stages is None else tuple(stage.spec() for stage in self.stages)
        given = {"stem": self.stem, "stem_stride": self.stem_stride, "stages": stages}
        chosen = {"stem_pool": self.stem_pool, "resolution": self.resolution}
        optional = {key: value for key, value in _merged(chosen, base).items() if value not in (None, ())}
        return ResNetSpec(**_completed(given, base), **optional)


class ViTSpaceConfig(Section):
    """A space of the family vit spelled out, or (beside a preset) the keys that replace the preset's; see `ViTSpec`."""

    patch: _Pixels = None
    head_size: _Channels = None
    depth: _OptionsOrNone = None
    width: _OptionsOrNone = None
    heads: _OptionsOrNone = None
    mlp: Annotated[_Ratios | None, Field(description="a list of numbers in ascending order, e.g. [2, 3.5, 4]")] = None

    def spec(self, base: Spec | None = None) -> ViTSpec:
        """The space as the family takes it: this one's keys, and `base`'s where they are not given.

        A head size that neither gives is the largest width divided among the most heads.

        Raises:
            SpaceError: another key is given by neither, or a number is out of range, or the heads do not divide the width;
                the text begins with the key.
        """
        given = {name: getattr(self, name) for name in ("patch", "depth", "width", "heads", "mlp")}
        head_size = self.head_size if self.head_size is not None else getattr(base, "head_size", None)
        # First with any head size: what is wrong with the lists themselves comes first.
        spec = ViTSpec(**_completed(given, base), head_size=1 if head_size is None else head_size)
        return (
            spec
            if head_size is not None
            else replace(spec, head_size=divided_head_size(spec.width[-1], spec.heads[-1]))
        )


class _LayersSpaceConfig(Section):
    """What the spaces of both encoders have in common; see `LayersSpec`."""

    head_size: _Channels = None
    depth: _OptionsOrNone = None
    width: _OptionsOrNone = None
    heads: _OptionsOrNone = None
    hidden: _OptionsOrNone = None
    kept: Literal["first", "spread"] | None = None

    def _given(self, base: Spec | None) -> dict[str, Any]:
        """This one's keys, and `base`'s where they are not given.

        Raises:
            SpaceError: a key is given by neither.
        """
        sizes = {name: getattr(self, name) for name in type(self).model_fields if name != "kept"}
        return {**_completed(sizes, base), "kept": self.kept or getattr(base, "kept", "first")}


class EncoderSpaceConfig(_LayersSpaceConfig):
    """A space of the family encoder spelled out, or (beside a preset) the keys that replace the preset's; see `EncoderSpec`."""

    def spec(self, base: Spec | None = None) -> EncoderSpec:
        """The space as the family takes it: this one's keys, and `base`'s where they are not given.

        Raises:
            SpaceError: a key is given by neither, or a number is out of range; the text begins with the key.
        """
        return EncoderSpec(**self._given(base))


class ViTEncoderSpaceConfig(_LayersSpaceConfig):
    """A space of the family vit-encoder spelled out, or (beside a preset) the keys that replace the preset's; see
    `ViTEncoderSpec`."""

    patch: _Pixels = None

    def spec(self, base: Spec | None = None) -> ViTEncoderSpec:
        """The space as the family takes it: this one's keys, and `base`'s where they are not given.

        Raises:
            SpaceError: a key is given by neither, or a number is out of range; the text begins with the key.
        """
        return ViTEncoderSpec(**self._given(base))


def _merged(given: dict[str, Any], base: Spec | None) -> dict[str, Any]:
    """The values given, and `base`'s in place of None."""
    return {key: getattr(base, key, None) if value is None else value for key, value in given.items()}


def _completed(given: dict[str, Any], base: Spec | None) -> dict[str, Any]:
    """`_merged`, without any None.

    Raises:
        SpaceError: one is given by neither.
    """
    values = _merged(given, base)
    for key, value in values.items():
        if value is None:
            raise SpaceError(f"{key}: is missing; give it, or a preset to take it from")
    return values
