"""Which supernet a job file is of, as models (no torch)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from nas.config.errors import problem, restated
from nas.config.section import Flag, Section
from nas.config.sharing import SharingConfig
from nas.config.space import (
    CNNSpaceConfig,
    EncoderSpaceConfig,
    ResNetSpaceConfig,
    Spec,
    ViTEncoderSpaceConfig,
    ViTSpaceConfig,
)
from nas.errors import UnknownNameError
from supernets.errors import SpaceError
from supernets.families.encoder_spec import LayersSpec
from supernets.families.presets import PRESETS
from supernets.families.vit_spec import ViTSpec

_Space = CNNSpaceConfig | ResNetSpaceConfig | ViTSpaceConfig | EncoderSpaceConfig | ViTEncoderSpaceConfig
_SPACES: dict[str, type[_Space]] = {
    "mobile-cnn": CNNSpaceConfig,
    "resnet": ResNetSpaceConfig,
    "vit": ViTSpaceConfig,
    "encoder": EncoderSpaceConfig,
    "vit-encoder": ViTEncoderSpaceConfig,
}
"""The model of a space by the name of the family."""
_PLAIN = "slice"
_OF_PRETRAINED = ("encoder", "vit-encoder")
"""Families that are made of pretrained networks: a BERT, a ViT."""
_SCHEMES = ("package:", "hub:")
"""What names of pretrained networks that are no paths begin with, as `supernets.pretrained` has them."""


class SupernetConfig(Section):
    """The supernet: a family with a preset and/or a space, a trained one to start from (`from`), or one that is made of a
    pretrained network (`pretrained`), whose space is then within that."""

    family: Literal["mobile-cnn", "resnet", "vit", "encoder", "vit-encoder"] = "mobile-cnn"
    preset: Annotated[str | None, Field(strict=True, max_length=64, description="the name of a preset, e.g. tiny")] = (
        None
    )
    space: _Space | None = None
    nested: Flag = False
    sharing: Annotated[SharingConfig | None, Field(description="slice, or a mapping with mixture, kernels or both")] = (
        None
    )
    """None with `from` alone: as the trained supernet shares."""
    from_: Annotated[
        str | None,
        Field(strict=True, alias="from", min_length=1, pattern=r"^[^\x00]+$", description="a run's id or a folder"),
    ] = None

    network: Annotated[
        str | None,
        Field(strict=True, pattern=r"^[0-9x]+(-[0-9x]+)*\z", description="the key of a network, as nas show prints it"),
    ] = None
    """The one of the trained supernet's networks that is trained further, alone."""
    pretrained: Annotated[
        str | None,
        Field(
            strict=True,
            min_length=1,
            max_length=1000,
            pattern=r"^[^\x00]+$",
            description="the folder of a pretrained BERT or ViT, package:NAME or hub:OWNER/NAME",
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Sharing is plain where nothing says otherwise, and has a word for it."""
        if not isinstance(data, dict) or (data.get("sharing") is None and data.get("from") is not None):
            return data
        return {**data, "sharing": {} if data.get("sharing") in (None, _PLAIN) else data["sharing"]}

    @field_serializer("sharing", mode="wrap")
    def _sharing_written(self, value: SharingConfig | None, written: SerializerFunctionWrapHandler) -> object:
        return _PLAIN if value == SharingConfig() else written(value)

    @field_validator("space", mode="before")
    @classmethod
    def _check_space(cls, value: object, info: ValidationInfo) -> _Space | None:
        """The space as the family has it; which one that is, the field's type does not tell."""
        if value is None or "family" not in info.data:
            return None
        model = _SPACES[info.data["family"]]
        try:
            return model.model_validate(value)
        except ValidationError as error:
            raise restated(error, model) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.network is not None and self.from_ is None:
            raise problem("network", "is one of a trained supernet's: name that in from")
        if self.network is not None and (self.preset is not None or self.space is not None or self.nested):
            raise problem("network", "is a space of its own; remove preset, space and nested")
        presets = PRESETS[self.family]
        if self.preset is not None and self.preset not in presets:
            raise problem("preset", str(UnknownNameError("preset", self.preset, presets)))
        if self.preset is None and self.space is None and self.from_ is None and self.pretrained is None:
            raise problem("", f"expected a preset ({', '.join(presets)}), a space, or from (a trained run); got none")
        if self.pretrained is not None and self.family not in _OF_PRETRAINED:
            raise problem(
                "pretrained",
                f"the families {' and '.join(_OF_PRETRAINED)} are made of pretrained networks, got {self.family}; remove one",
            )
        if self.pretrained is not None and self.from_ is not None:
            raise problem("pretrained", "a trained supernet is not made anew; remove pretrained or from")
        if self.pretrained is not None and self.preset is None:
            return self  # the space is within the pretrained network's, whose sizes its folder tells
        try:
            spec = self.spec()
        except SpaceError as error:
            key, _, text = str(error).partition(": ")
            raise problem(f"space.{key}", text) from None
        if spec is not None and spec.single:
            key = "space" if isinstance(spec, ViTSpec | LayersSpec) else "space.stages"
            raise problem(key, "every list has one option, so there is one network; give some list a second")
        return self

    def spec(self, within: Spec | None = None) -> Spec | None:
        """The space: the preset, with the keys of `space` in place of its own; None where only `from` is given.

        With `from` and a space, the trained supernet's space must be this one.

        Args:
            within: the space of the pretrained network, in place of a preset that is not given.
        """
        preset = within if self.preset is None else PRESETS[self.family][self.preset]
        return preset if self.space is None else self.space.spec(preset)

    @property
    def trains(self) -> bool:
        """Whether a job of it trains: it names no trained supernet, or one of whose networks is trained further."""
        return self.from_ is None or self.network is not None

    @property
    def pretrained_path(self) -> Path | None:
        """`pretrained` where it is the path of a folder, else None."""
        return None if self.pretrained is None or self.pretrained.startswith(_SCHEMES) else Path(self.pretrained)

    @property
    def from_path(self) -> Path | None:
        """`from` where it is a path (it has a slash), else None: then it is a run's id."""
        return Path(self.from_) if self.from_ is not None and "/" in self.from_ else None
