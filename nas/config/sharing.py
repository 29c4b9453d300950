"""The sharing section of a job file's supernet (no torch)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nas.config.section import Flag, Section, whole
from supernets.sharing.spec import MixtureSpec, SharingSpec


class MixtureConfig(Section):
    """A mixture of supernets; see `MixtureSpec`."""

    experts: int = whole(2, 64, default=2)
    routing: Literal["layer", "neuron"] = "layer"
    hidden: int = whole(1, 4096, default=64)
    constant_input: Flag = False
    layers: Annotated[
        tuple[Annotated[str, Field(strict=True, min_length=1, max_length=1000)], ...],
        Field(description="a list of patterns of modules' names, e.g. [blocks.*.mlp.*]"),
    ] = ()


class SharingConfig(Section):
    """What is done to stored weights before they are sliced; see `SharingSpec`."""

    mixture: MixtureConfig | None = None
    kernels: Literal["centre", "transform"] = "centre"

    def spec(self) -> SharingSpec:
        """The sharing as supernets take it."""
        mixture = None if self.mixture is None else MixtureSpec(**self.mixture.model_dump())
        return SharingSpec(mixture, self.kernels)
