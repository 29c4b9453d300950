"""The JSON models of what a server stores: hardware profiles, data sets and models."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from nas.service.api.schemas.common import Schema


class Drift(Schema):
    """The noise of a profile's measurements in one run: its sentinel's level and A/A difference."""

    run: str
    time: datetime
    level_ms: float | None
    noise: float | None  # The A/A difference of two equal sentinels, relative


class Profile(Schema):
    """A hardware profile."""

    name: str
    threads: int
    batch_size: int
    provider: str
    runtime: str = "onnxruntime"
    placement: dict[str, float]
    ssh: str
    description: str
    shipped: bool  # False for one that was added here
    owner: str = ""  # As that of a data set
    unavailable: str = ""  # Why nothing can be measured on it now; "" where that is possible, or not known
    drift: tuple[Drift, ...] = ()  # By run, oldest first; empty in lists


class ProfileUpload(Schema):
    """A hardware profile to add, as its YAML file."""

    profile: str = Field(max_length=10_000)


class DataUpload(Schema):
    """An uploaded data set, and how a job file names it."""

    name: str
    path: str  # For ``data: {name: KIND, path: …}``
    images: int  # 0 for data of another kind
    classes: tuple[str, ...]  # Or labels; empty where there are none
    kind: str = "image-folder"  # For ``data: {name: …}``
    task: str = "classification"  # For ``task: …``
    options: dict[str, str | bool] = Field(default={})  # Further keys of the job's data section
    examples: int = 0
    noun: str = "image"  # The word for an example
    checked: str = ""  # What of it was read when it was uploaded


class DataSet(DataUpload):
    """A data set that the server stores."""

    bytes: int
    uploaded: datetime
    short_side: float | None = None  # The median of its images' short sides, in pixels
    owner: str = ""  # The name of the token that uploaded it; "" for none, which is the administrators'


class CapturedModel(Schema):
    """A captured model or a pretrained network that the server stores, and how a job file names it."""

    name: str
    path: str  # For ``supernet: {model: …}``, or ``supernet: {pretrained: …}``
    bytes: int
    uploaded: datetime
    kind: Literal["captured", "pretrained"] = "captured"
    family: str = ""  # Of a pretrained network, for ``supernet: {family: …}``
    parameters: int | None = None  # Of a pretrained network
    owner: str = ""  # As that of a data set
